"""What every engine is asked and answers: prompts in, completions out as they finish.

An engine runs one model with one frame round the data (instruction, chat template), one schema and one way of sampling;
`identity` is the hash of all of it. A *call* is one prompt to one engine, and `call_key` names it: equal keys, equal
calls, so an answer that is known is never paid for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of one call.

    Parameters
    ----------
    text
        Without control tokens, stripped.
    n_tokens
        Generated, the end mark included.
    problem
        "" for a text that ended by itself. Else why the text cannot be used, though the model answered: "empty",
        "unfinished" (cut at the limit), "repeating", "refused" (a content filter), "invalid" (not of the schema). The
        caller falls back; the same call would only be answered the same.
    error
        "" for a call that was answered. Else the class of failure: "timeout", "connection", "http_429", "http_500",
        "bad_response". The call may be made again.
    n_prompt_tokens
        Read by the model, frame included.
    seconds
        From asking to the answer; of a call in a batch, the batch's.
    cost
        USD; 0 where the model is our own.
    """

    text: str
    n_tokens: int
    problem: str = ""
    error: str = ""
    n_prompt_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0


class Engine(Protocol):
    """Runs a language model."""

    @property
    def name(self) -> str:
        """Short name of the model for tables and reports."""
        ...

    @property
    def identity(self) -> str:
        """sha256 of all that shapes an answer besides prompt and stream: model revision, adapter, frame, schema,
        sampling."""
        ...

    @property
    def samples(self) -> bool:
        """True if answers depend on the streams (temperature > 0)."""
        ...

    @property
    def prompt_budget(self) -> int:
        """Tokens that the data of one prompt may take."""
        ...

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as data, without the frame."""
        ...

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Answer each prompt: (index into ``prompts``, completion), each index once, as they finish.

        ``streams`` has the seed of each row's random numbers, 0 <= stream < 2**63; greedy generation ignores it. A call
        that fails is a `Completion` with an ``error``; raised is only what stops every call (ModelError, ConfigError).
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; it cannot be used any more."""
        ...


def content_id(*parts: str) -> str:
    """sha256 (hex) over ``parts``; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()


def call_key(engine: Engine, prompt: str, stream: int) -> str:
    """sha256 (hex) that names the call of ``prompt`` to ``engine``; the stream counts only where the engine samples."""
    return content_id(engine.identity, prompt, str(stream) if engine.samples else "")
