"""How different candidates are, on texts small enough to count by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lettingo_features.alignment.diversity import diversity, diversity_text
from lettingo_features.evaluation.features import normalised
from tests.alignment.rows import candidates

ROWS = [  # candidate, user, generator, text
    ("a", "u", "x", "red red blue"),
    ("b", "u", "x", "red red blue"),
    ("c", "v", "x", "blue"),
    ("d", "u", "y", "green red"),
    ("e", "v", "y", "green\nred blue red"),
]
COUNTS = [  # generator, texts, different a user, distinct-1, distinct-2, words at p10, p50, p90
    ("x", 3, 2 / 2, 2 / 7, 2 / 4, [1.4, 3, 3]),
    ("y", 2, 2 / 2, 3 / 6, 3 / 4, [2.2, 3, 3.8]),  # green red, red blue, blue red
    ("all", 5, 4 / 2, 3 / 13, 4 / 8, [1.4, 3, 3.6]),  # ... and red red
]
VECTORS = normalised(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))


def test_counts():
    rows = diversity(candidates(*ROWS), VECTORS)
    found = [
        (row["generator"], row["n"], row["texts_per_user"], row["distinct_1"], row["distinct_2"], row["words"])
        for row in rows
    ]
    for given, expected in zip(found, COUNTS, strict=True):
        assert given[:2] == expected[:2]
        assert given[2:5] == pytest.approx(expected[2:5])
        assert given[5] == pytest.approx(expected[5])


def test_spread_is_the_mean_of_the_users_mean_cosine_distances():
    rng = np.random.default_rng(1)
    users = [*rng.choice(["u", "v", "w"], 14).tolist(), "alone"]  # who has one candidate has no distance
    vectors = normalised(rng.normal(size=(15, 6)).astype(np.float32))
    table = candidates(*((f"c{n}", user, "x", f"text {n}") for n, user in enumerate(users)))
    expected = []
    for user in "uvw":
        mine = [vector for vector, name in zip(vectors, users, strict=True) if name == user]
        expected.append(np.mean([1 - one @ other for one, other in combinations(mine, 2)]))
    assert diversity(table, vectors)[-1]["spread"] == pytest.approx(np.mean(expected), abs=1e-6)


SPREADS = [  # vectors of one user's candidates, spread
    ([[1, 0], [1, 0], [1, 0]], 0),  # equal
    ([[1, 0], [0, 1]], 1),
    ([[1, 0], [-1, 0]], 2),
    ([[1, 0]], 0),  # alone
]


@pytest.mark.parametrize(("vectors", "spread"), SPREADS)
def test_spread_by_hand(vectors, spread):
    table = candidates(*((f"c{n}", "u", "x", "t") for n in range(len(vectors))))
    assert diversity(table, np.array(vectors, dtype=np.float32))[-1]["spread"] == pytest.approx(spread, abs=1e-6)


def test_styles_are_kinds_of_their_own():
    table = candidates(*ROWS)
    table = table.set_column(table.schema.get_field_index("style"), "style", [["s", "t", "s", "s", "s"]])
    kinds = [(row["generator"], row["style"], row["n"]) for row in diversity(table, VECTORS)]
    assert kinds == [("x", "s", 2), ("x", "t", 1), ("y", "s", 2), ("all", "", 5)]


def test_order_changes_nothing():
    order = np.array([3, 0, 4, 2, 1])
    given, mixed = diversity(candidates(*ROWS), VECTORS), diversity(candidates(*ROWS).take(order), VECTORS[order])
    for one, other in zip(given, mixed, strict=True):
        assert {**one, "spread": 0} == {**other, "spread": 0}
        assert one["spread"] == pytest.approx(other["spread"], abs=1e-6)


def test_texts_of_one_word_have_no_pairs():
    [_, row] = diversity(candidates(("a", "u", "x", "red"), ("b", "u", "x", "blue")), VECTORS[:2])
    assert (row["distinct_1"], row["distinct_2"]) == (1, 0)


def test_table():
    lines = diversity_text(diversity(candidates(*ROWS), VECTORS)).splitlines()
    assert len(lines) == 5 and lines[2].split()[:5] == ["x", "3", "1.00", "0.286", "0.500"]
    assert lines[-1].split()[-3:] == ["1", "3", "4"]
