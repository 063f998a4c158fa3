"""Exploration: many candidates per user from several generators and styles (LettinGo, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from lettingo_features import columns as c
from lettingo_features.alignment.tables import CANDIDATES, PROMPTS
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError, LeakageError
from lettingo_features.generation.engine import content_id
from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuildConfig
from lettingo_features.profiles.due import find_due
from lettingo_features.profiles.generator import STYLES, Generator, ProfileRequest
from lettingo_features.profiles.language_model import LanguageModelGenerator
from lettingo_features.profiles.lint import lint
from lettingo_features.profiles.summary import SummaryConfig
from lettingo_features.profiles.support import supported_shares
from lettingo_features.windows import WindowConfig

Progress = Callable[[int, int], None]


class ExploreConfig(Config):
    """Which candidates are written for each explored user."""

    n_candidates: int = Field(default=10, ge=2)
    """Texts of the generator in training per user, dealt out to the styles in turn. LettinGo section 4.1.1: ten."""
    styles: tuple[str, ...] = Field(default=STYLES, min_length=1)
    """Styles that candidates are asked for, by prompts that name one. The first is the release's, whose prompt is
    trained on: the rewards decide which way of writing it learns (LettinGo section 3.2.1 explores without a format)."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling; LettinGo: 1."""
    seed: int = 0
    """Of the users' random streams."""

    @model_validator(mode="after")
    def _distinct(self) -> ExploreConfig:
        if len(set(self.styles)) < len(self.styles):
            raise ConfigError(f"styles {', '.join(self.styles)} hold a name twice: its texts would be the same draws.")
        return self


@dataclass(frozen=True)
class Asked:
    """Requests for some users at one cutoff, aligned with ``rows`` (``user_id, window_digest, n_interactions``)."""

    cutoff: datetime
    rows: pa.Table
    requests: list[ProfileRequest]


def ask(
    home: Home, cutoff: datetime, users: pa.Array, window: WindowConfig, rating_max: float, reads_history: bool
) -> Asked:
    """One request per user of ``users`` who has a window at ``cutoff``, ordered by user id."""
    build = ProfileBuildConfig(release="unreleased", window=window)  # no release of that name: nobody has a text yet
    summary = SummaryConfig(rating_max=rating_max)
    with closing(find_due(home, build, summary, cutoff, reads_history, pa.table({c.USER_ID: users}))) as due:
        rows = due.rows.select([c.USER_ID, c.WINDOW_DIGEST, c.N_INTERACTIONS]).combine_chunks()
        return Asked(cutoff, rows, due.requests(0, rows.num_rows))


def explore(asked: Asked, generator: LanguageModelGenerator, config: ExploreConfig, max_words: int) -> pa.Table:
    """``n_candidates`` texts per user by a sampling generator: schema ``CANDIDATES``, by user, style and draw.

    A text that is empty after lint, or that could not be used, is no candidate; equal texts of one user stay, since
    how often a generator says something is part of what it is.
    """
    n_styles = len(config.styles)
    kinds = [(config.styles[n % n_styles], n) for n in range(config.n_candidates)]  # a stream each, whatever the prompt
    requests = [replace(request, style=style, draw=draw) for style, draw in kinds for request in asked.requests]
    table = candidates_of(replace_requests(asked, requests, len(kinds)), generator, max_words)
    return table.sort_by([(c.USER_ID, "ascending"), ("style", "ascending"), ("draw", "ascending")])


def replace_requests(asked: Asked, requests: list[ProfileRequest], times: int) -> Asked:
    """``asked`` with other requests, ``times`` per user, one block of all users after the other."""
    return Asked(asked.cutoff, pa.concat_tables([asked.rows] * times).combine_chunks(), requests)


def candidates_of(asked: Asked, generator: Generator, max_words: int) -> pa.Table:
    """One candidate per request that got a text: schema ``CANDIDATES``, in the order of the requests.

    Raises
    ------
    DataError
        Calls are still without an answer: run again, and only those are made.
    """
    drafts = [draft for batch in generator.write(asked.requests) for draft in batch]
    pending = sum(draft.pending for draft in drafts)
    if pending:
        raise DataError(
            f"{pending} of {len(drafts)} calls of {generator.name} got no answer. Run the same command again: what was "
            "answered is stored, and only the rest is asked."
        )
    texts, n_lint = [], []
    for draft in drafts:
        text, findings = lint(draft.text, max_words)
        texts.append(text)
        n_lint.append(findings + draft.n_lint)
    prompts = [prompt.text or "" for prompt in generator.fitted(asked.requests)] if _has_prompt(generator) else None
    shares = supported_shares(texts, prompts) if prompts else np.full(len(texts), np.nan)
    for row, draft in enumerate(drafts):
        if draft.claims or draft.n_dropped:  # structured output: counted, not guessed
            shares[row] = len(draft.claims) / (len(draft.claims) + draft.n_dropped)
    kept = pa.array([bool(text) for text in texts])
    columns = {
        c.USER_ID: asked.rows[c.USER_ID],
        c.WINDOW_DIGEST: asked.rows[c.WINDOW_DIGEST],
        "style": pa.array([request.style for request in asked.requests]),
        "draw": pa.array([request.draw for request in asked.requests], pa.int64()),
        "text": pa.array(texts, pa.string()),
        "n_lint": pa.array(n_lint, pa.int64()),
        "supported": pa.array(shares, pa.float64(), from_pandas=True),
        c.CALL_KEY: pa.array([draft.call_key for draft in drafts], pa.string()),
    }
    return as_candidates(pa.table(columns).filter(kept), asked.cutoff, generator.name, generator.generator_id)


def _has_prompt(generator: Generator) -> bool:
    return isinstance(generator, LanguageModelGenerator)


def recorded(
    asked: Asked, user_ids: Sequence[str], texts: Sequence[str], generator: str, max_words: int = 1_000
) -> pa.Table:
    """Texts that were written elsewhere as candidates of their users; users who were not asked about are left out.

    Several texts of one user count as draws, in their order.
    """
    clean = [lint(text or "", max_words) for text in texts]
    row = pc.index_in(pa.array(user_ids, pa.string()), value_set=asked.rows[c.USER_ID].combine_chunks())
    kept = pa.array([place.is_valid and bool(text) for place, (text, _) in zip(row, clean, strict=True)])
    place = row.filter(kept)
    n = len(place)
    columns = {
        c.USER_ID: asked.rows[c.USER_ID].take(place),
        c.WINDOW_DIGEST: asked.rows[c.WINDOW_DIGEST].take(place),
        "style": pa.array([""] * n),
        "draw": _nth_of_user(place.to_numpy()),
        "text": pa.array([text for text, _ in clean]).filter(kept),
        "n_lint": pa.array([findings for _, findings in clean], pa.int64()).filter(kept),
        "supported": pa.nulls(n, pa.float64()),
        c.CALL_KEY: pa.array([""] * n),
    }
    return as_candidates(pa.table(columns), asked.cutoff, generator, content_id("recorded", generator))


def stated_windows(rows: pa.Table, users: pa.Array, cutoff: datetime, generator: str) -> dict[str, int]:
    """How many texts of ``users`` state the end of their window, and how many do not.

    ``rows``: user_id and window_end, null where it is not stated.

    Raises
    ------
    LeakageError
        A text was written from a window that ends after ``cutoff``: it may have seen what it is judged on.
    """
    ends = rows["window_end"].filter(pc.is_in(rows[c.USER_ID], value_set=users))
    n_late = pc.sum(pc.greater(ends, pa.scalar(cutoff, ends.type))).as_py() or 0
    if n_late:
        raise LeakageError(
            f"{n_late:,} of {len(ends):,} texts of {generator} were written from windows that end after {cutoff}, from "
            "when on their users' targets are taken: leave those texts out, and begin a run under another --name."
        )
    return {"with_window_end": len(ends) - ends.null_count, "without_window_end": ends.null_count}


def _nth_of_user(user: np.ndarray) -> pa.Array:
    """int64: how many rows of the same user stand before each row."""
    order = np.argsort(user, kind="stable")
    _, first, counts = np.unique(user[order], return_index=True, return_counts=True)
    nth = np.empty(len(user), dtype=np.int64)
    nth[order] = np.arange(len(user)) - np.repeat(first, counts)
    return pa.array(nth)


def as_candidates(rows: pa.Table, cutoff: datetime, generator: str, generator_id: str) -> pa.Table:
    """``rows`` with the columns of ``CANDIDATES`` that follow from the others."""
    n = rows.num_rows
    keys = ([generator_id] * n, *(rows[name].to_pylist() for name in (c.USER_ID, c.WINDOW_DIGEST, "style", "text")))
    draws = rows["draw"].to_pylist()
    columns = {name: rows[name] for name in rows.column_names} | {
        "candidate_id": pa.array(
            [content_id("candidate", *key, str(draw)) for *key, draw in zip(*keys, draws, strict=True)], pa.string()
        ),
        c.CUTOFF: pa.array([cutoff] * n, c.TIMESTAMP),
        c.GENERATOR: pa.array([generator] * n, pa.string()),
        c.GENERATOR_ID: pa.array([generator_id] * n, pa.string()),
        "n_words": pa.array([len(text.split()) for text in rows["text"].to_pylist()], pa.int64()),
    }
    return pa.table({name: columns[name] for name in CANDIDATES.names}).cast(CANDIDATES)


def prompts_of(asked: Asked, generator: LanguageModelGenerator, style: str) -> pa.Table:
    """What the generator in training is asked about each user, in the release's style: schema ``PROMPTS``."""
    fitted = generator.fitted([replace(request, style=style) for request in asked.requests])
    kept = pa.array([prompt.text is not None for prompt in fitted])
    columns = {
        c.USER_ID: asked.rows[c.USER_ID],
        c.CUTOFF: pa.array([asked.cutoff] * asked.rows.num_rows, c.TIMESTAMP),
        c.WINDOW_DIGEST: asked.rows[c.WINDOW_DIGEST],
        c.N_INTERACTIONS: asked.rows[c.N_INTERACTIONS],
        "prompt": pa.array([prompt.text for prompt in fitted], pa.string()),
    }
    return pa.table(columns).cast(PROMPTS).filter(kept)
