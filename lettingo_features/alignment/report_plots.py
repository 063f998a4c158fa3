"""Where things go in the report's own plots: lines over training steps, and histograms; all numbers are percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.evaluation.report_plots import Mark, axis_ticks, interval_scale

POINTS = 120
"Most points of a line; more steps are averaged in equal groups."
DOTS = 12
"A line of so few points shows them as dots as well."
BINS, LEAST = 24, 7
"Bins of a histogram, and the least for whole numbers: one bar alone is no plot."


@dataclass(frozen=True)
class Line:
    """``points`` as SVG wants them, each the mean of ``steps`` of the log's ``n`` values.

    ``first`` and ``last`` are means of a tenth of the values: one batch alone is noise.
    """

    label: str
    css: str
    points: str
    dots: list[tuple[float, float]]
    first: float
    last: float
    n: int
    steps: int


@dataclass(frozen=True)
class Panel:
    """Lines over steps, on one pair of axes."""

    title: str
    lines: list[Line]
    x_ticks: list[Mark]
    y_ticks: list[Mark]


PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("loss", (("loss", "training", "training"), ("loss", "held-out", "held-out"))),
    (
        "accuracy: share of pairs ranked right",
        (("accuracy", "training", "training"), ("accuracy", "held-out", "held-out")),
    ),
    ("margin", (("margin", "training", "training"), ("margin", "held-out", "held-out"))),
    ("implicit reward", (("chosen_reward", "training", "chosen"), ("rejected_reward", "training", "rejected"))),
    (
        "log-probability, nats a text",
        (("chosen_log_prob", "training", "chosen"), ("rejected_log_prob", "training", "rejected")),
    ),
    ("tokens a text", (("chosen_tokens", "training", "chosen"), ("rejected_tokens", "training", "rejected"))),
    ("entropy, nats a token", (("entropy", "training", "training"),)),
)
"Title, and (column, pairs, label) of each line; a panel whose lines are all empty is left out."


def training_panels(log: pa.Table) -> list[Panel]:
    """The curves of one ``training.csv``."""
    panels = []
    for title, wanted in PANELS:
        series = {}
        for column, pairs, label in wanted:
            steps, values = _series(log, column, pairs)
            if len(steps):
                series[label] = steps, values
        if series:
            panels.append(panel(title, series))
    return panels


def panel(title: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Panel:
    """Lines of (steps, values), float64 (N,) each, N >= 1, by label."""
    drawn = {label: _averaged(*pair) for label, pair in series.items()}
    steps = np.concatenate([pair[0] for pair in drawn.values()])
    values = np.concatenate([pair[1] for pair in drawn.values()])
    left, right = float(steps.min()), float(steps.max())
    right = right if right > left else left + 1
    low, high = interval_scale(values.tolist(), zero=False)
    lines = []
    for number, (label, (x, y)) in enumerate(drawn.items()):
        places = [(_at(a, left, right), round(100 - _at(b, low, high), 2)) for a, b in zip(x, y, strict=True)]
        own = series[label][1]
        tenth = max(1, len(own) // 10)
        lines.append(
            Line(
                label=label,
                css=f"line{number}",
                points=" ".join(f"{a:g},{b:g}" for a, b in places),
                dots=places if len(places) <= DOTS else [],
                first=float(own[:tenth].mean()),
                last=float(own[-tenth:].mean()),
                n=len(own),
                steps=-(-len(own) // len(x)),
            )
        )
    return Panel(
        title,
        lines,
        [Mark(_at(tick, left, right), label=f"{tick:,.0f}") for tick in axis_ticks(left, right) if tick == int(tick)],
        [Mark(_at(tick, low, high), label=f"{tick:.4g}") for tick in axis_ticks(low, high)],
    )


def histogram(values: np.ndarray, unit: str) -> tuple[list[Mark], list[Mark]]:
    """Bars and ticks of ``values`` float (N,) in equal bins, the few integers of a count in bins of their own."""
    values = values[np.isfinite(values)]
    if not len(values):
        return [], []
    low, high = float(values.min()), float(values.max())
    whole = high - low < BINS and bool((values == np.round(values)).all())
    if whole:
        air = max(0.0, (LEAST - (high - low)) // 2)
        edges = np.arange(low - air - 0.5, high + air + 1)
        names = [f"{middle:.0f}" for middle in edges[:-1] + 0.5]
    else:
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        names = [f"{start:.3g} to {end:.3g}" for start, end in pairwise(edges)]
    counts, _ = np.histogram(values, edges)
    size = 100 / len(counts)
    bars = [
        Mark(
            round(number * size, 2),
            round(size, 2),
            round(100 * float(count) / counts.max(), 2),
            f"{name}: {count:,} {unit}",
        )
        for number, (name, count) in enumerate(zip(names, counts.tolist(), strict=True))
    ]
    ticks = [at for at in axis_ticks(float(edges[0]), float(edges[-1])) if not whole or at == int(at)]
    return bars, [Mark(_at(tick, float(edges[0]), float(edges[-1])), label=f"{tick:.4g}") for tick in ticks]


def _series(log: pa.Table, column: str, pairs: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one column, float64 (N,); N = 0 for a column that the training does not have."""
    if column not in log.column_names or not log.num_rows:
        return np.empty(0), np.empty(0)
    rows = log.filter(pc.equal(log["pairs"], pairs))
    values = pc.cast(rows[column], pa.float64()).to_numpy()
    kept = np.isfinite(values)
    return rows["step"].to_numpy().astype(float)[kept], values[kept]


def _averaged(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most ``POINTS`` points, each the mean of as many neighbours (the last of what is left)."""
    size = -(-len(steps) // POINTS)
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _at(value: float, low: float, high: float) -> float:
    return round(100 * (float(value) - low) / (high - low), 2)
