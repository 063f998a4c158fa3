"""The ranking reward as a judge of the loop, with its control: the same texts given to other users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.judge import Judged
from lettingo_features.alignment.ranking_reward import RankingReward
from lettingo_features.alignment.shared_wording import beside_writers
from lettingo_features.alignment.window_fit import window_fit
from lettingo_features.evaluation.controls import foreign_rows


class RankingJudge:
    """A `judge.Judge`.

    Parameters
    ----------
    reward
        Of the explored users' scene.
    read
        Texts -> float32 (C, d), unit length; what ``reward`` was fitted with.
    targets
        Those of the scene: user_id, item_id, event_timestamp.
    seed
        Of the shuffled control.
    """

    def __init__(
        self, reward: RankingReward, read: Callable[[Sequence[str]], np.ndarray], targets: pa.Table, seed: int
    ) -> None:
        self.reward, self._read, self._targets, self._seed = reward, read, targets, seed

    def judge(self, candidates: pa.Table) -> Judged:
        """See `judge.Judge`; ``controls`` are raw rewards."""
        scene = self.reward.scene
        mine = candidates.filter(pc.is_in(candidates[c.USER_ID], value_set=scene.user_ids))
        vectors = beside_writers(self._read(mine["text"].to_pylist()), mine)
        controls = self._controls(mine, vectors)
        facts = {
            "ranker": self.reward.ranker.facts(),
            "scene": scene.counts,
            "candidates_without_targets": candidates.num_rows - mine.num_rows,
            "controls": controls,
        }
        text = ", ".join(f"{name} {value:+.4f}" for name, value in controls.items())
        fit = window_fit(scene, scene.rows_of(mine[c.USER_ID]), vectors, self.reward.item_vectors)
        return Judged(self.reward.rewards(mine, vectors), self._targets, facts, text, {"fits the window": fit})

    def _controls(self, candidates: pa.Table, vectors: np.ndarray) -> dict[str, float]:
        """Mean raw reward of the candidates, and of the same texts given to other users."""
        rows, n = self.reward.scene.rows_of(candidates[c.USER_ID]), candidates.num_rows
        every = np.zeros(n, dtype=np.int64)
        donors = foreign_rows(candidates[c.USER_ID].combine_chunks(), every, np.ones(n, dtype=bool), self._seed)
        own, foreign = (self.reward.per_text(rows, each).mean() for each in (vectors, vectors[donors]))
        return {"candidates": float(own), "shuffled": float(foreign), "no profile": 0.0}
