"""What the sentiment judge is asked: recent interactions, one candidate, one later item; and how its answer is read.

Source: LettinGo (arXiv 2506.18309) sections 3.1 and 3.2.2: the predictor sees the raw recent interactions, the profile
and the item, and answers exactly like, neutral or dislike. The wording is not published; ours is in ``prompts/``::

    {"n":1,"title":"Glass River","categories":["Thriller"],"sentiment":"liked"}
    {"profile":"Likes thrillers."}
    {"next":"item","title":"Night of the Crow","categories":["Horror","Crime"]}

All three are data: titles and profile are cleaned and capped, and no user id or rating is among them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from lettingo_features.alignment.sentiment import CLASSES, UNPARSABLE
from lettingo_features.generation.engine import content_id
from lettingo_features.generation.untrusted import clean
from lettingo_features.profiles.history import HISTORY, ROW, ROWS
from lettingo_features.profiles.lettingo_prompt import DELIMITERS, ROWS_VERSION, LettinGoPrompt, item_fields

PROMPT_VERSION = "sentiment-1"
"""Template file in ``alignment/prompts``; raise it with any change to what this module renders."""
INSTRUCTION = (files("lettingo_features.alignment") / "prompts" / f"{PROMPT_VERSION}.txt").read_text("utf-8").strip()
"""Of the judge's engine."""
JSON_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"sentiment": {"type": "string", "enum": list(CLASSES)}},
        "required": ["sentiment"],
        "additionalProperties": False,
    }
)
"""Of the judge's engine: with it, nothing but the three answers can be decoded. An object, since servers of the OpenAI
kind take no bare string."""
ANSWERS = tuple(f'{{"sentiment":"{name}"}}' for name in CLASSES)
"""The three answers as text, in the order of `CLASSES`."""
PROFILE_CHARS = 4_000
"""Cap of a profile, three times the longest that our prompts allow."""
PROMPT_ID = content_id("sentiment_prompt", PROMPT_VERSION, ROWS_VERSION, INSTRUCTION, JSON_SCHEMA, str(PROFILE_CHARS))
"""sha256 of all that this module adds to the data."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    sentiment: str


def recent_only(histories: pa.Table) -> pa.Table:
    """``histories`` (schema `history.HISTORY`) with the rows of the recent segment alone; who has none drops out."""
    lists = histories.combine_chunks()[ROWS].combine_chunks()
    rows, parents = lists.flatten(), pc.list_parent_indices(lists)
    recent = pc.equal(rows.field("segment"), "recent")
    counts = np.bincount(parents.filter(recent).to_numpy(), minlength=len(lists))
    offsets = pa.array(np.r_[0, counts.cumsum()], pa.int32())
    shown = pa.ListArray.from_arrays(offsets, rows.filter(recent).cast(ROW))
    return histories.set_column(HISTORY.get_field_index(ROWS), ROWS, shown).filter(pa.array(counts > 0))


def history_lines(recent: pa.Table) -> list[str]:
    """The first lines of each user's prompts, from `recent_only` rows."""
    return LettinGoPrompt().render(recent)


def item_line(title: str | None, categories: Sequence[str] | None) -> str:
    """The last line: the later item, as the catalogue has it.

    >>> item_line("Heat (1995)", ["Crime"])
    '{"next":"item","title":"Heat (1995)","categories":["Crime"]}'
    """
    return f'{{"next":"item"{item_fields(title or "", tuple(categories or ()))}}}'


def profile_line(text: str) -> str:
    """The line of a candidate: on one line, without the characters that delimit JSON.

    >>> profile_line('Likes "noir"\\n- {and} more')
    '{"profile":"Likes \\'noir\\' - (and) more"}'
    """
    shown = clean(text, PROFILE_CHARS).translate(DELIMITERS)
    return json.dumps({"profile": shown}, ensure_ascii=False, separators=(",", ":"))


def parse(text: str) -> int:
    """Index into `CLASSES` of an answer, or `UNPARSABLE`: anything but one of the three objects.

    >>> parse('{"sentiment": "dislike"}'), parse('{"sentiment":"Like"}'), parse("like")
    (2, -1, -1)
    """
    try:
        answer = _Answer.model_validate_json(text).sentiment
    except (ValidationError, ValueError):
        return UNPARSABLE
    return CLASSES.index(answer) if answer in CLASSES else UNPARSABLE
