"""Hundreds of gates on planted differences: how often each verdict comes, against what alpha and power promise.

Seeds are fixed, so a test passes always or never. What they promise holds by construction, with room for 200 gates:
identical generators are promoted with probability alpha / 2 at most, and P(Binomial(200, 0.025) > 10) is 1.3 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from lettingo_features.alignment.verdict import Decision
from tests.alignment.planted_gate import gates, heavy, identical, planted, skewed

ALPHA, GATES = 0.05, 200


def share(verdicts, decision: Decision) -> float:
    return float(np.mean([verdict.decision == decision for verdict in verdicts]))


def test_the_design_leaves_room_for_chance():
    assert binom.sf(ALPHA * GATES, GATES, ALPHA / 2) < 0.015
    assert binom.sf(ALPHA * GATES, GATES, ALPHA) > 0.4  # a one-sided test at alpha would pass by luck alone


@pytest.mark.parametrize(
    ("world", "n_users", "n_metrics"),
    [
        (planted, 300, 1),
        (planted, 300, 3),
        (planted, 40, 3),
        (heavy, 100, 1),
        (identical, 500, 1),
        (skewed, 100, 1),
        (skewed, 300, 1),
    ],
)
def test_identical_generators_are_rarely_promoted(world, n_users, n_metrics):
    verdicts = gates(world, n_users, 0.0, 0.03, GATES, n_metrics, seed=1)
    promoted, rejected = share(verdicts, Decision.PROMOTE), share(verdicts, Decision.REJECT)
    print(f"{world.__name__}, {n_users} users, {n_metrics} metrics: {promoted:.1%} promoted, {rejected:.1%} rejected")
    assert promoted <= ALPHA
    # any metric told apart, in either direction: Holm's family
    told_apart = sum(any(each.sign for each in verdict.comparisons) for verdict in verdicts)
    assert binom.sf(told_apart - 1, GATES, ALPHA) > 0.01


@pytest.mark.parametrize(("world", "minimum", "n_metrics"), [(planted, 0.03, 1), (planted, 0.03, 3), (heavy, 0.05, 1)])
def test_a_gain_of_the_minimum_effect_is_found_with_the_users_that_the_gate_asks_for(world, minimum, n_metrics):
    verdicts = gates(world, 200, minimum, minimum, GATES, n_metrics, seed=2, pilot=True)
    promoted = share(verdicts, Decision.PROMOTE)
    users = np.median([verdict.comparisons[0].n_users for verdict in verdicts])
    print(f"{world.__name__}, {n_metrics} metrics: {promoted:.1%} promoted with a median of {users:,.0f} users")
    assert 0.8 <= promoted <= 0.95  # above, the gate would ask for far too many users


def test_a_candidate_that_is_worse_is_rejected_or_held_and_never_promoted():
    verdicts = gates(planted, 600, -0.03, 0.03, 100, 3, seed=3)
    assert share(verdicts, Decision.PROMOTE) == 0
    assert share(verdicts, Decision.REJECT) > 0.5


def test_a_gain_far_below_the_minimum_is_held_as_too_small():
    verdicts = gates(heavy, 2_000, 0.03, 0.06, 20, 1, seed=4)
    assert share(verdicts, Decision.HOLD) > 0.9
    assert sum("by too little" in verdict.reasons[0] for verdict in verdicts) > 10
