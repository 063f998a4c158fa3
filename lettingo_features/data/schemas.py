"""What a valid row is: the row rules as SQL for screening at the door, and the pandera contract of what passes it.

Measured (200,000 rows, pandera 0.35): pandera alone takes 0.2 s on clean rows but 77 s when every row fails, since it
builds one Python record per failure. So each row is screened by SQL rules, set-based, which list *all* reasons of a
row; the rows that pass are then validated by pandera, chunk by chunk and lazily, as the contract between this door and
everything behind it. The two state the same limits from the same arguments, and a test feeds them the same bad rows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import (
    CATEGORIES,
    EVENT_TIMESTAMP,
    EVENT_TYPE,
    ITEM_ID,
    RATING,
    TIMESTAMP,
    TITLE,
    USER_ID,
)
from lettingo_features.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pandera.pandas as pda

FUTURE_TOLERANCE = timedelta(minutes=10)  # clocks of collecting machines differ by seconds, not by more
REPLACEMENT_SQL = "chr(65533)"  # U+FFFD: stands where bytes were no text
EXACT_DUPLICATE = "exact_duplicate"
SUPERSEDED = "superseded_at_the_same_instant"
CONFLICT = "conflicts_with_ingested_row"

Rule = tuple[str, str]
"""(reason, SQL that is true for a bad row)."""

QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string()),
        pa.field("source_file", pa.string()),
        pa.field("row", pa.int64()),  # 1-based record number in the file; a header is record 1
        pa.field("raw", pa.string()),  # JSON: the canonical columns as read, or {"line": ...} for a line of no shape
        pa.field("reasons", pa.list_(pa.string())),
    ]
)


def latest_allowed(now: datetime) -> datetime:
    """The newest event timestamp that is not the future."""
    return now + FUTURE_TOLERANCE


def interaction_rules(scale: tuple[float, float] | None, latest: datetime) -> list[Rule]:
    """Row rules of interactions over ``user_id, item_id, timestamp_text, us, rating_text, rating_number, unreadable``.

    ``us`` is microseconds since 1970 or null, ``rating_number`` a double or null. A format with a ``scale`` (both ends
    included) requires a rating; without one a rating may be absent. The epoch itself counts as before 1970: a
    timestamp of 0 is how exports write "unknown".
    """
    latest_us = int(latest.timestamp() * 1_000_000)
    rules = [
        ("unreadable_row", "unreadable IS NOT NULL"),
        *_id_rules(USER_ID),
        *_id_rules(ITEM_ID),
        ("missing_timestamp", _blank("timestamp_text")),
        ("unparsable_timestamp", f"us IS NULL AND NOT {_blank('timestamp_text')}"),
        ("timestamp_before_1970", "us <= 0"),
        ("timestamp_in_future", f"us > {latest_us}"),
        ("rating_not_a_number", f"NOT {_blank('rating_text')} AND coalesce(NOT isfinite(rating_number), true)"),
    ]
    if scale is not None:
        low, high = map(float, scale)
        rules.append(("missing_rating", _blank("rating_text")))
        rules.append(
            ("rating_outside_scale", f"isfinite(rating_number) AND rating_number NOT BETWEEN {low} AND {high}")
        )
    return _only_readable(rules)


def item_rules() -> list[Rule]:
    """Row rules of items: the key must be there and be text; a title may be absent."""
    return _only_readable([("unreadable_row", "unreadable IS NOT NULL"), *_id_rules(ITEM_ID)])


def flags_sql(rules: list[Rule]) -> str:
    """SQL for one integer per row: bit ``i`` set where rule ``i`` finds the row bad."""
    return " + ".join(f"coalesce({test}, false)::BIGINT * {1 << i}" for i, (_, test) in enumerate(rules))


def reasons_sql(rules: list[Rule], flags: str) -> str:
    """SQL for the list of reasons in the integer column ``flags``."""
    cases = ", ".join(f"CASE WHEN {flags} & {1 << i} <> 0 THEN '{reason}' END" for i, (reason, _) in enumerate(rules))
    return f"list_filter([{cases}], lambda reason: reason IS NOT NULL)"


def interactions_schema(scale: tuple[float, float] | None, latest: datetime) -> pda.DataFrameSchema:
    """Pandera contract of validated interactions (Arrow-backed pandas frame).

    Columns: ``user_id``, ``item_id``, ``event_type`` non-empty text, ``event_timestamp`` in (1970, ``latest``] UTC,
    ``rating`` float32 within ``scale`` (nullable only without a scale).
    """
    pandas, pda = _libraries()
    bounds = None if scale is None else pda.Check.in_range(*scale)
    epoch = pandas.Timestamp(0, tz="UTC")
    in_time = [pda.Check.gt(epoch), pda.Check.le(pandas.Timestamp(latest))]
    return pda.DataFrameSchema(
        {
            USER_ID: _text_column(pandas, pda),
            ITEM_ID: _text_column(pandas, pda),
            EVENT_TIMESTAMP: pda.Column(pandas.ArrowDtype(TIMESTAMP), in_time),
            RATING: pda.Column(pandas.ArrowDtype(pa.float32()), bounds, nullable=scale is None),
            EVENT_TYPE: _text_column(pandas, pda),
        },
        strict=True,
    )


def items_schema() -> pda.DataFrameSchema:
    """Pandera contract of validated items: ``item_id`` non-empty, ``title`` text or null, ``categories`` a list."""
    pandas, pda = _libraries()
    return pda.DataFrameSchema(
        {
            ITEM_ID: _text_column(pandas, pda),
            TITLE: pda.Column(pandas.ArrowDtype(pa.string()), nullable=True),
            CATEGORIES: pda.Column(pandas.ArrowDtype(pa.list_(pa.string()))),
        },
        strict=True,
    )


def validate(schema: pda.DataFrameSchema, rows: pa.Table, what: str) -> None:
    """Check ``rows`` against ``schema`` lazily.

    Raises
    ------
    DataError
        Lists every failed check with how many rows fail it and an example.
    """
    pandas, pda = _libraries()
    try:
        schema.validate(rows.to_pandas(types_mapper=pandas.ArrowDtype), lazy=True)
    except pda.errors.SchemaErrors as error:
        cases = error.failure_cases
        found = [
            f"{column or 'table'}: {check} ({len(group):,} rows, for example {group['failure_case'].iloc[0]!r})"
            for (column, check), group in cases.groupby(["column", "check"], dropna=False)
        ]
        raise DataError(
            f"{what}: {len(found)} checks fail on {rows.num_rows:,} rows: {'; '.join(found)}. Correct the rows, or "
            "read them through ingest, which puts bad rows aside."
        ) from None


def _libraries():
    try:
        import pandas
        import pandera.pandas as pda
    except ImportError as error:
        raise MissingExtraError("Validating data", "train") from error
    return pandas, pda


def _text_column(pandas, pda) -> pda.Column:
    # Length by Arrow: pandas' own string methods take ten times as long on an Arrow column.
    filled = pda.Check(lambda s: pandas.Series(_lengths(s) > 0, index=s.index), name="not_empty")
    return pda.Column(pandas.ArrowDtype(pa.string()), filled)


def _lengths(series):
    return pc.fill_null(pc.binary_length(pa.array(series)), 0).to_numpy(zero_copy_only=False)


def _blank(column: str) -> str:
    return f"(trim(coalesce({column}, '')) = '')"


def _id_rules(column: str) -> list[Rule]:
    return [
        (f"missing_{column}", _blank(column)),
        (f"malformed_{column}", f"contains({column}, {REPLACEMENT_SQL})"),
    ]


def _only_readable(rules: list[Rule]) -> list[Rule]:
    """A line of no shape has one reason, not one per column that it lacks."""
    return [rules[0], *((reason, f"unreadable IS NULL AND {test}") for reason, test in rules[1:])]
