"""Which point of a training is kept, from a hand-made table of points."""

from __future__ import annotations

import pytest

from lettingo_features.alignment.selection import Point, SelectionConfig, best_point

BASE = Point(0, 0.5, 20.0)
CASES = [  # (step, value, words) of the points, length ratio, step that is kept
    ([(10, 0.6, 20.0), (20, 0.8, 19.0), (30, 0.7, 18.0)], 1.25, 20),  # the best
    ([(10, 0.6, 20.0), (20, 0.8, 17.0), (30, 0.9, 15.0)], 1.25, 20),  # the best that is long enough: 16 words
    ([(10, 0.6, 20.0), (20, 0.7, 25.0), (30, 0.9, 25.1)], 1.25, 20),  # and not too long
    ([(10, 0.7, 20.0), (20, 0.7, 20.0)], 1.25, 10),  # of equals the earlier
    ([(10, 0.2, 20.0), (20, 0.1, 20.0)], 1.25, 10),  # worse than the base: the gate will say so
    ([(10, 0.6, 8.0), (20, 0.9, 12.0), (30, 0.9, 6.0)], 1.25, 20),  # none within: nearest in length
    ([(10, 0.6, 0.0)], 1.25, 10),  # a model that falls silent
]


@pytest.mark.parametrize(("points", "ratio", "kept"), CASES)
def test_best_point(points, ratio, kept):
    table = [BASE, *(Point(*row) for row in points)]
    assert best_point(table, SelectionConfig(length_ratio=ratio)).step == kept
