"""Golden values, ties, masks, and what an uninformative scorer must get."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from lettingo_features.evaluation.metrics import DEPTH, MEASURES, Measures, rank

NOTHING = np.zeros((1, 30), dtype=bool)


def test_golden():
    scores = np.arange(30, 0, -1.0)[None]  # item 0 first, then item 1 ...
    ranking = rank(scores, NOTHING, ["u"], seed=0)
    assert ranking.items.tolist() == [list(range(DEPTH))]
    assert ranking.tied.tolist() == [0.0]
    relevant = np.array([1, 4, 19, 25])  # places 2, 5, 20, 26
    values = Measures(np.zeros(4, dtype=int), relevant, 1).of(ranking)[0]
    ideal = 1 / log2(2) + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)
    assert dict(zip(MEASURES, values, strict=True)) == pytest.approx(
        {
            "nDCG@10": (1 / log2(3) + 1 / log2(6)) / ideal,  # places 2 and 5 of the first ten
            "R@20": 3 / 4,  # place 20 is inside, 26 is not
            "RR@10": 1 / 2,
        }
    )


def test_reciprocal_rank_ends_at_ten():
    ranking = rank(np.arange(30, 0, -1.0)[None], NOTHING, ["u"], seed=0)
    for item, expected in ((9, 1 / 10), (10, 0.0)):
        values = Measures(np.array([0]), np.array([item]), 1).of(ranking)[0]
        assert values[MEASURES.index("RR@10")] == pytest.approx(expected)


def test_excluded_items_are_never_ranked():
    excluded = NOTHING.copy()
    excluded[0, :25] = True
    ranking = rank(np.arange(30, 0, -1.0)[None], excluded, ["u"], seed=0)
    assert ranking.items.tolist() == [[25, 26, 27, 28, 29] + [-1] * (DEPTH - 5)]
    excluded[:] = True
    assert (rank(np.ones((1, 30)), excluded, ["u"], seed=0).items == -1).all()


def test_tie_rate_counts_places_with_company():
    scores = np.zeros((1, 30))
    scores[0, :19] = np.arange(19, 0, -1)  # 19 distinct scores, then 11 zeros for the last place
    assert rank(scores, NOTHING, ["u"], seed=0).tied[0] == pytest.approx(1 / 20)
    scores[0, 1] = scores[0, 0]  # and two at the top
    assert rank(scores, NOTHING, ["u"], seed=0).tied[0] == pytest.approx(3 / 20)


def test_ties_are_broken_by_seed_and_user_alone():
    tied = np.zeros((2, 30))
    mask = np.zeros((2, 30), dtype=bool)
    both = rank(tied, mask, ["u", "v"], seed=0)
    alone = rank(tied[:1], mask[:1], ["v"], seed=0)
    assert both.items[1].tolist() == alone.items[0].tolist()  # not by the place among the users
    assert both.items[0].tolist() != both.items[1].tolist()
    assert rank(tied, mask, ["u", "v"], seed=1).items.tolist() != both.items.tolist()


@pytest.mark.parametrize("n_values", [1, 3])  # all tied; three coarse levels, as in DUET's script
def test_uninformative_scorer_gets_chance(n_values):
    n_users, n_items = 3000, 50
    rng = np.random.default_rng(0)
    scores = rng.integers(n_values, size=(n_users, n_items)).astype(float)
    ranking = rank(scores, np.zeros(scores.shape, dtype=bool), [str(u) for u in range(n_users)], seed=0)
    # The relevant item is always the first one: a stable sort would put it on top.
    values = Measures(np.arange(n_users), np.zeros(n_users, dtype=int), n_users).of(ranking).mean(axis=0)
    places = np.arange(1, 11)
    expected = [np.sum(1 / np.log2(places + 1)) / n_items, 20 / n_items, np.sum(1 / places) / n_items]
    assert values == pytest.approx(expected, rel=0.08)
    assert ranking.tied.mean() == 1.0
