"""Ranking rewards where all users with targets are to be judged: each half by a ranker that was fitted on the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.alignment.ranking_reward import RankingReward, RankingRewardConfig, fit_ranker
from lettingo_features.alignment.scene import Scene
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.columns import USER_ID
from lettingo_features.errors import DataError
from lettingo_features.generation.engine import content_id


def halves(user_ids: pa.Array, seed: int) -> tuple[pa.Array, pa.Array]:
    """Two random halves of ``user_ids``, each in order of id; the order given changes nothing."""
    ordered = user_ids.sort()
    order = np.random.default_rng(seed).permutation(len(ordered))
    first, second = (ordered.take(pa.array(np.sort(part))) for part in np.array_split(order, 2))
    return first, second


class CrossFittedReward:
    """Two frozen rankers that never judge a user on whom they were fitted.

    Users are numbered half by half: U = those of the first scene and then those of the second, and N targets likewise.

    Parameters
    ----------
    scenes
        Of disjoint users, with the same items.
    item_vectors
        float32 (I, d), unit length.
    fit_vectors
        float32 (U, d): the text of each user that the rankers are fitted with.

    Attributes
    ----------
    identity : str
        Content hash of both judges.
    user_ids : pa.Array
        Length U.
    target_user : numpy.ndarray
        int64 (N,): the user of each target.
    """

    def __init__(
        self,
        scenes: tuple[Scene, Scene],
        item_vectors: np.ndarray,
        fit_vectors: np.ndarray,
        config: RankingRewardConfig,
    ) -> None:
        first, second = scenes
        if not first.item_ids.equals(second.item_ids):
            raise DataError("The two scenes rank different items: build both at one cutoff of one home.")
        n_shared = len(set(first.user_ids.to_pylist()) & set(second.user_ids.to_pylist()))
        if n_shared:
            raise DataError(f"{n_shared} users are in both scenes, and would be judged by a ranker that saw them.")
        self.user_ids = pa.concat_arrays([first.user_ids, second.user_ids])
        self.target_user = np.concatenate([first.target_user, second.target_user + len(first.user_ids)])
        self._parts = (slice(0, len(first.user_ids)), slice(len(first.user_ids), len(self.user_ids)))
        rankers = [
            fit_ranker(scene, item_vectors, fit_vectors[part], config)
            for scene, part in zip(scenes, self._parts, strict=True)
        ]
        self._judges = [
            RankingReward(ranker, scene, item_vectors, config)
            for ranker, scene in zip(reversed(rankers), scenes, strict=True)
        ]
        self.identity = content_id("cross_fitted", *(judge.identity for judge in self._judges))

    def text_weights(self) -> list[float]:
        """What each ranker learnt to give for the cosine of profile and item; near 0 it does not read the texts."""
        return [float(judge.ranker.text[0]) for judge in self._judges]

    def gains(self, vectors: np.ndarray) -> np.ndarray:
        """float64 (N,): utility over no profile of one text per user for each target; ``vectors`` float32 (U, d)."""
        return self._of_each(lambda judge, rows, part: judge.per_target(rows, vectors[part]))

    def gains_of_scores(self, scores: np.ndarray) -> np.ndarray:
        """float64 (N,): the same for one ranking of the items for everybody, float (I,)."""
        return self._of_each(
            lambda judge, rows, part: judge.of_scores(rows, np.broadcast_to(scores, (len(rows), len(scores))))
        )

    def user_means(self, gains: np.ndarray) -> np.ndarray:
        """float64 (U,): mean of ``gains`` (N,) over each user's targets."""
        return np.bincount(self.target_user, gains) / np.bincount(self.target_user)

    def rewards(self, candidates: pa.Table, vectors: np.ndarray) -> pa.Table:
        """``REWARDS`` of ``candidates``, whose texts ``vectors`` (C, d) encode; users of the first scene come first."""
        tables = []
        for judge in self._judges:
            mine = pc.is_in(candidates[USER_ID], value_set=judge.scene.user_ids)
            tables.append(judge.rewards(candidates.filter(mine), vectors[mine.to_numpy()]))
        table = pa.concat_tables(tables)
        identity = pa.array([self.identity] * len(table), pa.string())
        return table.set_column(REWARDS.get_field_index("reward"), "reward", identity)

    def _of_each(self, gains: Callable[[RankingReward, np.ndarray, slice], np.ndarray]) -> np.ndarray:
        """``gains`` of each judge for the rows of its scene, and the part of all users that they are."""
        parts = [
            gains(judge, np.arange(part.stop - part.start), part)
            for judge, part in zip(self._judges, self._parts, strict=True)
        ]
        return np.concatenate(parts)
