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
from lettingo_features.alignment.shrinkage import Shrinkage
from lettingo_features.generation.engine import content_id
from pipelines.align_files import AlignmentRun
from pipelines.align_judges import open_judge


def held_back(run: AlignmentRun, rewards: pa.Table) -> pa.Array:
    """User ids, string: the share of the users with ``rewards`` that makes no pairs, by a hash of seed and id."""
    users = pc.unique(rewards[c.USER_ID]).to_pylist()
    drawn = sorted(users, key=lambda user: content_id("held_back", str(run.config.frame.seed), user))
    return pa.array(sorted(drawn[: round(run.config.held_back * len(users))]), pa.string())


def beside_candidates(
    users: pa.Array, rewards: pa.Table, promised: np.ndarray, candidates: pa.Table, scale: float
) -> float:
    """Mean worth of one text of each of ``users``, beside the mean of the user's candidates.

    Rewards of a few users tell points of a training apart badly; what their texts show of themselves is told without
    that noise, but not all that a text can be worth. So the mean reward is shrunk towards what is promised, and true
    differences between the two are taken to be as large as promises are within a user (empirical Bayes). Who gets no
    text has the worth of none, which is 0.

    Parameters
    ----------
    rewards
        Of the texts, schema `tables.REWARDS`; those of users without a target (``n_targets`` 0) say nothing.
    promised
        float64, one per row of ``rewards``: `Shrinkage.promised`.
    candidates
        Rewards of the candidates.
    scale
        `Shrinkage.explained`.
    """
    level = _mean_by_user(candidates.filter(pc.greater(candidates["n_targets"], 0)))
    usual = float(np.mean(list(level.values())))
    texts = zip(rewards[c.USER_ID].to_pylist(), rewards["value"].to_pylist(), promised.tolist(), strict=True)
    found = {user: (value, promise) for user, value, promise in texts}
    expected = float(np.mean([found[user][1] if user in found else -usual for user in users.to_pylist()]))
    measured = [found.get(user, (0.0, 0.0))[0] - level[user] for user in users.to_pylist() if user in level]
    if len(measured) < 2:
        return expected
    noise2 = np.var(measured, ddof=1) / len(measured)
    kept = scale**2 / (scale**2 + noise2) if scale else 0.0
    return expected + kept * (float(np.mean(measured)) - expected)


def _mean_by_user(rewards: pa.Table) -> dict[str, float]:
    means = rewards.group_by(c.USER_ID).aggregate([("value", "mean")])
    return dict(zip(means[c.USER_ID].to_pylist(), means["value_mean"].to_pylist(), strict=True))


@contextmanager
def point_scorer(run: AlignmentRun) -> Iterator[Scorer]:
    """What one text at temperature 0 of each held-back user is worth; the judge is opened at first use.

    Where rewards were shrunk, beside the mean of the user's candidates (`beside_candidates`); else the mean reward of
    the run's judge, guards included.
    """
    known = run.read("rewards.parquet")
    users = held_back(run, known)
    shrinkage = Shrinkage.from_json(run.read_json("reward.json")["shrinkage"]) if run.config.shrink else None
    with ExitStack() as opened:

        @cache
        def judge() -> Judge:
            return opened.enter_context(open_judge(run))

        def score(model: Path) -> tuple[float, float]:
            written = run.written(model, run.frame.reward_cutoff, users)
            if written.num_rows < 2:  # a model that fell silent
                return 0.0, 0.0
            texts, _ = scrubbed(written) if run.config.guards.scrub_ratings else (written, 0)
            judged = judge().judge(texts)
            rewards = guarded(judged.rewards, written, run.config.guards)
            if shrinkage is None:
                value = pc.sum(rewards["value"]).as_py() / len(users)  # who gets no text counts as nothing, not nobody
            else:
                place = pc.index_in(rewards["candidate_id"], written["candidate_id"].combine_chunks())
                promised = shrinkage.promised(written.take(place), judged.attributes)
                value = beside_candidates(users, rewards, promised, known, shrinkage.explained)
            return value, float(np.median(written["n_words"]))

        told = json.dumps(run.config.shaping(), sort_keys=True)
        yield Scorer(score, content_id("held_back", told, *users.to_pylist()))
