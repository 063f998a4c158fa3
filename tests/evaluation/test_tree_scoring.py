"""The scorer gives LightGBM's own scores: unknown values, float32 thresholds, every kind of feature."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from lettingo_features.evaluation.features import PairFeatures
from lettingo_features.evaluation.tree_scoring import MAX_LEAVES, TreeScorer

N_USERS, N_ITEMS = 40, 50


def features(unknown: float, seed: int = 0) -> PairFeatures:
    """Values on a coarse grid, so that many rows lie exactly on a threshold; a share of them unknown."""
    rng = np.random.default_rng(seed)

    def values(*shape):
        grid = np.round(rng.normal(size=shape), 1).astype(np.float32)
        return np.where(rng.random(shape) < unknown, np.float32(np.nan), grid)

    return PairFeatures(
        user=values(N_USERS, 3),
        item=values(N_ITEMS, 2),
        pair=(values(N_USERS, N_ITEMS), values(N_USERS, N_ITEMS)),
    )


def booster(given: PairFeatures, trees: int, leaves: int) -> lightgbm.Booster:
    matrix = given.matrix()
    known = np.nan_to_num(matrix, nan=-0.5)
    target = known[:, 0] * known[:, 3] + known[:, 5] * (known[:, 6] > 0) + known[:, 1]
    parameters = {
        "objective": "regression",
        "num_leaves": leaves,
        "verbose": -1,
        "num_threads": 1,
        "min_data_in_leaf": 5,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(matrix, target, params={"verbose": -1}), trees)


@pytest.mark.parametrize(
    ("in_training", "in_test"),
    [
        (0.2, 0.2),  # unknown values have a direction of their own
        (0.0, 0.0),
        (0.0, 0.2),  # never seen in training: read as 0
    ],
)
@pytest.mark.parametrize("leaves", [2, 7, MAX_LEAVES])
def test_equals_lightgbm(in_training, in_test, leaves):
    ranker = booster(features(in_training), trees=30, leaves=leaves)
    asked = features(in_test, seed=1)
    expected = ranker.predict(asked.matrix()).reshape(N_USERS, N_ITEMS)
    np.testing.assert_allclose(TreeScorer(ranker).scores(asked), expected, rtol=0, atol=1e-9)
    assert len(np.unique(expected)) > 5


def test_every_kind_of_split_was_tried():
    used = booster(features(0.2), trees=30, leaves=MAX_LEAVES).feature_importance("split")
    assert (used[[0, 1, 3, 5, 6]] > 0).all()  # users 0-2, items 3-4, pairs 5-6


def test_a_tree_without_a_split():
    given = features(0.0)
    matrix = given.matrix()
    flat = lightgbm.train({"verbose": -1}, lightgbm.Dataset(matrix, np.full(len(matrix), 2.0)), 1)
    np.testing.assert_allclose(TreeScorer(flat).scores(given), 2.0)
