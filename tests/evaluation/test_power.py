"""Sample sizes against the textbook, against simulation, and against each other."""

from __future__ import annotations

import numpy as np
import pytest

from lettingo_features.evaluation.power import PairedDesign
from lettingo_features.evaluation.statistics import paired_p_value


@pytest.mark.parametrize(
    ("effect", "alpha", "power", "users"),
    [(0.5, 0.05, 0.8, 32), (0.2, 0.05, 0.8, 197), (0.2, 0.05, 0.9, 263), (0.2, 0.01, 0.8, 292), (50, 0.05, 0.8, 2)],
)
def test_users_of_the_normal_approximation(effect, alpha, power, users):
    assert PairedDesign(1.0, alpha).users(effect, power) == users


def test_power_detectable_effect_and_users_agree():
    design = PairedDesign(0.3, 0.02)
    effect = design.detectable(500, 0.8)
    assert design.power(effect, 500) == pytest.approx(0.8)
    assert design.users(effect * 1.0001, 0.8) == 500


def test_power_is_what_a_permutation_test_has():
    rng, design = np.random.default_rng(0), PairedDesign(1.0, 0.05)
    found = [paired_p_value(rng.normal(0.4, 1, 50), 499, seed) <= 0.05 for seed in range(200)]
    assert np.mean(found) == pytest.approx(design.power(0.4, 50), abs=0.06)


def test_the_spread_that_is_planned_with_is_seldom_too_small():
    rng = np.random.default_rng(1)
    planned = [PairedDesign.of(rng.normal(0, 2, 200), 0.05).spread for _ in range(400)]
    assert 0.92 < np.mean(np.array(planned) > 2) < 0.99
    assert np.median(planned) < 2 * 1.15


def test_rare_differences_are_planned_with_more_room():
    rare, common = np.zeros(100), np.full(100, 0.1)
    rare[:2], common[::2] = 1.0, -0.1
    assert PairedDesign.of(rare, 0.05).spread / rare.std() > PairedDesign.of(common, 0.05).spread / common.std() + 0.2


def test_differences_without_spread():
    design = PairedDesign.of(np.full(10, 0.3), 0.05)
    assert design.spread == pytest.approx(0, abs=1e-12)
    assert PairedDesign(0.0, 0.05).power(0.1, 10) == 1.0
    assert PairedDesign(0.0, 0.05).users(0.1, 0.8) == 2
