"""Vectors beside the mean of their writer's."""

from __future__ import annotations

import numpy as np
import pytest

from lettingo_features.alignment.shared_wording import beside_mean

VECTORS = np.float32([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0, 1]])


def test_beside_mean():
    found = beside_mean(VECTORS)
    assert (found.dtype, found.shape) == (np.float32, (4, 3))
    assert found + VECTORS.mean(axis=0) == pytest.approx(VECTORS, abs=1e-6)
    assert found.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 1_000])
def test_one_text_for_everybody_is_exactly_zero(n):
    text = np.random.default_rng(n).normal(size=384).astype(np.float32)
    assert not beside_mean(np.tile(text, (n, 1))).any()
