"""Candidates and their rewards -> preference pairs, faithful to LettinGo or capped.

Faithful: each correct candidate of a user with each wrong one (LettinGo, arXiv 2506.18309, section 3.2.2). A user with
a correct and b wrong candidates then counts a * b times, and nothing keeps a pair from teaching length. Capped, ours:
margins above their noise, texts of similar length, a few pairs a user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lettingo_features import columns as c
from lettingo_features.alignment.pair_statistics import PairStatistics, Stages, pair_statistics
from lettingo_features.alignment.tables import PAIRS
from lettingo_features.config import Config
from lettingo_features.errors import DataError
from lettingo_features.generation.engine import content_id
from lettingo_features.sql import connect

MarginNoise = Callable[[pa.Table], np.ndarray]
"""Given chosen_id and rejected_id of each comparison: the standard error of its margin, float64 (n,)."""


_SIDES = {"": "text", "_id": "candidate_id", "_generator": "generator", "_value": "value", "_words": "n_words"}


class PairConfig(Config):
    """Which comparisons become pairs. The fields from ``max_per_user`` on shape the capped mode alone."""

    mode: Literal["faithful", "capped"] = "capped"
    """``faithful`` needs rewards with ``correct``, that is the sentiment judge's."""
    max_per_user: int = Field(default=4, ge=1)
    """Pairs of one user at most, so that none outvotes the others; LettinGo's Table 1 has four to five on average."""
    noise_factor: float = Field(default=1.0, ge=0)
    """A margin must exceed so many of its standard errors; 0 takes every difference."""
    min_margin: float = Field(default=0.0, ge=0)
    """And so much in units of the reward, for judges with one target, whose noise nobody knows."""
    length_ratio: float | None = Field(default=1.5, ge=1)
    """Words of the longer text at most so many times those of the shorter: DPO likes to learn length. None: any."""
    balanced: bool = True
    """Prefer, among equally used texts, comparisons that bring the words of all chosen texts nearer to those of all
    rejected ones: many small differences of one sign teach length as well as a few large ones."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Preference pairs of one run and how they came about."""

    rows: pa.Table
    """Schema `tables.PAIRS`, ordered by user, then as picked."""
    statistics: PairStatistics


def preference_pairs(
    candidates: pa.Table,
    rewards: pa.Table,
    prompts: pa.Table,
    config: PairConfig | None = None,
    margin_noise: MarginNoise | None = None,
) -> Pairs:
    """Pairs of texts of one user, the better one chosen. The order of the rows given changes nothing.

    Of candidates with the same text the one with the smallest id stands for all. Capped mode takes, for each user, the
    largest margin among the comparisons whose texts were used least so far (and, of those, that balance the lengths),
    until ``max_per_user`` are picked.

    Parameters
    ----------
    candidates, rewards, prompts
        Schemas `tables.CANDIDATES`, `tables.REWARDS` of one judge, and `tables.PROMPTS` with one row a user: what is
        trained on is the prompt's window, whichever window an imported candidate saw.
    margin_noise
        Standard error of each margin. Without it ``sqrt(noise_a^2 + noise_b^2)``: too large where both texts were
        judged on the same targets, since what is hard about a target cancels.

    Raises
    ------
    DataError
        Rewards of several judges, twice the same candidate, or a value that is not finite; faithful mode without
        ``correct``; a user with two prompts.
    """
    config = config or PairConfig()
    _check(candidates, rewards, prompts, config)
    judged = _judged(candidates, rewards)
    compared = _comparisons(judged, config, margin_noise)
    asked = compared.filter(pc.is_in(_of(judged, compared, c.USER_ID), prompts[c.USER_ID].combine_chunks()))
    above = _above_noise(asked, config)
    matched = _length_matched(above, judged, config)
    kept = matched if config.mode == "faithful" else _picked(matched, judged, config)
    rows = _rows(kept, judged, prompts)
    stages = Stages(candidates, judged, compared, asked, above, matched)
    return Pairs(rows, pair_statistics(stages, rows, config.mode))


def shuffled(pairs: pa.Table, seed: int) -> pa.Table:
    """``pairs`` with chosen and rejected swapped in a random half: the negative control, which teaches nothing.

    A swapped row carries its texts' own values, so its margin is negative. Which rows are swapped follows from ``seed``
    and each pair's id, not from the order.
    """
    coins = [int(content_id(str(seed), pair_id)[:8], 16) & 1 for pair_id in pairs["pair_id"].to_pylist()]
    swap = pa.array(coins, pa.int64()).cast(pa.bool_())
    columns = {name: pairs[name] for name in pairs.schema.names}
    for name in _SIDES:
        chosen, rejected = pairs[f"chosen{name}"], pairs[f"rejected{name}"]
        columns[f"chosen{name}"] = pc.if_else(swap, rejected, chosen)
        columns[f"rejected{name}"] = pc.if_else(swap, chosen, rejected)
    columns["margin"] = pc.subtract(columns["chosen_value"], columns["rejected_value"])
    columns["pair_id"] = _pair_ids(columns["prompt"], columns["chosen"], columns["rejected"])
    return pa.table(columns, schema=PAIRS)


def _check(candidates: pa.Table, rewards: pa.Table, prompts: pa.Table, config: PairConfig) -> None:
    judges = pc.unique(rewards["reward"]).to_pylist()
    if len(judges) > 1:
        raise DataError(f"Rewards of {len(judges)} judges in one table: make the pairs of each judge on their own.")
    for table, name, what in (
        (candidates, "candidate_id", "Candidates"),
        (rewards, "candidate_id", "Rewards"),
        (prompts, c.USER_ID, "Prompts"),
    ):
        n_twice = len(table) - pc.count_distinct(table[name]).as_py()
        if n_twice:
            raise DataError(f"{what}: {n_twice:,} of {len(table):,} rows repeat a {name}. Each may occur once.")
    for name in ("value", "noise"):
        n_bad = len(rewards) - (pc.sum(pc.is_finite(rewards[name])).as_py() or 0)
        if n_bad:
            raise DataError(f"Rewards: {n_bad:,} of {len(rewards):,} have no finite {name}. Leave those rows out.")
    if config.mode == "faithful" and rewards["correct"].null_count:
        raise DataError(
            f"Faithful pairs need 'correct', which {rewards['correct'].null_count:,} of {len(rewards):,} rewards lack. "
            "Use the sentiment judge, or the capped mode."
        )


def _judged(candidates: pa.Table, rewards: pa.Table) -> pa.Table:
    """Candidates with a reward, one per distinct text of a user; ``row`` numbers them."""
    connection = connect(threads=1)
    connection.register("candidates", candidates)
    connection.register("rewards", rewards)
    return connection.sql(
        """
        SELECT *, row_number() OVER (ORDER BY user_id, candidate_id) - 1 AS row FROM (
            SELECT c.user_id, c.candidate_id, c.generator, c.text, c.n_words, r.reward, r.value, r.noise, r.correct,
                count(*) OVER (PARTITION BY c.user_id, c.text) AS n_same
            FROM candidates c JOIN rewards r USING (candidate_id)
            QUALIFY row_number() OVER (PARTITION BY c.user_id, c.text ORDER BY c.candidate_id) = 1
        )
        ORDER BY row
        """
    ).to_arrow_table()


def _comparisons(judged: pa.Table, config: PairConfig, margin_noise: MarginNoise | None) -> pa.Table:
    """Each two texts of a user of which one is better, correct against wrong or by value: ``chosen`` and ``rejected``
    (rows of ``judged``), ``margin`` and its ``noise``; by user, the largest margin first."""
    better = "a.correct AND NOT b.correct" if config.mode == "faithful" else "a.value > b.value"
    connection = connect(threads=1)
    connection.register("judged", judged.select([c.USER_ID, "row", "value", "noise", "correct"]))
    compared = connection.sql(
        f"""
        SELECT a.row AS chosen, b.row AS rejected, a.value - b.value AS margin,
            sqrt(a.noise ** 2 + b.noise ** 2) AS noise
        FROM judged a JOIN judged b USING (user_id) WHERE {better}
        ORDER BY user_id, margin DESC, chosen, rejected
        """
    ).to_arrow_table()
    if margin_noise is None or not len(compared):
        return compared
    ids = {f"{side}_id": judged["candidate_id"].take(compared[side]) for side in ("chosen", "rejected")}
    noise = pa.array(np.asarray(margin_noise(pa.table(ids)), np.float64))
    return compared.set_column(compared.schema.get_field_index("noise"), "noise", noise)


def _above_noise(compared: pa.Table, config: PairConfig) -> pa.Table:
    if config.mode == "faithful":
        return compared
    margin = compared["margin"]
    above = pc.and_(
        pc.greater(margin, pc.multiply(compared["noise"], config.noise_factor)), pc.greater(margin, config.min_margin)
    )
    return compared.filter(above)


def _length_matched(compared: pa.Table, judged: pa.Table, config: PairConfig) -> pa.Table:
    if config.mode == "faithful" or config.length_ratio is None:
        return compared
    words = [_of(judged, compared, "n_words", side) for side in ("chosen", "rejected")]
    shorter, longer = pc.min_element_wise(*words), pc.max_element_wise(*words)
    return compared.filter(pc.less_equal(longer, pc.multiply(pc.cast(shorter, pa.float64()), config.length_ratio)))


def _picked(compared: pa.Table, judged: pa.Table, config: PairConfig) -> pa.Table:
    """At most ``max_per_user`` rows a user; ``compared`` is ordered by user and falling margin."""
    words = [_of(judged, compared, "n_words", side).to_numpy() for side in ("chosen", "rejected")]
    longer = (words[0] - words[1]).tolist()
    chosen, rejected = compared["chosen"].to_pylist(), compared["rejected"].to_pylist()
    users = _of(judged, compared, c.USER_ID).to_pylist()
    picked: list[int] = []
    surplus = 0  # words of all chosen texts over those of all rejected ones
    for _, rows in groupby(range(len(users)), key=users.__getitem__):
        left = list(rows)
        used: Counter[int] = Counter()
        for _ in range(min(config.max_per_user, len(left))):
            sign = surplus if config.balanced else 0
            row = min(left, key=lambda row: (used[chosen[row]] + used[rejected[row]], longer[row] * sign > 0))
            left.remove(row)
            picked.append(row)
            surplus += longer[row]
            used.update((chosen[row], rejected[row]))
    return compared.take(pa.array(picked, pa.int64()))


def _rows(kept: pa.Table, judged: pa.Table, prompts: pa.Table) -> pa.Table:
    users = _of(judged, kept, c.USER_ID)
    asked = prompts.take(pc.index_in(users, prompts[c.USER_ID].combine_chunks()))
    columns = {name: asked[name] for name in (c.CUTOFF, c.WINDOW_DIGEST, "prompt")}
    columns |= {c.USER_ID: users, "reward": _of(judged, kept, "reward")}
    columns |= {name: kept[name] for name in ("margin", "noise")}
    for side in ("chosen", "rejected"):
        for name, source in _SIDES.items():
            columns[side + name] = _of(judged, kept, source, side)
    columns["pair_id"] = _pair_ids(columns["prompt"], columns["chosen"], columns["rejected"])
    return pa.table([columns[name] for name in PAIRS.names], schema=PAIRS)


def _of(judged: pa.Table, compared: pa.Table, name: str, side: str = "chosen") -> pa.ChunkedArray:
    """Column ``name`` of one text of each comparison; the user is the same of both."""
    return judged[name].take(compared[side])


def _pair_ids(*texts: pa.ChunkedArray) -> pa.Array:
    return pa.array(map(content_id, *(column.to_pylist() for column in texts)), pa.string())
