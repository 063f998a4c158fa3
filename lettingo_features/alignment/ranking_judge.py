"""The ranking reward as a judge of the loop, with its control: the same texts given to other users.

Users without a target get no reward from it, but how well each text fits its window is known of them as well, and what
that is worth is learnt from the others (`shrinkage`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.judge import Judged
from lettingo_features.alignment.ranking_reward import RankingReward
from lettingo_features.alignment.tables import REWARDS
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
    explored
        Ids of all users who are compared, those without a target among them.
    seed
        Of the shuffled control.
    """

    def __init__(
        self,
        reward: RankingReward,
        read: Callable[[Sequence[str]], np.ndarray],
        targets: pa.Table,
        explored: pa.Array,
        seed: int,
    ) -> None:
        self.reward, self._read, self._targets, self._seed = reward, read, targets, seed
        known = reward.scene.history
        self._users = explored.filter(pc.is_in(explored, value_set=known.user_ids))
        self._seen = known.matrix()[pc.index_in(self._users, value_set=known.user_ids).to_numpy()]

    def judge(self, candidates: pa.Table) -> Judged:
        """See `judge.Judge`; ``controls`` are raw rewards. Users without a target come last, with `without_target`."""
        scene = self.reward.scene
        has_target = pc.is_in(candidates[c.USER_ID], value_set=scene.user_ids)
        mine = candidates.filter(has_target)
        met_items = pc.is_in(candidates[c.USER_ID], value_set=self._users)
        rest = candidates.filter(pc.and_(pc.invert(has_target), met_items))
        every = pa.concat_tables([mine, rest]).combine_chunks()
        vectors = self._read(every["text"].to_pylist())
        controls = self._controls(mine, vectors[: len(mine)])
        facts = {
            "ranker": self.reward.ranker.facts(),
            "scene": scene.counts,
            "candidates_without_targets": len(candidates) - len(mine),
            "controls": controls,
        }
        text = ", ".join(f"{name} {value:+.4f}" for name, value in controls.items())
        user = pc.index_in(every[c.USER_ID], value_set=self._users).to_numpy()
        fit = window_fit(self._seen, user, vectors, self.reward.item_vectors)
        rewards = [self.reward.rewards(mine, vectors[: len(mine)]), without_target(rest, self.reward.identity)]
        return Judged(pa.concat_tables(rewards), self._targets, facts, text, {"fits the window": fit})

    def _controls(self, candidates: pa.Table, vectors: np.ndarray) -> dict[str, float]:
        """Mean raw reward of the candidates, and of the same texts given to other users."""
        rows, n = self.reward.scene.rows_of(candidates[c.USER_ID]), candidates.num_rows
        every = np.zeros(n, dtype=np.int64)
        donors = foreign_rows(candidates[c.USER_ID].combine_chunks(), every, np.ones(n, dtype=bool), self._seed)
        own, foreign = (self.reward.per_text(rows, each).mean() for each in (vectors, vectors[donors]))
        return {"candidates": float(own), "shuffled": float(foreign), "no profile": 0.0}


def without_target(candidates: pa.Table, identity: str) -> pa.Table:
    """``REWARDS`` of ``candidates`` whose users liked nothing later: 0, with a noise that has no end."""
    n = len(candidates)
    columns = {
        "candidate_id": candidates["candidate_id"],
        c.USER_ID: candidates[c.USER_ID],
        "reward": pa.array([identity] * n, pa.string()),
        **{name: pa.array(np.zeros(n)) for name in ("value", "raw", "no_profile")},
        "noise": pa.array(np.full(n, np.inf)),
        "n_targets": pa.array(np.zeros(n, dtype=np.int64)),
        "correct": pa.nulls(n, pa.bool_()),
        "answer": pa.array([""] * n, pa.string()),
    }
    return pa.table({name: columns[name] for name in REWARDS.names}).cast(REWARDS)
