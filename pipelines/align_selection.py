"""Held-back explored users: what a point of the training writes for them, and what the run's judge says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.guards import guarded
from lettingo_features.alignment.judge import Judge
from lettingo_features.alignment.rating_scrub import scrubbed
from lettingo_features.alignment.selection import Scorer
from lettingo_features.generation.engine import content_id
from pipelines.align_files import AlignmentRun
from pipelines.align_judges import open_judge


def held_back(run: AlignmentRun, rewards: pa.Table) -> pa.Array:
    """User ids, string: the share of the users with ``rewards`` that makes no pairs, by a hash of seed and id."""
    users = pc.unique(rewards[c.USER_ID]).to_pylist()
    drawn = sorted(users, key=lambda user: content_id("held_back", str(run.config.frame.seed), user))
    return pa.array(sorted(drawn[: round(run.config.held_back * len(users))]), pa.string())


@contextmanager
def point_scorer(run: AlignmentRun) -> Iterator[Scorer]:
    """The run's judge, guards included, on one text at temperature 0 of each held-back user; opened at first use."""
    users = held_back(run, run.read("rewards.parquet"))
    with ExitStack() as opened:

        @cache
        def judge() -> Judge:
            return opened.enter_context(open_judge(run))

        def score(model: Path) -> tuple[float, float]:
            written = run.written(model, run.frame.reward_cutoff, users)
            if written.num_rows < 2:  # a model that fell silent
                return 0.0, 0.0
            texts, _ = scrubbed(written) if run.config.guards.scrub_ratings else (written, 0)
            rewards = guarded(judge().judge(texts).rewards, written, run.config.guards)
            value = pc.sum(rewards["value"]).as_py() / len(users)  # who gets no text counts as nothing, not as nobody
            return value, float(np.median(written["n_words"]))

        told = json.dumps(run.config.shaping(), sort_keys=True)
        yield Scorer(score, content_id("held_back", told, *users.to_pylist()))
