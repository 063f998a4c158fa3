"""The gate's plot: who gains and who loses, and the mean difference with its interval, as one piece of HTML.

Drawn as in ``evaluation.report_plots``: positions in percent, text and lines in pixels. Colours are those of the
report's style sheet where the piece stands in a report, and its own elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lettingo_features.alignment.gate import PairedMetric
from lettingo_features.alignment.verdict import Comparison
from lettingo_features.evaluation.report_page import page_template
from lettingo_features.evaluation.report_plots import Mark, interval_marks, nice_ticks

SIDE_BARS = 12
"Bars on each side of zero."
SHOWN = 0.98
"Share of the changed users that the histogram's axis reaches; the others are counted in its outermost bars."


@dataclass(frozen=True)
class DifferencePlot:
    """Where things go, in percent.

    Attributes
    ----------
    bars : list of Mark
        Changed users by difference, those that lose (``css`` "loses") left of the middle, which is zero.
    bar_ticks : list of Mark
    mean : Mark
        ``value`` is the mean, ``at`` and ``size`` its interval.
    mean_ticks : list of Mark
    zero, minimum : float
        Of no difference and of the minimum effect on the mean's axis.
    gain, lose, same : int
        Users.
    """

    bars: list[Mark]
    bar_ticks: list[Mark]
    mean: Mark
    mean_ticks: list[Mark]
    zero: float
    minimum: float
    gain: int
    lose: int
    same: int


def difference_plot(metric: PairedMetric, comparison: Comparison) -> DifferencePlot:
    """Place the paired differences of ``metric``, and what ``comparison`` found of them.

    Users without a difference are counted, not drawn: their bar would dwarf all others.
    """
    differences = metric.differences
    changed = differences[differences != 0]
    bars, bar_ticks = _histogram(changed)
    spots = [comparison.difference, comparison.minimum]
    (mean, minimum), mean_ticks = interval_marks(spots, [comparison.interval, (comparison.minimum, comparison.minimum)])
    gain = int((changed > 0).sum())
    return DifferencePlot(
        bars=bars,
        bar_ticks=bar_ticks,
        mean=mean,
        mean_ticks=mean_ticks,
        zero=next(tick.at for tick in mean_ticks if float(tick.label) == 0),
        minimum=minimum.value,
        gain=gain,
        lose=len(changed) - gain,
        same=len(differences) - len(changed),
    )


def difference_figure(metric: PairedMetric, comparison: Comparison, confidence: float) -> str:
    """`difference_plot` as an HTML ``figure`` with inline SVG; nothing in it needs escaping again.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    return page_template(Path(__file__).with_suffix(".html")).render(
        plot=difference_plot(metric, comparison), found=comparison, confidence=confidence
    )


def _histogram(changed: np.ndarray) -> tuple[list[Mark], list[Mark]]:
    if not len(changed):
        return [], [Mark(50.0, label="0")]
    top = float(np.quantile(np.abs(changed), SHOWN))
    edges = top / SIDE_BARS * np.arange(-SIDE_BARS, SIDE_BARS + 1)
    counts, _ = np.histogram(np.clip(changed, edges[0], edges[-1]), edges)
    size = 100 / len(counts)
    bars = [
        Mark(
            round(number * size, 2),
            round(size, 2),
            round(100 * count / counts.max(), 2),
            f"{edges[number]:+.3g} to {edges[number + 1]:+.3g}{_beyond(number, counts)}: {count:,} users",
            "loses" if number < SIDE_BARS else "gains",
        )
        for number, count in enumerate(counts.tolist())
    ]
    step = nice_ticks(top, 2)[-1]
    return bars, [Mark(round(50 * (1 + at / top), 2), label=f"{at:+.3g}" if at else "0") for at in (-step, 0.0, step)]


def _beyond(number: int, counts: np.ndarray) -> str:
    return " and beyond" if number in (0, len(counts) - 1) else ""
