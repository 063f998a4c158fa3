"""Places in the alignment report's plots, checked by eye: all numbers are percent."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment import report_plots as plots


def test_lines_share_both_axes():
    series = {
        "training": (np.array([0.0, 50.0, 100.0]), np.array([1.0, 0.5, 0.0])),
        "held-out": (np.array([100.0]), np.array([0.5])),
    }
    found = plots.panel("loss", series)
    # y runs from -0.04 to 1.04: 4 % of the span as air at both ends
    assert [line.points for line in found.lines] == ["0,3.7 50,50 100,96.3", "100,50"]
    assert [(line.label, line.first, line.last, line.n) for line in found.lines] == [
        ("training", 1.0, 0.0, 3),
        ("held-out", 0.5, 0.5, 1),
    ]
    assert [tick.label for tick in found.x_ticks] == ["0", "50", "100"]
    assert [(tick.label, tick.at) for tick in found.y_ticks] == [("0", 3.7), ("0.5", 50.0), ("1", 96.3)]


def test_many_steps_become_means_of_equally_many():
    steps = np.arange(1.0, 301.0)
    [line] = plots.panel("loss", {"training": (steps, steps)}).lines
    assert (line.steps, line.n, line.first, line.last) == (3, 300, 15.5, 285.5)
    assert len(line.points.split()) == 100 and line.dots == []


def test_panels_of_a_log_leave_out_what_it_lacks():
    log = pa.table(
        {
            "step": [1, 2, 2],
            "pairs": ["training", "training", "held-out"],
            "loss": [0.7, float("nan"), 0.6],  # a loss that is no number is not drawn
            "accuracy": pa.array([None, 0.5, None], pa.float64()),
            "margin": pa.nulls(3),
        }
    )
    found = {panel.title: [(line.label, line.n) for line in panel.lines] for panel in plots.training_panels(log)}
    assert found == {
        "loss": [("training", 1), ("held-out", 1)],
        "accuracy: share of pairs ranked right": [("training", 1)],
    }
    assert plots.training_panels(log.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0, 6], {"0: 2 pairs", "6: 1 pairs"}),  # whole numbers each have their bin
        ([5, 5], {"5: 2 pairs"}),
        ([0.0, 0.5, 2.4], {"0 to 0.1: 1 pairs", "0.5 to 0.6: 1 pairs", "2.3 to 2.4: 1 pairs"}),
        ([0.25], {"0.25 to 0.292: 1 pairs"}),
        ([1.0, np.inf], {"1: 1 pairs"}),
    ],
)
def test_histograms_count_every_value(values, labels):
    bars, ticks = plots.histogram(np.array(values, dtype=float), "pairs")
    assert {bar.label for bar in bars if bar.value} == labels
    assert len(bars) >= plots.LEAST and max(bar.value for bar in bars) == 100
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_nothing_to_count():
    assert plots.histogram(np.array([]), "pairs") == ([], [])
