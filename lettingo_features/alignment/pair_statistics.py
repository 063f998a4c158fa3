"""What became of the candidates: users dropped and why, pairs per user, margins, lengths, who beats whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c

WinMatrix = dict[str, dict[str, int]]
"""Wins of a generator (first key) over another, or over itself: how often its text was the better one of a user."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What was left after each step of `pairs.preference_pairs`.

    ``compared`` to ``matched`` have a row per comparison, whose ``chosen`` and ``rejected`` are rows of ``judged``.
    """

    candidates: pa.Table
    judged: pa.Table
    """With a reward, one per distinct text of a user."""
    compared: pa.Table
    """One text is better."""
    asked: pa.Table
    """The user has a prompt."""
    above: pa.Table
    """The margin exceeds its noise."""
    matched: pa.Table
    """The lengths are similar."""


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Statistics of one run's pairs."""

    mode: str
    n_users: int
    """With a candidate."""
    n_users_with_pairs: int
    dropped_users: dict[str, int]
    """Users without a pair, by the first reason that applies."""
    n_candidates: int
    n_without_reward: int
    n_same_text: int
    """Left out because another candidate of the user says the same."""
    n_comparisons: int
    n_above_noise: int
    n_length_matched: int
    n_pairs: int
    pairs_per_user: dict[int, int]
    """Number of pairs -> users that have so many; users without pairs count as 0."""
    margins: dict[str, float]
    margin_noise: dict[str, float]
    word_differences: dict[str, float]
    """Words of the chosen text less those of the rejected one."""
    share_chosen_longer: float | None
    """0.5 teaches nothing about length; None without pairs."""
    wins: WinMatrix
    """Over all comparisons, noise or not."""
    pair_wins: WinMatrix
    """Over the pairs that were kept."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """A table for a terminal."""
        dropped = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in self.dropped_users.items()) or "none"
        per_user = ", ".join(f"{n}: {users:,}" for n, users in self.pairs_per_user.items())
        longer = "-" if self.share_chosen_longer is None else f"{self.share_chosen_longer:.0%}"
        lines = [
            f"{self.n_pairs:,} pairs ({self.mode}) of {self.n_users_with_pairs:,} of {self.n_users:,} users",
            f"  users dropped     {dropped}",
            f"  candidates        {self.n_candidates:,}: {self.n_without_reward:,} without reward, "
            f"{self.n_same_text:,} with a text that is there already",
            f"  comparisons       {self.n_comparisons:,} -> {self.n_above_noise:,} above noise -> "
            f"{self.n_length_matched:,} of similar length -> {self.n_pairs:,} kept",
            f"  pairs: users      {per_user}",
            f"  margin            {_line(self.margins)}",
            f"  noise of margin   {_line(self.margin_noise)}",
            f"  words, difference {_line(self.word_differences)}; the chosen text is longer in {longer}",
            "  wins of row over column, all comparisons (kept pairs)",
            *("    " + line for line in _matrix(self.wins, self.pair_wins)),
        ]
        return "\n".join(lines)


def pair_statistics(stages: Stages, pairs: pa.Table, mode: str) -> PairStatistics:
    """Statistics of ``pairs`` (schema `tables.PAIRS`) and of what led to them."""
    n_users = pc.count_distinct(stages.candidates[c.USER_ID]).as_py()
    per_user = pc.value_counts(pairs[c.USER_ID].combine_chunks()).field("counts").to_numpy(zero_copy_only=False)
    n_pairs, n_having = np.unique(per_user, return_counts=True)
    n_rewarded = pc.sum(stages.judged["n_same"]).as_py() or 0
    differences = pc.subtract(pairs["chosen_words"], pairs["rejected_words"]).to_numpy()
    counts = {0: n_users - len(per_user)} | dict(zip(n_pairs.tolist(), n_having.tolist(), strict=True))
    return PairStatistics(
        mode=mode,
        n_users=n_users,
        n_users_with_pairs=len(per_user),
        dropped_users=_dropped_users(stages),
        n_candidates=len(stages.candidates),
        n_without_reward=len(stages.candidates) - n_rewarded,
        n_same_text=n_rewarded - len(stages.judged),
        n_comparisons=len(stages.compared),
        n_above_noise=len(stages.above),
        n_length_matched=len(stages.matched),
        n_pairs=len(pairs),
        pairs_per_user=counts,
        margins=_spread(pairs["margin"].to_numpy()),
        margin_noise=_spread(pairs["noise"].to_numpy()),
        word_differences=_spread(differences),
        share_chosen_longer=float(np.mean(differences > 0)) if len(pairs) else None,
        wins=_wins(*(stages.judged[c.GENERATOR].take(stages.compared[side]) for side in ("chosen", "rejected"))),
        pair_wins=_wins(pairs["chosen_generator"], pairs["rejected_generator"]),
    )


def _dropped_users(stages: Stages) -> dict[str, int]:
    """Reason -> users, each user under the first stage that left them nothing."""
    judged = stages.judged
    by_user = judged.group_by(c.USER_ID).aggregate(
        [("candidate_id", "count"), ("correct", "min"), ("correct", "max"), ("correct", "count")]
    )
    texts, rated = by_user["candidate_id_count"], pc.equal(by_user["correct_count"], by_user["candidate_id_count"])
    alone = by_user.filter(pc.equal(texts, 1))[c.USER_ID]
    all_correct = by_user.filter(pc.and_kleene(rated, by_user["correct_min"]))[c.USER_ID]
    all_wrong = by_user.filter(pc.and_kleene(rated, pc.invert(by_user["correct_max"])))[c.USER_ID]
    steps = [
        ("no_reward", _users(stages.candidates), _users(judged)),
        ("one_distinct_text", _users(judged), _users(judged) - set(alone.to_pylist())),
    ]
    left = steps[-1][2]
    better, asked, above, matched = (
        set(pc.unique(judged[c.USER_ID].take(step["chosen"])).to_pylist())
        for step in (stages.compared, stages.asked, stages.above, stages.matched)
    )
    reasons = {name: len(before - after) for name, before, after in steps}
    reasons["all_correct"] = len((left - better) & set(all_correct.to_pylist()))
    reasons["all_wrong"] = len((left - better) & set(all_wrong.to_pylist()))
    reasons["equal_values"] = len(left - better) - reasons["all_correct"] - reasons["all_wrong"]
    reasons |= {
        "no_prompt": len(better - asked),
        "no_margin_above_noise": len(asked - above),
        "no_length_match": len(above - matched),
    }
    return {reason: n for reason, n in reasons.items() if n}


def _users(table: pa.Table) -> set[str]:
    return set(pc.unique(table[c.USER_ID]).to_pylist())


def _wins(winners: pa.ChunkedArray, losers: pa.ChunkedArray) -> WinMatrix:
    counted = (
        pa.table({"winner": winners, "loser": losers}).group_by(["winner", "loser"]).aggregate([([], "count_all")])
    )
    wins: WinMatrix = {}
    for winner, loser, n in sorted(zip(*(column.to_pylist() for column in counted.columns), strict=True)):
        wins.setdefault(winner, {})[loser] = n
    return wins


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return dict(zip(("min", "q25", "median", "q75", "max"), quartiles, strict=True)) | {"mean": float(values.mean())}


def _line(spread: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in spread.items()) or "-"


def _matrix(wins: WinMatrix, kept: WinMatrix) -> list[str]:
    names = sorted({*wins, *(loser for losers in wins.values() for loser in losers)})
    cells = [
        [name, *(f"{wins.get(name, {}).get(o, 0):,} ({kept.get(name, {}).get(o, 0):,})" for o in names)]
        for name in names
    ]
    widths = [max(map(len, column)) for column in zip(["", *names], *cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [["", *names], *cells]
    ]
