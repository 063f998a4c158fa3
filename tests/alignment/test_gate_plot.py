"""The gate's plot: every user is counted once, on the right side, and the mean stands where it belongs."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from lettingo_features.alignment.gate import GateConfig, MinimumEffect, PairedMetric, decide
from lettingo_features.alignment.gate_plot import difference_figure, difference_plot

CONFIG = GateConfig(minimum_effect=MinimumEffect(absolute=0.1), permutations=999, resamples=200)


def plotted(differences: list[float], name: str = "nDCG@10"):
    released = np.full(len(differences), 0.5)
    metric = PairedMetric(name, released + differences, released)
    return metric, decide([metric], config=CONFIG).comparisons[0]


def test_users_are_counted_on_their_side_of_zero():
    plot = difference_plot(*plotted([-0.25, -0.25, 0, 0, 0, 0.125, 0.25, 0.5]))
    assert (plot.lose, plot.same, plot.gain) == (2, 3, 3)
    counted = [int(re.search(r"([\d,]+) users", bar.label)[1]) for bar in plot.bars]
    sides = [
        sum(count for count, bar in zip(counted, plot.bars, strict=True) if bar.css == css)
        for css in ("loses", "gains")
    ]
    assert sides == [2, 3]
    assert all((bar.at < 50) == (bar.css == "loses") for bar in plot.bars)
    assert max(bar.value for bar in plot.bars) == 100
    assert [tick.at for tick in plot.bar_ticks][1] == 50


def test_a_far_user_is_counted_in_the_outermost_bar():
    plot = difference_plot(*plotted([*np.linspace(-1, 1, 100), 50.0]))
    assert plot.gain == 51
    assert "and beyond" in plot.bars[-1].label and plot.bars[-1].value > 0


def test_mean_interval_zero_and_minimum_share_an_axis():
    metric, found = plotted([0.3, 0.1, 0.2, 0.0] * 10)
    found = replace(found, difference=0.15, interval=(0.05, 0.2), minimum=0.1)
    plot = difference_plot(metric, found)
    unit = (plot.mean.value - plot.zero) / 0.15
    assert plot.minimum == pytest.approx(plot.zero + 0.1 * unit, abs=0.05)
    assert plot.mean.at == pytest.approx(plot.zero + 0.05 * unit, abs=0.05)
    assert plot.mean.size == pytest.approx(0.15 * unit, abs=0.05)


def test_no_user_differs():
    plot = difference_plot(*plotted([0.0, 0.0, 0.0]))
    assert (plot.bars, plot.same) == ([], 3)


@pytest.mark.parametrize("differences", [[0.3, 0.1, -0.2, 0.0] * 10, [0.0, 0.0], [-1e-9, 2e-9, 3e-9]])
def test_the_figure_is_well_formed_and_escapes_names(differences):
    metric, found = plotted(differences, name="<script>&")
    figure = difference_figure(metric, found, 0.95)
    root = ElementTree.fromstring(figure)
    assert root.tag == "figure" and root.find("script") is None
    assert len(root.findall("svg")) == 2
    assert "95 % interval" in root.find("figcaption").text and root.find("figcaption").text.startswith("<script>&")
