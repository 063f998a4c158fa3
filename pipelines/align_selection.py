"""Held-back explored users: what a point of the training writes for them, and what the reward says of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.guards import guarded
from lettingo_features.alignment.selection import Judge
from lettingo_features.generation.engine import content_id
from pipelines.align_files import AlignmentRun


def held_back(run: AlignmentRun) -> pa.Array:
    """User ids, string: the share of the explored users that makes no pairs, by a hash of seed and id."""
    users = run.frame.explored.to_pylist()
    drawn = sorted(users, key=lambda user: content_id("held_back", str(run.config.frame.seed), user))
    return pa.array(sorted(drawn[: round(run.config.held_back * len(users))]), pa.string())


def selection_judge(run: AlignmentRun) -> Judge:
    """The reward of the run, guards included, on one text at temperature 0 of each held-back user."""
    users = held_back(run)

    @cache
    def reward():
        scene, read = run.scene("explored"), run.reader()
        return scene, read, run.judge(scene, read)

    def score(model: Path) -> tuple[float, float]:
        scene, read, judge = reward()
        written = run.written(model, run.frame.reward_cutoff, users)
        judged = written.filter(pc.is_in(written[c.USER_ID], value_set=scene.user_ids))
        vectors = read(run.as_judged(judged["text"].to_pylist()))
        rewards = guarded(judge.rewards(judged, vectors), judged, run.config.guards)
        return float(np.mean(rewards["value"])), float(np.mean(written["n_words"]))

    told = run.config.model_dump_json(include={"frame", "window", "reader", "reward", "guards", "max_words"})
    return Judge(score, content_id("selection", told, *users.to_pylist()))
