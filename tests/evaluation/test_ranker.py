"""The ranker learns an order, and the same one again."""

from __future__ import annotations

import numpy as np

from lettingo_features.evaluation.ranker import RankerConfig, train_ranker

CONFIG = RankerConfig(trees=20, leaves=7, min_rows_per_leaf=10)
N_QUERIES, PER_QUERY = 80, 6


def queries():
    """The positive is the row with the largest second feature; NaN where the first is unknown."""
    rng = np.random.default_rng(0)
    matrix = rng.random((N_QUERIES, PER_QUERY, 3)).astype(np.float32)
    matrix[::3, :, 0] = np.nan
    labels = (matrix[:, :, 1] == matrix[:, :, 1].max(axis=1, keepdims=True)).astype(int)
    return matrix.reshape(-1, 3), labels.ravel(), np.full(N_QUERIES, PER_QUERY)


def test_learns_the_order():
    matrix, labels, sizes = queries()
    scores = (
        train_ranker(matrix, labels, sizes, CONFIG, seed=0).predict(matrix, num_threads=1).reshape(N_QUERIES, PER_QUERY)
    )
    hits = scores.argmax(axis=1) == labels.reshape(N_QUERIES, PER_QUERY).argmax(axis=1)
    assert hits.mean() > 0.9  # chance is 1 / 6


def test_seed_decides():
    given = queries()
    first, again, other = (train_ranker(*given, CONFIG, seed).predict(given[0], num_threads=1) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
