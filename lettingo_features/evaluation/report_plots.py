"""Where things go in the report: plain numbers in percent of a plot's width or height, drawn as SVG by the template.

Percentages let the browser scale positions but not text, lines or dots, so plots stay readable at phone width; colours
come from the page's style sheet, so one plot serves light and dark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, floor, log10
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.evaluation.splits import Split

TIMELINE_BARS = 120
"Most bars in the timeline: at phone width a bar is then still two pixels wide."
STRIP_BARS = 60
"Newest interactions drawn per user, for the same reason."
COLOURS = 10
"Category colours in the style sheet, c0 to c9; further categories share the grey 'cx'."


@dataclass(frozen=True)
class Mark:
    """A rectangle, tick or line: ``at`` and ``size`` along the axis, ``value`` across it, all in percent."""

    at: float
    size: float = 0.0
    value: float = 0.0
    label: str = ""
    css: str = ""


@dataclass(frozen=True)
class Timeline:
    """Interactions per bin of ``bin_days`` days, with the split's periods as bands and the cutoffs as lines."""

    bars: list[Mark]
    bands: list[Mark]
    cutoffs: list[Mark]
    x_ticks: list[Mark]
    y_ticks: list[Mark]
    bin_days: int


def utc(instant: datetime) -> datetime:
    """``instant`` in UTC; one without a zone is UTC already."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def day(instant: datetime) -> str:
    """As in ``5 Mar 2013``, whatever the locale."""
    return f"{instant.day} {_month(instant)} {instant.year}"


def timeline(activity: pa.Table, cutoffs: Sequence[datetime], split: Split) -> Timeline | None:
    """Place daily counts ``activity`` (day timestamp, interactions int64; any order, with gaps); None when empty."""
    if not activity.num_rows:
        return None
    days = pc.cast(pc.cast(activity["day"], pa.timestamp("us")), pa.int64()).to_numpy() // 86_400_000_000
    counts = activity["interactions"].to_numpy()
    first, n_days = int(days.min()), int(days.max() - days.min()) + 1
    width = ceil(n_days / TIMELINE_BARS)
    n_bins = ceil(n_days / width)
    totals = np.bincount((days - first) // width, weights=counts, minlength=n_bins)
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=first)
    span = timedelta(days=n_bins * width)

    def at(instant: datetime) -> float:
        return _percent((utc(instant) - start) / span)

    steps = nice_ticks(float(totals.max()))
    top = max(steps[-1], float(totals.max()))
    bars = [
        Mark(
            _percent(number / n_bins),
            _percent(1 / n_bins),
            _percent(total / top),
            f"{day(start + timedelta(days=number * width))}: {total:,.0f} interactions",
        )
        for number, total in enumerate(totals)
    ]
    edges = (("history", start), ("train", split.train_start), ("test", split.test_start), ("", split.end))
    places = [min(max(at(instant), 0.0), 100.0) for _, instant in edges]
    bands = [Mark(places[n], round(places[n + 1] - places[n], 2), css=edges[n][0]) for n in range(3)]
    lines = [Mark(at(cutoff), label=day(utc(cutoff)), css="cutoff") for cutoff in sorted(map(utc, cutoffs))]
    return Timeline(
        bars=bars,
        bands=bands,
        cutoffs=[line for line in lines if 0 <= line.at <= 100],
        x_ticks=[Mark(at(instant), label=label) for instant, label in date_ticks(start, start + span)],
        y_ticks=[Mark(0, value=_percent(step / top), label=f"{step:,.0f}") for step in steps],
        bin_days=width,
    )


def nice_ticks(top: float, most: int = 4) -> list[float]:
    """At most ``most`` round steps above 0 up to ``top``.

    >>> nice_ticks(870)
    [250.0, 500.0, 750.0]
    """
    if top <= 0:
        return [1.0]
    power = 10.0 ** floor(log10(top / most))
    step = next(unit * power for unit in (1, 2, 2.5, 5, 10) if top / (unit * power) < most + 1e-9)
    return [round(step * n, 12) for n in range(1, floor(top / step + 1e-9) + 1)]


def date_ticks(start: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """Between two and five round dates in ``[start, end)``, or just the first day of a very short span."""
    months = [
        datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
        for number in range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    ]
    for step in (1, 2, 3, 6, 12, 24, 60, 120, 240):
        ticks = [m for m in months if (m.year * 12 + m.month - 1) % step == 0 and start <= m < end]
        if 2 <= len(ticks) <= 5:
            return [(m, str(m.year) if step >= 12 else f"{_month(m)} {m.year}") for m in ticks]
    step = timedelta(days=max(1, ceil((end - start).days / 4)))
    ticks = [start + step * n for n in range(5) if start + step * n < end]
    return [(tick, f"{tick.day} {_month(tick)}") for tick in ticks]


def category_counts(*histories: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Interactions by category over ``histories``, most first, then by name."""
    counts = Counter(name for rows in histories for row in rows for name in row["categories"])
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def category_colours(histories: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Style class of each category: the most frequent ones over all histories get a colour of their own."""
    ranked = category_counts(*histories)
    return {name: f"c{place}" if place < COLOURS else "cx" for place, name in enumerate(ranked)}


def rating_strip(
    history: Sequence[Mapping[str, Any]], cutoffs: Sequence[datetime], colours: Mapping[str, str]
) -> tuple[list[Mark], list[Mark]]:
    """Bars, one per interaction (oldest first, height = share of the best rating), and lines, one per cutoff.

    ``history`` is sorted by time. One step per interaction rather than per day: many people rate dozens of titles in
    one sitting, which on a time axis would be one bar.
    """
    shown = history[-STRIP_BARS:]
    top = max((row["rating"] for row in shown if row["rating"] is not None), default=None) or 1.0
    newest = max(cutoffs, default=None)
    bars = []
    for place, row in enumerate(shown):
        height = 0.5 if row["rating"] is None else min(max(row["rating"] / top, 0.05), 1.0)
        unseen = newest is not None and row["event_timestamp"] >= newest
        css = next((colours[name] for name in row["categories"]), "cx") + (" unseen" if unseen else "")
        rating = "no rating" if row["rating"] is None else f"rated {row['rating']:g}"
        label = f"{row['title']}, {rating}, {day(row['event_timestamp'])}"
        bars.append(Mark(_percent(place / len(shown)), _percent(1 / len(shown)), _percent(height), label, css))
    lines = {}
    for cutoff in sorted(cutoffs):
        before = sum(row["event_timestamp"] < cutoff for row in shown)
        if before:  # one before all that is shown has no place here
            lines[before] = Mark(_percent(before / len(shown)), label=day(cutoff))
    return bars, list(lines.values())


def stage_bars(stages: Sequence[tuple[str, float]], parts: Mapping[str, Mapping[str, float]]) -> list[Mark]:
    """Seconds (``value``) as bars (``size``), each beginning where the one before ended.

    ``parts`` splits some stages, by name: their bars follow below the stage's own and add nothing to the total.
    """
    total = sum(seconds for _, seconds in stages) or 1.0
    bars, start = [], 0.0
    for name, seconds in stages:
        bars.append(Mark(_percent(start / total), _percent(seconds / total), seconds, name, "stage"))
        inner = start
        for part, part_seconds in parts.get(name, {}).items():
            bars.append(Mark(_percent(inner / total), _percent(part_seconds / total), part_seconds, part, "part"))
            inner += part_seconds
        start += seconds
    return bars


def interval_scale(values: Sequence[float], zero: bool = True) -> tuple[float, float]:
    """Ends of an axis that shows all ``values``, and 0 if ``zero``, with a little air."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    air = 0.04 * ((high - low) or 1.0)
    return (0.0 if zero and low == 0 else low - air), high + air


def interval_marks(
    means: Sequence[float], intervals: Sequence[tuple[float, float]], zero: bool = True
) -> tuple[list[Mark], list[Mark]]:
    """Interval plots on one common axis that holds 0 if ``zero``: ``value`` is the dot, the rest the interval; ticks.

    Without zero for values that are far from it and differ little, as log-likelihoods; dots, unlike bars, allow it.
    """
    low, high = interval_scale([*means, *(end for interval in intervals for end in interval)], zero)
    marks = [
        Mark(
            _share(lower, low, high),
            round(_share(upper, low, high) - _share(lower, low, high), 2),
            _share(mean, low, high),
        )
        for mean, (lower, upper) in zip(means, intervals, strict=True)
    ]
    return marks, [Mark(_share(tick, low, high), label=f"{tick:.4g}") for tick in axis_ticks(low, high)]


def axis_ticks(low: float, high: float) -> list[float]:
    """A few round values, two at least, in ``[low, high]``.

    >>> axis_ticks(-0.3, 1.1)
    [0.0, 0.5, 1.0]
    """
    for most in (3, 6):
        step = nice_ticks(high - low, most)[0]
        ticks = [step * n for n in range(ceil(low / step), floor(high / step) + 1)]
        if len(ticks) > 1:  # one alone shows no scale
            break
    return ticks


def word_bars(histogram: Sequence[tuple[int, int]], most: int = 24) -> tuple[list[Mark], list[Mark]]:
    """Bars and ticks of texts by length from (words, texts) pairs in any order, words in bins of equal width."""
    if not histogram:
        return [], []
    words = np.array([pair[0] for pair in histogram])
    texts = np.array([pair[1] for pair in histogram])
    width = next(
        w for w in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10**9) if words.max() // w - words.min() // w < most
    )
    first = int(words.min()) // width
    totals = np.bincount(words // width - first, weights=texts)
    bars = [
        Mark(
            _percent(number / totals.size),
            _percent(1 / totals.size),
            _percent(total / totals.max()),
            f"{(first + number) * width} to {(first + number + 1) * width - 1} words: {total:,.0f} texts",
        )
        for number, total in enumerate(totals)
    ]
    every = ceil(totals.size / 5)
    ticks = [Mark(bars[n].at, label=str((first + n) * width)) for n in range(0, totals.size, every)]
    return bars, ticks


def _share(value: float, low: float, high: float) -> float:
    return _percent((value - low) / (high - low))


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


def _month(instant: datetime) -> str:
    return ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[instant.month - 1]
