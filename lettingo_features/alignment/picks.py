"""Does it pay to pick each user's best text? Picked on one half of the user's targets, judged on the other.

The best of several noisy values is mostly the luckiest: on the targets that picked it, a text looks better than it is.
The other half of the targets knows nothing of that luck. All values here are means over random halves, used both ways
round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.alignment.ranking_reward import standard_errors
from lettingo_features.alignment.shrinkage import shrunk
from lettingo_features.alignment.tables import CANDIDATES, REWARDS
from lettingo_features.errors import DataError

PICKED, SHRUNK, SINGLE, RANDOM = "best of the user", "the same, shrunk", "best kind for all", "random kind"
SEEN = "best of the user, on the half that picked it"


@dataclass(frozen=True)
class Picks:
    """``user`` int64 (P,): users with two targets at least; ``values``: rule -> float64 (P,), mean over the halves."""

    user: np.ndarray
    values: dict[str, np.ndarray]
    single: dict[int, int]
    """Kind -> how often it was the best for all."""


def picks(
    gains: np.ndarray,
    target_user: np.ndarray,
    candidates: pa.Table,
    splits: int = 10,
    prior_targets: float = 4.0,
    seed: int = 0,
) -> Picks:
    """Value of four rules of picking on targets that the rule has not seen, and of the first one on those it has.

    Parameters
    ----------
    gains
        float64 (A, N): utility of the text of each kind for each target.
    target_user
        int64 (N,): the user of each target, in falling or rising runs of equal numbers.
    candidates
        Schema `CANDIDATES`, A * U rows: the texts of the first kind by user number, then those of the next.
    prior_targets
        As in `RankingRewardConfig`.
    """
    counts = np.bincount(target_user)
    n_kinds, n_users = len(gains), len(counts)
    if len(candidates) != n_kinds * n_users:
        raise DataError(f"{len(candidates)} candidates are not one of each of {n_kinds} kinds for {n_users} users.")
    user = np.flatnonzero(counts >= 2)
    if not len(user):
        raise DataError(f"None of {n_users} users has two targets: nothing can be picked on one and judged on another.")
    kept = np.isin(target_user, user)
    gains, target_user = gains[:, kept], np.searchsorted(user, target_user[kept])
    candidates = candidates.take(pa.array((np.arange(n_kinds)[:, None] * n_users + user).ravel()))
    rng = np.random.default_rng(seed)
    values = {rule: np.zeros(len(user)) for rule in (PICKED, SHRUNK, SINGLE, RANDOM, SEEN)}
    single: dict[int, int] = {}
    for _ in range(splits):
        in_first = _random_half(target_user, rng)
        for picking in (in_first, ~in_first):
            kinds = rng.permutation(n_kinds)  # ties go to no kind in particular
            known, unknown = (_means(gains[:, half], target_user[half])[kinds] for half in (picking, ~picking))
            posterior = _posterior(gains[:, picking], target_user[picking], candidates, prior_targets)[kinds]
            everybody, best = np.arange(len(user)), known.argmax(0)
            single_best = int(known.mean(1).argmax())
            single[int(kinds[single_best])] = single.get(int(kinds[single_best]), 0) + 1
            values[PICKED] += unknown[best, everybody]
            values[SHRUNK] += unknown[posterior.argmax(0), everybody]
            values[SINGLE] += unknown[single_best]
            values[RANDOM] += unknown.mean(0)
            values[SEEN] += known[best, everybody]
    return Picks(user, {rule: total / (2 * splits) for rule, total in values.items()}, dict(sorted(single.items())))


def _random_half(target_user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool (N,): half of each user's targets; of an odd number, the spare one goes either way."""
    order = np.lexsort((rng.random(len(target_user)), target_user))
    counts = np.bincount(target_user)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    spare = rng.integers(0, 2, len(counts)) * (counts % 2)
    return place < ((counts + spare) // 2)[target_user]


def _means(gains: np.ndarray, target_user: np.ndarray) -> np.ndarray:
    """float64 (A, P): mean gain of each kind over each user's targets."""
    counts = np.bincount(target_user)
    return np.stack([np.bincount(target_user, row) / counts for row in gains])


def _posterior(gains: np.ndarray, target_user: np.ndarray, candidates: pa.Table, prior: float) -> np.ndarray:
    """float64 (A, P): the same after `shrinkage.shrunk`."""
    value = _means(gains, target_user)
    n_kinds, n_users = value.shape
    order = np.argsort(target_user, kind="stable")
    counts = np.tile(np.bincount(target_user), n_kinds)
    noise = standard_errors(gains[:, order].ravel(), np.tile(np.arange(n_users), n_kinds), counts, prior)
    n = value.size
    columns = {
        "candidate_id": candidates["candidate_id"],
        c.USER_ID: candidates[c.USER_ID],
        "reward": pa.array([""] * n),
        "value": pa.array(value.ravel()),
        "raw": pa.array(value.ravel()),
        "noise": pa.array(noise),
        "no_profile": pa.array(np.zeros(n)),
        "n_targets": pa.array(counts),
        "correct": pa.nulls(n, pa.bool_()),
        "answer": pa.array([""] * n),
    }
    rewards, _ = shrunk(pa.table(columns).cast(REWARDS), candidates.cast(CANDIDATES))
    return rewards["value"].to_numpy().reshape(n_kinds, n_users)
