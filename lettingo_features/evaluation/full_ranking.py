"""The test: every scorer ranks the same candidates, all available items that a user has not seen, under one mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lettingo_features.evaluation.metrics import Measures, Ranking, rank


@dataclass(frozen=True)
class Outcome:
    """Of one scorer: ``values`` float64 (U, len(MEASURES)); ``tied`` float64 (U,), see ``metrics.Ranking``."""

    values: np.ndarray
    tied: np.ndarray


class FullRanking:
    """Test users, their masks and their relevant items; scores are asked for in blocks of users to bound memory.

    Parameters
    ----------
    user_ids : sequence of str
        Length U.
    seen : scipy.sparse.csr_array
        (U, I), non-zero where the item is no candidate of the user.
    relevant : tuple of numpy.ndarray
        int (N,) each: rows of users and numbers of items.
    block_rows : int
        (user, item) pairs per block; at least one user goes into a block.
    seed : int
        Of tie-breaking.
    """

    def __init__(
        self,
        user_ids: Sequence[str],
        seen: sparse.csr_array,
        relevant: tuple[np.ndarray, np.ndarray],
        block_rows: int,
        seed: int,
    ) -> None:
        self.user_ids = list(user_ids)
        self.seen = seen
        self._measures = Measures(*relevant, n_users=len(self.user_ids))
        self._block = max(1, block_rows // max(1, seen.shape[1]))
        self._seed = seed

    def judge(self, scores: Callable[[slice], Sequence[np.ndarray]]) -> list[Outcome]:
        """Rank and measure.

        Parameters
        ----------
        scores : callable
            Given a slice of the users, one float array (users, I) per scorer; several scorers may share the features.

        Returns
        -------
        list of Outcome
            One per scorer.
        """
        parts: list[list[Ranking]] = []
        for start in range(0, len(self.user_ids), self._block):
            users = slice(start, start + self._block)
            excluded = self.seen[users].toarray() != 0
            parts.append([rank(block, excluded, self.user_ids[users], self._seed) for block in scores(users)])
        rankings = [Ranking.concatenate(scorer) for scorer in zip(*parts, strict=True)]
        return [Outcome(self._measures.of(ranking), ranking.tied) for ranking in rankings]
