"""Intervals cover, p-values are uniform under the null, and Holm's correction matches a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lettingo_features.evaluation.statistics import Bootstrap, holm, paired_p_value


def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(0)
    p_values = [paired_p_value(rng.normal(size=40), 199, seed) for seed in range(200)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) < 0.10


def test_p_value_sees_a_shift_and_its_sign_does_not_matter():
    differences = np.random.default_rng(1).normal(0.5, 1, size=200)
    assert paired_p_value(differences, 999, 0) == paired_p_value(-differences, 999, 0) == 2 / 1000


def test_few_users_are_permuted_exactly():
    # 3 users, 8 sign patterns: +++ is one of them, --- as extreme on the other side.
    assert paired_p_value(np.array([1.0, 2.0, 3.0]), 9_999, 0) == pytest.approx(2 / 8)


def test_no_difference_at_all():
    assert paired_p_value(np.zeros(30), 199, 0) == 1.0


def test_intervals_cover_the_mean():
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(100):
        low, high = Bootstrap(80, 400, 0.95, seed).interval(rng.normal(3, 2, size=(1, 80)))
        hits += low <= 3 <= high
    assert 88 <= hits <= 99


def test_studentized_intervals_cover_a_skewed_mean_on_both_sides():
    rng = np.random.default_rng(5)
    missed = {"percentile": [0, 0], "studentized": [0, 0]}
    for seed in range(400):
        values = rng.exponential(size=40) - 1
        bootstrap = Bootstrap(40, 400, 0.9, seed)
        for name, (low, high) in {
            "percentile": bootstrap.interval(values[None]),
            "studentized": bootstrap.studentized_interval(values),
        }.items():
            missed[name][0] += low > 0
            missed[name][1] += high < 0
    assert missed["percentile"][1] > 0.1 * 400  # 5 % is meant to be missed on either side
    assert missed["studentized"][1] < 0.08 * 400
    assert sum(missed["studentized"]) < sum(missed["percentile"])


def test_studentized_intervals_of_many_alike_and_of_no_spread():
    values = np.random.default_rng(6).normal(0.3, 1, 2_000)
    bootstrap = Bootstrap(2_000, 1_000, 0.95, 0)
    assert bootstrap.studentized_interval(values) == pytest.approx(bootstrap.interval(values[None]), abs=0.005)
    assert Bootstrap(20, 100, 0.95, 0).studentized_interval(np.full(20, 0.25)) == (0.25, 0.25)
    low, high = Bootstrap(20, 100, 0.95, 0).studentized_interval(np.array([0.4] + [0.0] * 19))  # many have no spread
    assert -1 < low <= 0.02 <= high < 1


def test_intervals_know_the_seeds():
    # Users agree, seeds do not: an interval over users alone would be a point and would miss zero almost always.
    rng = np.random.default_rng(4)
    hits = 0
    for seed in range(100):
        low, high = Bootstrap(30, 400, 0.95, seed).interval(np.repeat(rng.normal(size=(10, 1)), 30, axis=1))
        hits += low <= 0 <= high
    assert 80 <= hits <= 99  # ten seeds show 9 / 10 of their variance


def test_intervals_share_their_draws():
    values = np.random.default_rng(3).normal(size=(3, 50))
    bootstrap = Bootstrap(50, 500, 0.9, 0)
    low, high = bootstrap.interval(values)
    assert bootstrap.interval(values + 1) == pytest.approx((low + 1, high + 1))
    assert Bootstrap(50, 500, 0.9, 0).interval(values) == (low, high)
    assert Bootstrap(50, 500, 0.9, 1).interval(values) != (low, high)


def test_holm():
    # sorted .01 .03 .04 -> .01*3, .03*2, .04*1 -> .03, .06, max(.06, .04)
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1.0, 1.0])
