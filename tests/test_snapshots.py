"""Cutoff schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lettingo_features.errors import ConfigError
from lettingo_features.snapshots import distinct_cutoffs, parse_interval, snapshot_cutoffs, utc

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("1w", timedelta(days=7)),
        (" 2d ", timedelta(days=2)),  # blanks around it are harmless
    ],
)
def test_parse_interval(text, duration):
    assert parse_interval(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",  # no unit
        "d",  # no number
        "0d",  # would never advance
        "-1d",
        "1.5d",
        "30m",  # months or minutes?
        "30D",
        "1d12h",
        "٣d",  # digits that are not ASCII
        "9999999999999w",  # longer than Python's calendar
    ],
)
def test_parse_interval_refuses(text):
    with pytest.raises(ConfigError, match="interval"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("end", "every", "offsets_h"),
    [
        (START, "1d", [0]),  # start = end: one cutoff
        (START + timedelta(days=2), "1d", [0, 24, 48]),  # the end is a cutoff too
        (START + timedelta(days=2, microseconds=-1), "1d", [0, 24]),  # just short of it
        (START + timedelta(days=1), "12h", [0, 12, 24]),
        (START + timedelta(days=8), "1w", [0, 168]),  # what is left over is dropped
    ],
)
def test_snapshot_cutoffs(end, every, offsets_h):
    assert snapshot_cutoffs(START, end, every) == [START + timedelta(hours=hours) for hours in offsets_h]


def test_snapshot_cutoffs_are_utc_whatever_the_zone():
    east = timezone(timedelta(hours=2))
    cutoffs = snapshot_cutoffs(datetime(2024, 1, 1, 2, tzinfo=east), datetime(2024, 1, 2, 2, tzinfo=east), "1d")
    assert cutoffs == [START, START + timedelta(days=1)]
    assert {cutoff.tzinfo for cutoff in cutoffs} == {UTC}


def test_snapshot_cutoffs_refuses_an_end_before_the_start():
    with pytest.raises(ConfigError, match="after its end"):
        snapshot_cutoffs(START, START - timedelta(hours=1), "1d")


def test_a_time_without_a_zone_is_refused():
    naive = datetime(2024, 1, 1)
    with pytest.raises(ConfigError, match="no zone"):
        utc(naive)
    with pytest.raises(ConfigError, match="no zone"):
        snapshot_cutoffs(naive, START, "1d")


def test_distinct_cutoffs_sorts_and_drops_repeats():
    later = START + timedelta(days=1)
    same_in_the_east = START.astimezone(timezone(timedelta(hours=5)))
    assert distinct_cutoffs([later, START, same_in_the_east]) == [START, later]
