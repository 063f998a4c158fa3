"""Cutoff schedules: at which instants a backfill looks at the past."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from lettingo_features.errors import ConfigError

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_interval(text: str) -> timedelta:
    """A whole number of hours, days or weeks as a duration.

    Raises
    ------
    ConfigError
        ``text`` is not a positive whole number followed by ``h``, ``d`` or ``w``.

    Examples
    --------
    >>> parse_interval("12h")
    datetime.timedelta(seconds=43200)
    >>> parse_interval("1w") == parse_interval("7d")
    True
    """
    match = re.fullmatch(r"([0-9]+)([hdw])", text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(
            f"interval {text!r} is not understood: write a positive whole number and a unit, "
            "h (hours), d (days) or w (weeks), such as 12h, 30d or 1w"
        )
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        raise ConfigError(f"interval {text!r} is longer than any calendar: use a shorter one") from None


def utc(instant: datetime) -> datetime:
    """``instant`` in UTC.

    Raises
    ------
    ConfigError
        ``instant`` has no time zone: guessing one could move a cutoff by hours and let the future in.
    """
    if instant.utcoffset() is None:
        raise ConfigError(f"the time {instant.isoformat()} has no zone: give one, such as {instant.isoformat()}+00:00")
    return instant.astimezone(UTC)


def distinct_cutoffs(cutoffs: Iterable[datetime]) -> list[datetime]:
    """The cutoffs in UTC, each once, oldest first; raises ConfigError for one without a zone."""
    return sorted({utc(cutoff) for cutoff in cutoffs})


def snapshot_cutoffs(start: datetime, end: datetime, every: str) -> list[datetime]:
    """Cutoffs from ``start`` every ``every``, both ends included: ``start + k * every <= end``, in UTC.

    ``end`` itself may be a cutoff, since a window ends just before its cutoff. Steps are absolute durations, so
    a change to summer time moves nothing.

    Parameters
    ----------
    start, end : datetime
        Aware instants, of any zone.
    every : str
        Distance between two cutoffs, as read by :func:`parse_interval`.

    Raises
    ------
    ConfigError
        A time has no zone, ``start`` is after ``end``, or ``every`` is not understood.

    Examples
    --------
    >>> days = snapshot_cutoffs(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), "30d")
    >>> [day.date().isoformat() for day in days]
    ['2024-01-01', '2024-01-31', '2024-03-01']
    """
    first, last, step = utc(start), utc(end), parse_interval(every)
    if first > last:
        raise ConfigError(
            f"the backfill starts at {first.isoformat()}, after its end {last.isoformat()}: swap --start and --end"
        )
    return [first + index * step for index in range((last - first) // step + 1)]
