"""Pairs of hand-written candidates and rewards."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lettingo_features.alignment.pairs import PairConfig, preference_pairs, shuffled
from lettingo_features.alignment.tables import PAIRS
from lettingo_features.errors import DataError
from tests.alignment.rows import candidates, prompts, rewards

SIX = candidates(
    ("u1a", "u1", "llm", "one two three four"),
    ("u1b", "u1", "llm", "two three four five"),
    ("u1c", "u1", "rows", "three four five six"),
    ("u1d", "u1", "rows", "four five six seven"),
)
VALUES = {"u1a": 0.9, "u1b": 0.5, "u1c": 0.4, "u1d": 0.1}


def chosen_rejected(pairs: pa.Table) -> list[tuple[str, str]]:
    return list(zip(pairs["chosen_id"].to_pylist(), pairs["rejected_id"].to_pylist(), strict=True))


def made(found=SIX, values=None, correct=None, noise=0.0, asked=("u1",), **config):
    given = rewards(values or VALUES, noise, correct)
    return preference_pairs(found, given, prompts(*asked), PairConfig(**config))


CAPPED = [  # config, noise, pairs in the order picked
    ({"max_per_user": 1}, 0.0, [("u1a", "u1d")]),
    # The largest margin first; then the pair whose texts were not used; then all were used once.
    ({}, 0.0, [("u1a", "u1d"), ("u1b", "u1c"), ("u1a", "u1c"), ("u1b", "u1d")]),
    (
        {"max_per_user": 9},
        0.0,
        [("u1a", "u1d"), ("u1b", "u1c"), ("u1a", "u1c"), ("u1b", "u1d"), ("u1a", "u1b"), ("u1c", "u1d")],
    ),
    ({}, 0.3, [("u1a", "u1d"), ("u1a", "u1c")]),  # above sqrt(2) * 0.3 = 0.424
    ({"noise_factor": 2.0}, 0.3, []),
    ({"noise_factor": 0.0, "min_margin": 0.45}, 0.3, [("u1a", "u1d"), ("u1a", "u1c")]),
]


@pytest.mark.parametrize(("config", "noise", "expected"), CAPPED)
def test_capped(config, noise, expected):
    assert chosen_rejected(made(noise=noise, **config).rows) == expected


def test_the_noise_of_a_margin_may_be_given():
    def noise(compared: pa.Table) -> np.ndarray:
        assert compared.schema.names == ["chosen_id", "rejected_id"]
        return np.array([0.0 if chosen == "u1c" else 9.0 for chosen in compared["chosen_id"].to_pylist()])

    pairs = preference_pairs(SIX, rewards(VALUES, noise=5.0), prompts("u1"), margin_noise=noise)
    assert chosen_rejected(pairs.rows) == [("u1c", "u1d")]
    assert pairs.rows["noise"].to_pylist() == [0.0]


def test_lengths_are_matched():
    found = candidates(
        ("u1a", "u1", "llm", "a b c d e f g"), ("u1b", "u1", "llm", "a b c d"), ("u1c", "u1", "llm", "a b c d e f")
    )
    values = {"u1a": 0.9, "u1b": 0.1, "u1c": 0.2}
    assert chosen_rejected(made(found, values).rows) == [("u1a", "u1c"), ("u1c", "u1b")]  # 7 to 4 words is too much
    assert len(made(found, values, length_ratio=None).rows) == 3
    assert made(found, values, length_ratio=1.0).statistics.dropped_users == {"no_length_match": 1}


def test_faithful_takes_each_correct_with_each_wrong():
    correct = {"u1a": True, "u1b": False, "u1c": True, "u1d": False}
    values = {name: float(right) for name, right in correct.items()}
    pairs = made(values=values, correct=correct, mode="faithful", max_per_user=1, length_ratio=1.0)
    assert sorted(chosen_rejected(pairs.rows)) == [("u1a", "u1b"), ("u1a", "u1d"), ("u1c", "u1b"), ("u1c", "u1d")]
    with pytest.raises(DataError, match="'correct', which 4 of 4 rewards lack"):
        made(mode="faithful")


def test_a_row_says_where_it_comes_from():
    (row,) = made(max_per_user=1, noise=0.05).rows.to_pylist()
    assert made().rows.schema == PAIRS
    assert row.pop("pair_id") != made(max_per_user=2).rows["pair_id"][1].as_py()
    assert row.pop("cutoff").isoformat() == "2024-03-01T00:00:00+00:00"
    assert row.pop("margin") == pytest.approx(0.8)
    assert row.pop("noise") == pytest.approx(0.05 * 2**0.5)
    assert row == {
        "user_id": "u1",
        "window_digest": "window of u1",
        "reward": "judge",
        "prompt": "history of u1",
        "chosen": "one two three four",
        "rejected": "four five six seven",
        "chosen_id": "u1a",
        "rejected_id": "u1d",
        "chosen_generator": "llm",
        "rejected_generator": "rows",
        "chosen_value": 0.9,
        "rejected_value": 0.1,
        "chosen_words": 4,
        "rejected_words": 4,
    }


def test_every_user_without_a_pair_has_one_reason():
    texts = ("one two", "two one")
    found = candidates(
        *((f"u{n}{which}", f"u{n}", "llm", text) for n in range(1, 9) for which, text in zip("ab", texts, strict=True))
    )
    found = pa.concat_tables(
        [found.slice(0, 14), candidates(("u8a", "u8", "llm", "same"), ("u8b", "u8", "llm", "same"))]
    )
    values = {  # u2 has no reward
        **{"u1a": 1.0, "u1b": 0.0},
        **{"u3a": 1.0, "u3b": 1.0, "u4a": 0.0, "u4b": 0.0},
        **{"u5a": 1.0, "u5b": 0.0, "u6a": 0.3, "u6b": 0.2},
        **{"u7a": 0.5, "u7b": 0.5, "u8a": 1.0, "u8b": 1.0},
    }
    correct = {name: value >= 0.5 for name, value in values.items()} | {"u7b": False}
    pairs = made(found, values, correct, asked=("u1", "u2", "u3", "u4", "u6", "u7", "u8"), min_margin=0.2)
    statistics = pairs.statistics
    assert chosen_rejected(pairs.rows) == [("u1a", "u1b")]
    assert statistics.dropped_users == {
        "no_reward": 1,
        "one_distinct_text": 1,
        "all_correct": 1,
        "all_wrong": 1,
        "equal_values": 1,
        "no_prompt": 1,
        "no_margin_above_noise": 1,
    }
    assert (statistics.n_users, statistics.n_users_with_pairs) == (8, 1)
    assert (statistics.n_without_reward, statistics.n_same_text) == (2, 1)
    assert statistics.pairs_per_user == {0: 7, 1: 1}


def test_wins_of_generators():
    statistics = made(max_per_user=1).statistics
    assert statistics.wins == {"llm": {"llm": 1, "rows": 4}, "rows": {"rows": 1}}
    assert statistics.pair_wins == {"llm": {"rows": 1}}
    assert statistics.to_text().splitlines()[-3:] == [
        "          llm    rows",
        "    llm   1 (0)  4 (1)",
        "    rows  0 (0)  1 (0)",
    ]
    assert statistics.share_chosen_longer == 0.0


def test_no_pairs_at_all():
    pairs = made(noise_factor=0, min_margin=2)
    assert pairs.rows.schema == PAIRS
    assert len(pairs.rows) == 0
    assert pairs.statistics.share_chosen_longer is None
    assert pairs.statistics.to_text().startswith("0 pairs (capped) of 0 of 1 users")


def many() -> tuple[pa.Table, pa.Table]:
    rng = random.Random(3)
    rows = [
        (f"u{user}{draw}", f"u{user}", rng.choice(["x", "y"]), " ".join(rng.choices("abcdef", k=rng.randint(4, 9))))
        for user in range(1, 10)
        for draw in range(10)
    ]
    return candidates(*rows), rewards({row[0]: round(rng.random(), 2) for row in rows}, noise=0.05)


def test_the_order_of_the_rows_changes_nothing():
    found, given = many()
    asked = prompts(*sorted({row[:2] for row in given["user_id"].to_pylist()}))
    first = preference_pairs(found, given, asked)
    rng = np.random.default_rng(0)
    again = preference_pairs(*(table.take(rng.permutation(len(table))) for table in (found, given, asked)))
    assert again.rows.equals(first.rows)
    assert again.statistics == first.statistics


def test_capped_pairs_hold_their_limits():
    found, given = many()
    rows = preference_pairs(found, given, prompts(*{f"u{n}" for n in range(1, 10)})).rows
    words = np.stack([rows["chosen_words"].to_numpy(), rows["rejected_words"].to_numpy()])
    assert len(rows) > 20
    assert (rows["margin"].to_numpy() > rows["noise"].to_numpy()).all()
    assert (words.max(0) <= 1.5 * words.min(0)).all()
    assert max(np.unique(rows["user_id"].to_pylist(), return_counts=True)[1]) == 4


def test_balanced_pairs_leave_lengths_level():
    found, given = many()
    longer = pa.table({"candidate_id": found["candidate_id"], "n": found["n_words"]}).join(given, "candidate_id")
    short_is_better = pc.subtract(longer["value"], pc.multiply(longer["n"], 0.05))
    given = given.set_column(given.schema.get_field_index("value"), "value", _by_id(longer, short_is_better, given))
    surplus = {}
    for balanced in (False, True):
        config = PairConfig(balanced=balanced, noise_factor=0.0)
        rows = preference_pairs(found, given, prompts(*{f"u{n}" for n in range(1, 10)}), config).rows
        surplus[balanced] = pc.sum(pc.subtract(rows["chosen_words"], rows["rejected_words"])).as_py()
    assert surplus[False] < -15  # a reward that likes short texts
    assert abs(surplus[True]) <= 5


def _by_id(longer: pa.Table, values: pa.ChunkedArray, given: pa.Table) -> pa.Array:
    return values.take(pc.index_in(given["candidate_id"], longer["candidate_id"].combine_chunks()))


def test_shuffled_pairs_swap_half_of_the_rows_whatever_their_order():
    found, given = many()
    rows = preference_pairs(found, given, prompts(*{f"u{n}" for n in range(1, 10)}), PairConfig(max_per_user=40)).rows
    control = shuffled(rows, seed=1)
    assert control.schema == PAIRS
    swapped = np.array(control["margin"].to_pylist()) < 0
    assert abs(swapped.mean() - 0.5) < 4 * 0.5 / len(rows) ** 0.5
    for before, after, was_swapped in zip(rows.to_pylist(), control.to_pylist(), swapped, strict=True):
        sides = ("rejected", "chosen") if was_swapped else ("chosen", "rejected")
        for name in ("", "_id", "_generator", "_value", "_words"):
            assert (after[f"chosen{name}"], after[f"rejected{name}"]) == tuple(before[side + name] for side in sides)
    assert shuffled(rows.slice(3), 1).equals(control.slice(3))
    assert not shuffled(rows, seed=2).equals(control)


UNUSABLE = [
    (lambda f, r, p: (f, pa.concat_tables([r, r]), p), "Rewards: 4 of 8 rows repeat a candidate_id"),
    (lambda f, r, p: (f, r, pa.concat_tables([p, p])), "Prompts: 1 of 2 rows repeat a user_id"),
    (
        lambda f, r, p: (f, r.set_column(2, "reward", pa.array(["x", "y", "x", "y"])), p),
        "Rewards of 2 judges in one table",
    ),
    (lambda f, r, p: (f, rewards(VALUES | {"u1a": float("nan")}), p), "1 of 4 have no finite value"),
]


@pytest.mark.parametrize(("change", "message"), UNUSABLE)
def test_unusable_tables_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        preference_pairs(*change(SIX, rewards(VALUES), prompts("u1")))
