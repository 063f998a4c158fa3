"""Vectors beside the mean of their writer's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.shared_wording import beside_mean, beside_writers

VECTORS = np.float32([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0, 1]])


def test_beside_mean():
    found = beside_mean(VECTORS)
    assert (found.dtype, found.shape) == (np.float32, (4, 3))
    assert found + VECTORS.mean(axis=0) == pytest.approx(VECTORS, abs=1e-6)
    assert found.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)


def test_no_text_stays_no_text_and_moves_no_mean():
    some = np.concatenate([VECTORS[:2], np.zeros((1, 3), np.float32), VECTORS[2:]])
    found = beside_mean(some)
    assert not found[2].any()
    assert found[[0, 1, 3, 4]] == pytest.approx(beside_mean(VECTORS), abs=1e-6)
    assert not beside_mean(np.zeros((2, 3), np.float32)).any()


@pytest.mark.parametrize("n", [1, 3, 1_000])
def test_one_text_for_everybody_is_exactly_zero(n):
    text = np.random.default_rng(n).normal(size=384).astype(np.float32)
    assert not beside_mean(np.tile(text, (n, 1))).any()


@pytest.mark.parametrize(
    ("generators", "styles", "groups"),
    [
        (["a", "a", "a", "a"], ["s", "s", "s", "s"], [[0, 1, 2, 3]]),  # 0
        (["a", "b", "a", "b"], ["s", "s", "s", "s"], [[0, 2], [1, 3]]),  # 1
        (["a", "a", "a", "a"], ["s", "t", "t", "s"], [[0, 3], [1, 2]]),  # 2
        (["a", "b", "a", "b"], ["s", "s", "t", "t"], [[0], [1], [2], [3]]),  # 3
    ],
)
def test_each_generator_and_style_has_a_mean_of_its_own(generators, styles, groups):
    found = beside_writers(VECTORS, pa.table({"generator": generators, "style": styles}))
    for rows in groups:
        assert found[rows] == pytest.approx(beside_mean(VECTORS[rows]))


def test_no_text_at_all():
    nothing = pa.table({"generator": pa.array([], pa.string()), "style": pa.array([], pa.string())})
    assert beside_writers(VECTORS[:0], nothing).shape == (0, 3)
