"""What every engine is asked and answers: prompts in, completions out as they finish.

An engine runs one model with one frame round the data (instruction, chat template), one schema and one way of sampling;
`identity` is the hash of all of it. A *call* is one prompt to one engine, and `call_key` names it: equal keys, equal
calls, so an answer that is known is never paid for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from lettingo_features.config import Config

VERSION = "1"
"""Part of every identity: raise it with any change to the answers that neither model nor settings show."""


class EngineConfig(Config):
    """What every engine is told; each has its own besides."""

    model: str
    """Local directory of a model as save_pretrained writes it, or a hub id where the network and the user allow it; of
    a server, the name it serves."""
    max_new_tokens: int = Field(default=96, ge=1)
    """An answer that has not ended by then is unfinished."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the likeliest token; 1 samples from the model as it is."""
    instruction: str = ""
    """Trusted text before the data of each user turn; a model that was trained on the bare data needs none."""
    json_schema: str | None = None
    """JSON schema (as text) that every answer must obey; decoding is constrained to it wherever the engine can."""
    price_in: float = Field(default=0.0, ge=0.0)
    """USD per million tokens read."""
    price_out: float = Field(default=0.0, ge=0.0)
    """USD per million tokens generated."""

    def user_turn(self, data: str) -> str:
        """The instruction, an empty line, the data."""
        return f"{self.instruction}\n\n{data}" if self.instruction else data

    def cost(self, n_prompt_tokens: int, n_tokens: int) -> float:
        """USD for one call."""
        return (n_prompt_tokens * self.price_in + n_tokens * self.price_out) / 1_000_000

    def identity(self, engine: str, *parts: str) -> str:
        """sha256 of what shapes an answer: the kind of engine, what all engines are told, and ``parts``."""
        sampling = repr((self.temperature, self.max_new_tokens))
        return content_id(engine, VERSION, self.instruction, self.json_schema or "", sampling, *parts)


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
        "unfinished" (cut at the limit), "repeating", "refused" (a content filter), "invalid" (not of the schema). Or
        "given_up" (failed in all its attempts: see `runner.RunnerConfig.max_attempts`). The caller falls back; the same
        call would only be answered the same.
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
        An engine that is told to stop (KeyboardInterrupt, SystemExit) may yield what it has before it raises that.
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


def diagnose(text: str, units: Sequence[Hashable], *, finished: bool, schema: str | None) -> str:
    """Why an answered text cannot be used (see `Completion.problem`), or "".

    ``units`` are its tokens, or its words where the tokens are not known. An answer that obeys a schema repeats the
    names of its fields, so loops are not looked for there: the schema's own limits end them.
    """
    if not text:
        return "empty"
    if schema is None and repeats(units):
        return "repeating"
    return "" if finished else "unfinished"


def repeats(units: Sequence[Hashable], width: int = 6, times: int = 3) -> bool:
    """Whether some ``width`` units in a row occur ``times`` times: the loop that small models fall into.

    >>> repeats([1, 2, 3] * 9), repeats(range(40))
    (True, False)
    """
    seen: dict[tuple[Hashable, ...], int] = {}
    for start in range(len(units) - width + 1):
        gram = tuple(units[start : start + width])
        seen[gram] = seen.get(gram, 0) + 1
    return max(seen.values(), default=0) >= times
