"""LettinGo's prompt: a broad request and the history as JSON rows.

The request is trusted text and precedes the data as the engine's instruction; the rows are the data of the user turn::

    {"n":1,"title":"Glass River","categories":["Thriller"],"sentiment":"liked"}
    {"n":2,"title":"Night of the Crow","categories":["Horror","Crime"],"sentiment":"disliked"}

Source: LettinGo (arXiv 2506.18309) section 3.2.1: item attributes and observed sentiment, and the request to write
anything that would help to predict the sentiment toward a new item; no format is prescribed. The paper's wording is not
published; ours is in ``prompts/``. Styles, for a wider exploration, are ours.

Titles and categories are data: cleaned (`generation.untrusted`), capped, without the characters that delimit JSON, so
that a row stays one row for a reader that takes escapes lightly, as language models do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from string import Template
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, SecretStr

from lettingo_features.columns import ITEM_ID
from lettingo_features.config import Config
from lettingo_features.generation.engine import content_id
from lettingo_features.generation.untrusted import clean
from lettingo_features.profiles import structured
from lettingo_features.profiles.generator import ProfileRequest
from lettingo_features.profiles.history import ROW, ROWS
from lettingo_features.profiles.prompt import FittedPrompt

ROWS_VERSION = "json-1"
"""Part of a prompt's identity: raise it with any change to the rows that this module makes."""
TITLE_CHARS, CATEGORY_CHARS, CATEGORIES = 100, 40, 4
"""Caps: characters of a title (the longest of MovieLens has 158, one in a hundred more than 60) and of a category, and
categories of one item."""
_CACHED_ITEMS = 65_536  # popular items recur over users
_CACHED_CHARS = 512  # of raw text, the cache's key: one that is longer is junk, and not kept
DELIMITERS = str.maketrans({'"': "'", "\\": "/", "{": "(", "}": ")"})
"""What delimits JSON, and what stands in its place in a field of text."""
_CLAIMS = "lettingo-claims-1"


class LettinGoPromptConfig(Config):
    """What is asked; how much history is shown is `windows.WindowConfig`'s ``recent_k`` and ``long_k``."""

    version: Literal["lettingo-1", "lettingo-claims-1"] = "lettingo-1"
    """Template file in ``profiles/prompts``: free text, or JSON whose claims name their interactions."""
    style: Literal["free", "narrative", "brief", "bullets", "analyst"] = "free"
    """``free`` prescribes no form, as the paper; the others are for exploring candidates."""
    canary: SecretStr | None = Field(default=None, min_length=8)
    """Secret of this deployment, put into the instruction: a text that holds it is a leak (`leaks.LeakCheck`). Keep it
    for the life of a release: it is part of every call, so that another one makes every call new."""


class LettinGoPrompt:
    """Renders the prompts of one version and style.

    ::

        prompt = LettinGoPrompt(LettinGoPromptConfig(version="lettingo-claims-1"))
        told = TransformersConfig(..., instruction=prompt.instruction, json_schema=prompt.json_schema)
        generator = LanguageModelGenerator(prompt, TransformersEngine(told))
    """

    reads_history = True

    def __init__(self, config: LettinGoPromptConfig | None = None) -> None:
        self.config = config or LettinGoPromptConfig()
        canary = self.config.canary.get_secret_value() if self.config.canary else ""
        style = _styles().get(self.config.style)
        self.instruction = Template(_template(self.config.version)).substitute(
            style=f" {style}" if style else "",
            canary=f" Record {canary}: never write this name." if canary else "",
            max_claims=structured.MAX_CLAIMS,
            claim_chars=structured.CLAIM_CHARS,
            max_support=structured.MAX_SUPPORT,
        )
        self.json_schema = structured.json_schema() if self.config.version == _CLAIMS else None

    @property
    def canary(self) -> str:
        """The secret in the instruction; "" for none."""
        return self.config.canary.get_secret_value() if self.config.canary else ""

    @property
    def identity(self) -> str:
        """sha256 of all that this prompt adds to a history."""
        return content_id("lettingo_prompt", ROWS_VERSION, self.instruction, self.json_schema or "")

    def fitted(
        self, requests: Sequence[ProfileRequest], n_tokens: Callable[[Sequence[str]], Sequence[int]], budget: int
    ) -> list[FittedPrompt]:
        """One prompt per request (see `fit`); ``style`` is this prompt's own, not the request's."""
        if not requests:
            return []
        rows = [request.history for request in requests]
        offsets = np.cumsum([0, *map(len, rows)])
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.concat_arrays(rows).cast(ROW))
        return fit(self.render(pa.table({ROWS: lists})), n_tokens, budget)

    def render(self, histories: pa.RecordBatch | pa.Table) -> list[str]:
        """One prompt per row of ``histories`` (see `history.HISTORY`), newest interaction first, one line each.

        Each distinct item is cleaned once; the lines are put together by Arrow.
        """
        prompts: list[str] = []
        for batch in histories.to_batches() if isinstance(histories, pa.Table) else [histories]:
            lists = batch.column(ROWS)
            rows = lists.flatten()
            n, sentiment = rows.field("n").cast(pa.string()), rows.field("sentiment")
            lines = pc.binary_join_element_wise('{"n":', n, _item_fields(rows), ',"sentiment":"', sentiment, '"}', "")
            offsets = pc.subtract(lists.offsets, lists.offsets[0])  # a sliced batch starts anywhere
            prompts += pc.binary_join(pa.ListArray.from_arrays(offsets, lines), "\n").to_pylist()
        return prompts


def fit(prompts: Sequence[str], n_tokens: Callable[[Sequence[str]], Sequence[int]], budget: int) -> list[FittedPrompt]:
    """Each prompt with as many of its newest rows as ``budget`` tokens hold: the oldest are left out first.

    ``n_tokens`` measures texts in bulk, first all prompts, then only the too long ones: their number of rows is
    halved in on together, about seven measurements for a history of 80.
    """
    lines = {index: prompts[index].split("\n") for index, size in enumerate(n_tokens(prompts)) if size > budget}
    fits = dict.fromkeys(lines, 0)  # so many rows are known to fit ...
    too_many = {index: len(rows) for index, rows in lines.items()}  # ... and so many not to
    while open_ := [index for index in lines if too_many[index] - fits[index] > 1]:
        middles = [(fits[index] + too_many[index]) // 2 for index in open_]
        sizes = n_tokens(["\n".join(lines[i][:middle]) for i, middle in zip(open_, middles, strict=True)])
        for index, middle, size in zip(open_, middles, sizes, strict=True):
            (fits if size <= budget else too_many)[index] = middle
    return [
        FittedPrompt(prompt, prompt.count("\n") + 1, 0)
        if index not in lines
        else FittedPrompt("\n".join(lines[index][: fits[index]]) or None, fits[index], len(lines[index]) - fits[index])
        for index, prompt in enumerate(prompts)
    ]


def item_fields(title: str, categories: tuple[str, ...]) -> str:
    """The part of a row that shows an item: JSON fields that follow another one; what is empty is left out.

    >>> item_fields('The "Best" {of}\\nthem', ("Drama", ""))
    ',"title":"The \\'Best\\' (of) them","categories":["Drama"]'
    """
    categories = categories[:CATEGORIES]
    short = len(title) + sum(map(len, categories)) <= _CACHED_CHARS
    return (_cached_fields if short else _cached_fields.__wrapped__)(title, categories)


@lru_cache(maxsize=_CACHED_ITEMS)
def _cached_fields(title: str, categories: tuple[str, ...]) -> str:
    shown = {
        "title": _field(title, TITLE_CHARS),
        "categories": [name for name in (_field(c, CATEGORY_CHARS) for c in categories) if name],
    }
    return "".join(
        f',"{key}":{json.dumps(value, ensure_ascii=False, separators=(",", ":"))}'
        for key, value in shown.items()
        if value
    )


def _item_fields(rows: pa.StructArray) -> pa.Array:
    """`item_fields` of each row, made once per item."""
    items = rows.field(ITEM_ID).dictionary_encode()
    first = pc.index_in(items.dictionary, rows.field(ITEM_ID))  # any row of an item has its title
    titles, categories = (rows.field(name).take(first).to_pylist() for name in ("title", "categories"))
    made = [item_fields(title, tuple(names)) for title, names in zip(titles, categories, strict=True)]
    return pa.array(made, pa.string()).take(items.indices)


def _field(text: str, max_chars: int) -> str:
    return clean(text, max_chars).translate(DELIMITERS)


def _template(version: str) -> str:
    return (files("lettingo_features.profiles") / "prompts" / f"{version}.txt").read_text("utf-8").strip()


def _styles() -> dict[str, str]:
    """Style -> the sentence that asks for it."""
    return dict(line.split(": ", 1) for line in _template("styles-1").splitlines())
