"""What the gate measures of each arm's texts, per user, and the table of arms beside the released generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.alignment.evaluator import Evaluator
from lettingo_features.alignment.ranking_reward import RankingReward
from lettingo_features.alignment.scene import Scene
from lettingo_features.alignment.shared_wording import beside_mean
from lettingo_features.alignment.shelves import Shelves
from lettingo_features.evaluation.metrics import MEASURES
from lettingo_features.evaluation.statistics import Bootstrap, paired_p_value
from lettingo_features.text_table import aligned

MATCHED, SHELVES, REWARD = "matched", "shelves nDCG@5", "ranking reward"
RANKED = MEASURES[0]
METRICS = (MATCHED, RANKED)
"""What decides, the first metric above all. `SHELVES` and `REWARD` are shown beside them: what else a text can be asked
for, and the ranking reward, which training saw unless the sentiment judge rewarded."""

Read = Callable[[Sequence[str]], np.ndarray]


class GateJudges:
    """Frozen judges of texts about the users of ``scene``, none of which the reward or the training has used.

    Both readers read each text beside the mean of its arm's texts (`shared_wording`).

    Parameters
    ----------
    scene
        Gate users and their targets.
    matched, read
        The matched utility by another reader than the reward's, and that reader.
    evaluator
        Trees over words and behaviour, trained before the gate's cutoff.
    reward, reward_read
        The ranking reward on these users, as training saw it unless the sentiment judge rewarded.
    """

    def __init__(
        self,
        scene: Scene,
        matched: RankingReward,
        read: Read,
        evaluator: Evaluator,
        reward: RankingReward,
        reward_read: Read,
    ) -> None:
        self.scene, self._evaluator = scene, evaluator
        self._matched, self._read = matched, read
        self._reward, self._reward_read = reward, reward_read
        liked: list[list[str]] = [[] for _ in range(len(scene.user_ids))]
        for user, item in zip(scene.target_user, scene.target_item, strict=True):
            liked[user] += scene.categories_of(item)
        self._shelves = Shelves(scene.category_names, liked)

    def scores(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """float64 (U,) by metric, higher is better; one text per user of the scene, '' where there is none."""
        rows = np.arange(len(texts))
        return {
            RANKED: self._evaluator.judge(self.scene, texts).values[:, 0],
            SHELVES: self._shelves.ndcg(texts),
            MATCHED: self._matched.per_text(rows, beside_mean(self._read(texts))),
            REWARD: self._reward.per_text(rows, beside_mean(self._reward_read(texts))),
        }


def arms_table(
    scores: Mapping[str, Mapping[str, np.ndarray]],
    released: str,
    permutations: int = 9_999,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per arm and metric: ``arm, metric, mean, interval, difference, difference_interval, p``.

    Intervals are 95 % bootstrap intervals over users; ``difference`` and ``p`` (two-sided, paired permutation test, not
    adjusted) compare with the ``released`` arm, whose own row has None.
    """
    n_users = len(next(iter(scores[released].values())))
    bootstrap = Bootstrap(n_users, resamples, 0.95, seed)
    rows = []
    for arm, metrics in scores.items():
        for metric, values in metrics.items():
            row: dict[str, Any] = {"arm": arm, "metric": metric, "mean": float(values.mean())}
            row["interval"] = list(bootstrap.interval(values[None]))
            row |= {"difference": None, "difference_interval": None, "p": None}
            if arm != released:
                difference = values - scores[released][metric]
                row["difference"] = float(difference.mean())
                row["difference_interval"] = list(bootstrap.interval(difference[None]))
                row["p"] = paired_p_value(difference, permutations, seed) if difference.any() else 1.0
            rows.append(row)
    return rows


def arms_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal, metric by metric."""
    lines = [("metric, arm", "mean", "95 %", "difference", "95 %", "p")]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        for row in (row for row in rows if row["metric"] == metric):
            compared = ("", "", "")
            if row["difference"] is not None:
                compared = (f"{row['difference']:+.4f}", _interval(row["difference_interval"]), f"{row['p']:.4f}")
            lines.append((f"{metric}, {row['arm']}", f"{row['mean']:.4f}", _interval(row["interval"]), *compared))
    return aligned(lines)


def scores_rows(user_ids: pa.Array, scores: Mapping[str, Mapping[str, np.ndarray]]) -> pa.Table:
    """Long form: ``user_id, arm, metric, value``."""
    tables = [
        pa.table(
            {
                c.USER_ID: user_ids,
                "arm": pa.array([arm] * len(user_ids)),
                "metric": pa.array([metric] * len(user_ids)),
                "value": pa.array(values, pa.float64()),
            }
        )
        for arm, metrics in scores.items()
        for metric, values in metrics.items()
    ]
    return pa.concat_tables(tables)


def _interval(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]"
