"""Ranking metrics per user, computed by ``ir-measures``; what is ours is the fair ranking that goes in.

Scores become a ranking with ties broken at random by a fixed seed, never by the order of the items (see
the traps in PAPERS.md), and the share of tied places is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

MEASURES = ("nDCG@10", "R@20", "RR@10")
DEPTH = 20
"Places of a ranking that are kept: the deepest cut of MEASURES."


@dataclass(frozen=True)
class Ranking:
    """The best places of one scorer.

    Attributes
    ----------
    items : numpy.ndarray
        int64 (U, DEPTH), item numbers, best first; -1 where a user has fewer candidates.
    tied : numpy.ndarray
        float64 (U,), share of the user's filled places whose score another candidate of that user has too.
    """

    items: np.ndarray
    tied: np.ndarray

    @staticmethod
    def concatenate(parts: Sequence[Ranking]) -> Ranking:
        """Rankings of consecutive blocks of users as one."""
        return Ranking(np.concatenate([part.items for part in parts]), np.concatenate([part.tied for part in parts]))


def user_seed(seed: int, user_id: str) -> int:
    """Seed of one user's random stream, a function of ``seed`` and the id alone."""
    return int.from_bytes(sha256(f"{seed}|{user_id}".encode()).digest()[:16])


def rank(scores: np.ndarray, excluded: np.ndarray, user_ids: Sequence[str], seed: int) -> Ranking:
    """Best ``DEPTH`` items per user, ties in an order drawn from (seed, user id).

    Parameters
    ----------
    scores : numpy.ndarray
        float (U, I), larger is better, finite.
    excluded : numpy.ndarray
        bool (U, I), True where an item is no candidate for the user.
    user_ids : sequence of str
        Length U.
    seed : int
    """
    items = np.full((len(user_ids), DEPTH), -1, dtype=np.int64)
    tied = np.zeros(len(user_ids))
    for row, user_id in enumerate(user_ids):
        candidates = np.flatnonzero(~excluded[row])
        values = scores[row, candidates]
        depth = min(DEPTH, candidates.size)
        if not depth:
            continue
        # Everything that ties with the last place competes for it.
        last = np.partition(values, values.size - depth)[values.size - depth]
        best = np.flatnonzero(values >= last)
        draw = np.random.default_rng(user_seed(seed, user_id)).random(best.size)
        best = best[np.lexsort((draw, -values[best]))]
        _, group, size = np.unique(values[best], return_inverse=True, return_counts=True)
        tied[row] = np.mean(size[group[:depth]] > 1)
        items[row, :depth] = candidates[best[:depth]]
    return Ranking(items, tied)


class Measures:
    """``MEASURES`` of rankings against one set of relevant items.

    Parameters
    ----------
    user, item : numpy.ndarray
        int (N,), relevant pairs: row of the user, number of the item. Each user must occur.
    n_users : int
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, n_users: int) -> None:
        qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(user.tolist(), item.tolist(), strict=True)]
        self._evaluator = ir_measures.evaluator([nDCG @ 10, R @ 20, RR @ 10], qrels)
        self._n_users = n_users

    def of(self, ranking: Ranking) -> np.ndarray:
        """float64 (U, len(MEASURES)), one row per user."""
        user, place = np.nonzero(ranking.items >= 0)
        columns = (user.tolist(), ranking.items[user, place].tolist(), (DEPTH - place).tolist())
        run = [ir_measures.ScoredDoc(str(u), str(i), s) for u, i, s in zip(*columns, strict=True)]
        values = np.zeros((self._n_users, len(MEASURES)))
        for metric in self._evaluator.iter_calc(run):
            values[int(metric.query_id), MEASURES.index(str(metric.measure))] = metric.value
        return values
