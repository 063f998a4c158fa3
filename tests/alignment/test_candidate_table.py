"""Arms beside each other: means, intervals and paired tests against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lettingo_features.alignment.candidate_table import CandidateTable, differences_text, means_text
from lettingo_features.errors import DataError

RNG = np.random.default_rng(0)
HARD = RNG.normal(0, 3, 300)  # what is easy or hard about a user, the same for all arms
ARMS = {name: HARD + gain + RNG.normal(0, 0.2, 300) for name, gain in (("a", 0.5), ("b", 0.5), ("c", 0.0))}


def test_means_with_intervals():
    rows = CandidateTable(ARMS).means()
    assert [(row.arm, row.n_users) for row in rows] == [("a", 300), ("b", 300), ("c", 300)]
    for row in rows:
        values = ARMS[row.arm]
        assert row.mean == pytest.approx(values.mean())
        assert row.share_above_zero == (values > 0).mean()
        wanted = stats.t.interval(0.95, 299, values.mean(), stats.sem(values))
        assert row.interval == pytest.approx(wanted, abs=0.05)


def test_paired_differences_see_what_intervals_of_means_hide():
    table = CandidateTable(ARMS)
    same, better = table.differences([("a", "b"), ("a", "c")])
    assert same.interval[0] < 0 < same.interval[1]
    assert same.p_value > 0.05
    assert better.interval == pytest.approx((0.5, 0.5), abs=0.1)
    assert better.p_value == pytest.approx(2e-4, abs=1e-4)
    first, _, third = table.means()
    assert first.interval[0] < third.interval[1]  # unpaired, they overlap


def test_holm_over_the_pairs_asked_for():
    table = CandidateTable(ARMS)
    (alone,) = table.differences([("a", "c")])
    among = table.differences([("a", "c"), ("b", "c"), ("a", "b")])
    assert alone.adjusted == alone.p_value
    assert among[0].p_value == alone.p_value
    assert among[0].adjusted == pytest.approx(3 * alone.p_value)


REFUSED = [
    ({"a": np.zeros(3), "b": np.zeros(4)}, "on the same users"),
    ({"a": np.zeros(1), "b": np.zeros(1)}, "two at least"),
    ({"a": np.zeros(3), "b": np.array([0, np.nan, 1])}, "b: 1 of 3 values are not finite"),
]


@pytest.mark.parametrize(("values", "says"), REFUSED)
def test_refused(values, says):
    with pytest.raises(DataError, match=says):
        CandidateTable(values)


def test_texts_hold_the_figures():
    table = CandidateTable(ARMS)
    mean = table.means()[2]
    line = next(line for line in means_text([mean]).splitlines() if line.startswith("c"))
    assert f"{mean.mean:+.4f}" in line and f"[{mean.interval[0]:+.4f}, {mean.interval[1]:+.4f}]" in line
    (gap,) = table.differences([("a", "c")])
    line = differences_text([gap]).splitlines()[-1]
    assert line.split()[:4] == ["a", "-", "c", f"{gap.mean:+.4f}"]
    assert line.split()[-2:] == [f"{gap.p_value:.4f}", f"{gap.adjusted:.4f}"]
