"""Places in the report's plots, checked by eye: all numbers are percent."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lettingo_features.evaluation import report_plots as plots
from lettingo_features.evaluation.splits import Split


def at(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2020, month, day, hour, tzinfo=UTC)


def test_timeline_places_bars_bands_and_cutoffs():
    days = [at(3, 4), at(3, 1), at(3, 10)]  # shuffled, with gaps
    activity = pa.table({"day": pa.array(days, pa.timestamp("us", "UTC")), "interactions": pa.array([4, 8, 2])})
    split = Split(at(3, 6), at(3, 8), at(3, 10, 12))
    # the second cutoff has no place on the axis, the third no time zone
    found = plots.timeline(activity, [at(3, 6), at(4, 1), datetime(2020, 3, 3, 12)], split)
    assert found.bin_days == 1 and len(found.bars) == 10
    assert {bar.at: bar.value for bar in found.bars if bar.value} == {0: 100, 30: 50, 90: 25}
    assert found.bars[3].label == "4 Mar 2020: 4 interactions"
    assert [(band.css, band.at, band.size) for band in found.bands] == [
        ("history", 0, 50),
        ("train", 50, 20),
        ("test", 70, 25),  # the end is noon of the last day
    ]
    assert [(line.at, line.label) for line in found.cutoffs] == [(25, "3 Mar 2020"), (50, "6 Mar 2020")]


def test_timeline_of_twenty_years_keeps_every_interaction_in_a_few_bars():
    days = pa.array([datetime(year, 1, 1, tzinfo=UTC) for year in range(1996, 2017)], pa.timestamp("us", "UTC"))
    split = Split(*(datetime(year, 1, 1, tzinfo=UTC) for year in (2008, 2012, 2016)))
    found = plots.timeline(pa.table({"day": days, "interactions": pa.array([1] * 21)}), [], split)
    assert len(found.bars) <= plots.TIMELINE_BARS
    assert sum(int(bar.label.split(": ")[1].split()[0]) for bar in found.bars) == 21
    assert [tick.label for tick in found.x_ticks] == ["2000", "2005", "2010", "2015"]


@pytest.mark.parametrize(
    ("start", "end", "labels"),
    [
        (at(1, 1), at(5, 1), ["Jan 2020", "Feb 2020", "Mar 2020", "Apr 2020"]),
        (at(1, 2), at(12, 1), ["Mar 2020", "May 2020", "Jul 2020", "Sep 2020", "Nov 2020"]),
        (at(3, 5), at(3, 6), ["5 Mar"]),  # one day
        (at(3, 5), at(3, 25), ["5 Mar", "10 Mar", "15 Mar", "20 Mar"]),
    ],
)
def test_date_ticks(start, end, labels):
    assert [label for _, label in plots.date_ticks(start, end)] == labels


@pytest.mark.parametrize(
    ("top", "ticks"), [(0, [1]), (3, [1, 2, 3]), (870, [250, 500, 750]), (0.02, [0.005, 0.01, 0.015, 0.02])]
)
def test_nice_ticks(top, ticks):
    assert plots.nice_ticks(top) == ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(-1.08, 1.08, [-1, 0, 1]), (0.105, 0.182, [0.12, 0.14, 0.16, 0.18]), (-6.5, -6.3, [-6.5, -6.4, -6.3])],
)
def test_axis_has_two_ticks_at_least(low, high, ticks):
    assert plots.axis_ticks(low, high) == pytest.approx(ticks)


def test_rating_strip_shows_what_no_profile_saw():
    history = [
        {"event_timestamp": at(3, 1), "title": "A", "categories": ["Drama", "Crime"], "rating": 5.0},
        {"event_timestamp": at(3, 2), "title": "B", "categories": [], "rating": None},  # half height, grey
        {"event_timestamp": at(3, 3), "title": "C", "categories": ["Crime"], "rating": 2.5},  # at the cutoff: unseen
        {"event_timestamp": at(3, 4), "title": "D", "categories": ["Drama"], "rating": 0.0},  # still visible
    ]
    bars, lines = plots.rating_strip(history, [at(3, 3), at(2, 1)], {"Drama": "c0", "Crime": "c1"})
    assert [(bar.at, bar.value, bar.css) for bar in bars] == [
        (0, 100, "c0"),
        (25, 50, "cx"),
        (50, 50, "c1 unseen"),
        (75, 5, "c0 unseen"),
    ]
    assert [(line.at, line.label) for line in lines] == [(50, "3 Mar 2020")]  # the one before all history has no place


def test_colours_go_to_the_most_frequent_categories():
    rows = [{"categories": [f"n{number}" for number in range(place, 12)]} for place in range(12)]  # n11 most, n0 least
    colours = plots.category_colours([rows[:5], rows[5:]])
    assert colours["n11"] == "c0" and colours["n2"] == "c9"
    assert colours["n1"] == colours["n0"] == "cx"


def test_stages_follow_one_another_and_parts_add_nothing():
    bars = plots.stage_bars([("ingest", 2.0), ("profiles", 8.0)], {"profiles": {"text": 6.0, "write": 1.0}})
    assert [(bar.label, bar.at, bar.size, bar.css) for bar in bars] == [
        ("ingest", 0, 20, "stage"),
        ("profiles", 20, 80, "stage"),
        ("text", 20, 60, "part"),
        ("write", 80, 10, "part"),
    ]


def test_word_bars_bin_and_keep_all_texts():
    bars, ticks = plots.word_bars([(60, 1), (20, 5), (21, 5), (100, 2)])
    assert [(bar.at, bar.value) for bar in bars if bar.value] == [(0, 100), (47.06, 10), (94.12, 20)]  # bins of 5 words
    assert bars[0].label == "20 to 24 words: 10 texts"
    assert [tick.label for tick in ticks] == ["20", "40", "60", "80", "100"]
    assert plots.word_bars([]) == ([], [])


def test_intervals_share_an_axis_that_holds_zero():
    marks, ticks = plots.interval_marks([0.5, -0.25], [(0.0, 1.0), (-1.0, 0.5)])
    # the axis runs from -1.08 to 1.08: 4 % of its length of 2 as air at both ends
    assert [(mark.at, mark.size, mark.value) for mark in marks] == [(50, 46.3, 73.15), (3.7, 69.45, 38.43)]
    assert [(tick.label, tick.at) for tick in ticks] == [("-1", 3.7), ("0", 50.0), ("1", 96.3)]


def test_intervals_of_scores_start_at_zero():
    marks, _ = plots.interval_marks([0.05], [(0.04, 0.06)])
    assert (marks[0].at, marks[0].value) == (64.1, 80.13)  # of 0 to 0.0624
