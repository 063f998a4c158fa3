"""Preference pairs as the token ids that the engine will see: the same frame, the same tokens, nothing cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as pa_json

from lettingo_features.errors import ConfigError, DataError
from lettingo_features.generation.engine import EngineConfig
from lettingo_features.generation.frame import Frame

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
_ANSWER = "\ue000ANSWER\ue000"  # where the answer stands in the rendered chat template


@dataclass(frozen=True)
class TokenPairs:
    """N preference pairs as token ids.

    Parameters
    ----------
    prompt, chosen, rejected
        Ids of each; a completion holds its end mark.
    """

    prompt: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]

    def __len__(self) -> int:
        return len(self.prompt)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N, 3) int64: tokens of prompt, chosen and rejected."""
        parts = (self.prompt, self.chosen, self.rejected)
        return np.stack([np.fromiter(map(len, part), np.int64, len(part)) for part in parts], axis=1)

    @cached_property
    def keys(self) -> list[bytes]:
        """sha256 of each pair's token ids."""
        return [
            hashlib.sha256(repr(pair).encode()).digest()
            for pair in zip(self.prompt, self.chosen, self.rejected, strict=True)
        ]

    def check_lengths(self, max_length: int) -> None:
        """Nothing may be cut.

        Raises
        ------
        ConfigError
            A prompt with one of its completions exceeds ``max_length`` tokens.
        """
        whole = self.lengths[:, 0] + self.lengths[:, 1:].max(axis=1)
        too_long = np.flatnonzero(whole > max_length)
        if too_long.size:
            longest = int(whole.argmax())
            raise ConfigError(
                f"{too_long.size:,} of {len(self):,} pairs exceed max_length = {max_length}: the longest, on line "
                f"{longest + 1}, has {whole[longest]:,} tokens. Nothing is cut or left out here: raise max_length as "
                "far as the model's positions go, or leave those pairs out when you make them."
            )


def read_pairs(path: Path) -> pa.Table:
    """Read conversational JSON lines; keys besides prompt, chosen and rejected are ignored.

    Returns
    -------
    pa.Table
        prompt, chosen, rejected: string, one row per line.

    Raises
    ------
    DataError
        The file is missing, empty or no JSON lines; a turn is missing, empty or of another role; chosen is rejected.
    """
    parsing = pa_json.ParseOptions(
        explicit_schema=pa.schema([(name, _TURNS) for name in _ROLES]), unexpected_field_behavior="ignore"
    )
    try:
        rows = pa_json.read_json(path, parse_options=parsing)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as JSON lines of preference pairs: {error}") from error
    texts = pa.table({name: _only_turn(rows[name], name, role, path) for name, role in _ROLES.items()})
    same = pc.sum(pc.equal(texts["chosen"], texts["rejected"])).as_py()
    if same:
        raise DataError(f"{same:,} pairs of {path} have one text as chosen and as rejected. Make the pairs again.")
    if not texts.num_rows:
        raise DataError(f"{path} holds no pair: there is nothing to learn.")
    return texts


def _only_turn(turns: pa.ChunkedArray, name: str, role: str, path: Path) -> pa.ChunkedArray:
    single = pc.fill_null(pc.equal(pc.list_value_length(turns), 1), False)
    first = pc.list_element(pc.if_else(single, turns, pa.scalar([{"role": "", "content": ""}], _TURNS)), 0)
    good = pc.and_(pc.equal(pc.struct_field(first, "role"), role), pc.greater(pc.utf8_length(_content(first)), 0))
    bad = np.flatnonzero(~pc.fill_null(good, False).to_numpy())
    if bad.size:
        raise DataError(
            f"'{name}' is not one {role} turn with text in {bad.size:,} of {len(turns):,} lines of {path}, first in "
            f"line {bad[0] + 1}. Pairs of several turns, or as plain text, are not read."
        )
    return _content(first)


def _content(turn: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.struct_field(turn, "content")


class Tokens:
    """Turns conversations into the token ids that the engine gives the model and reads from it.

    Parameters
    ----------
    tokenizer
        Of the model, as transformers loads it.
    model
        Its name, for messages.
    instruction
        Trusted text at the start of every user turn.
    context
        Positions of the model.
    """

    def __init__(self, tokenizer: Any, model: str, instruction: str, context: int) -> None:
        self._frame = Frame(tokenizer, EngineConfig(model=model, instruction=instruction, max_new_tokens=1), context)
        self._head = f"{instruction}\n\n" if instruction else ""
        self.end = _end(tokenizer)

    def pairs(self, rows: pa.Table) -> TokenPairs:
        """Token ids of `read_pairs` rows.

        Raises
        ------
        ConfigError
            A prompt does not start with the instruction.
        """
        return TokenPairs(
            self.prompts(rows["prompt"].to_pylist()),
            self.answers(rows["chosen"].to_pylist()),
            self.answers(rows["rejected"].to_pylist()),
        )

    def prompts(self, turns: Sequence[str]) -> list[list[int]]:
        """Ids of user turns in their frame, up to where the answer starts."""
        unknown = sum(not turn.startswith(self._head) for turn in turns)
        if unknown:
            raise ConfigError(
                f"{unknown:,} of {len(turns):,} prompts do not start with the instruction and an empty line: the model "
                "would learn on other prompts than the engine asks. Write the pairs with the engine's user_turn, or "
                "give the instruction that they were written with."
            )
        data = self._frame.data([turn.removeprefix(self._head) for turn in turns])
        return [[*self._frame.prefix, *ids, *self._frame.suffix] for ids in data]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of answers, each with its end mark."""
        return [[*ids, *self.end] for ids in self._frame.data(texts)]


def _end(tokenizer: Any) -> list[int]:
    """Ids that the chat template puts after an answer; the end-of-text token where it puts none."""
    if not tokenizer.chat_template:
        return [tokenizer.eos_token_id]
    messages = [{"role": "user", "content": "-"}, {"role": "assistant", "content": _ANSWER}]
    _, _, after = tokenizer.apply_chat_template(messages, tokenize=False).partition(_ANSWER)
    return tokenizer(after, add_special_tokens=False)["input_ids"] or [tokenizer.eos_token_id]
