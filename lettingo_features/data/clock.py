"""Which clock a column of timestamps runs on: seconds, milliseconds, microseconds, nanoseconds or ISO 8601.

The rule, per column, decided on the first chunk of the file and then kept for all of it:

====================  ==============================================
value                 unit
====================  ==============================================
ISO 8601 text         ``iso`` (no offset means UTC)
1e8  <= v < 1e11      ``s``   (1973 to 5138)
1e11 <= v < 1e14      ``ms``  (1973 to 5138)
1e14 <= v < 1e17      ``us``
1e17 <= v < 1e20      ``ns``
====================  ==============================================

The ranges do not overlap and the last 50 years lie well inside each. The unit that covers at least 95 % of the values
which are a time at all is the column's; no such unit means that the column is ambiguous, an error: name the unit in
the mapping. Single values on another clock then fall far outside the calendar and are quarantined one by one.
"""

from __future__ import annotations

from typing import Literal

import duckdb

from lettingo_features.errors import FormatError

Unit = Literal["s", "ms", "us", "ns", "iso"]
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns", "iso")
MAJORITY = 0.95

_RANGES = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17), "ns": (1e17, 1e20)}
# A double holds microseconds exactly until 2255 (2**53), so fractions of seconds survive; nanoseconds do not fit one.
_MICROSECONDS = {
    "s": "try_cast(round(try_cast({text} AS DOUBLE) * 1000000) AS BIGINT)",
    "ms": "try_cast(round(try_cast({text} AS DOUBLE) * 1000) AS BIGINT)",
    "us": "try_cast({text} AS BIGINT)",
    "ns": "try_cast({text} AS BIGINT) // 1000",
    "iso": "epoch_us(try_cast({text} AS TIMESTAMPTZ))",
}


def microseconds_sql(unit: Unit, text: str) -> str:
    """SQL for the microseconds since 1970 of the text column ``text``; null where it is no time on that clock."""
    return _MICROSECONDS[unit].format(text=text)


def detect_unit(connection: duckdb.DuckDBPyConnection, texts_sql: str, where: str) -> Unit:
    """The unit of a column of texts.

    Parameters
    ----------
    connection : DuckDB connection
        Its time zone is UTC.
    texts_sql : str
        SQL for the first chunk of the column, named ``timestamp_text``.
    where : str
        The column and file, for messages.

    Raises
    ------
    FormatError
        No value is a time, or no unit covers 95 % of those that are.
    """
    number = "try_cast(timestamp_text AS DOUBLE)"
    tests = {unit: f"{number} >= {low} AND {number} < {high}" for unit, (low, high) in _RANGES.items()}
    tests["iso"] = f"{number} IS NULL AND try_cast(timestamp_text AS TIMESTAMPTZ) IS NOT NULL"
    counts = ", ".join(f"count(*) FILTER ({test}) AS {unit}" for unit, test in tests.items())
    numbers = f"count(*) FILTER ({number} IS NOT NULL) AS numbers"
    *found, n_numbers, example, total = connection.execute(
        f"SELECT {counts}, {numbers}, any_value(timestamp_text), count(timestamp_text) FROM ({texts_sql})"
    ).fetchall()[0]
    by_unit = dict(zip(tests, found, strict=True))
    times = n_numbers + by_unit["iso"]
    if not times:
        raise FormatError(
            f"{where} is of the wrong type: none of its first {total:,} values is a number or an ISO 8601 time "
            f"(for example {example!r}). Map the timestamp to the column that holds it."
        )
    unit, n = max(by_unit.items(), key=lambda pair: pair[1])
    if n < MAJORITY * times:
        seen = ", ".join(f"{name}: {count:,}" for name, count in by_unit.items() if count)
        raise FormatError(
            f"{where} is ambiguous: of its first {times:,} times no unit covers 95 % ({seen or 'none fits any unit'}; "
            f"for example {example!r}). Name its unit (timestamp_unit: {', '.join(UNITS)}) in a mapping, or split it."
        )
    return unit  # type: ignore[return-value]
