"""The pandera contract and the SQL rules draw the same line, and one validation lists every failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lettingo_features.columns import TIMESTAMP
from lettingo_features.data.schemas import (
    FUTURE_TOLERANCE,
    flags_sql,
    interaction_rules,
    interactions_schema,
    items_schema,
    latest_allowed,
    reasons_sql,
    validate,
)
from lettingo_features.errors import DataError
from lettingo_features.sql import connect

NOW = datetime(2025, 1, 1, tzinfo=UTC)
LATEST = latest_allowed(NOW)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
GOOD = {"user_id": "u", "item_id": "i", "event_timestamp": NOW, "rating": 3.0, "event_type": "rating"}

CASES = [  # (changes to a good row, reasons by the SQL rules; none: both let it pass)
    ({}, []),
    ({"rating": 1.0}, []),  # both ends of the scale are inside
    ({"rating": 5.0}, []),
    ({"event_timestamp": LATEST}, []),  # so is the last instant
    ({"event_timestamp": EPOCH + US}, []),
    ({"user_id": None}, ["missing_user_id"]),
    ({"user_id": ""}, ["missing_user_id"]),
    ({"item_id": None}, ["missing_item_id"]),
    ({"rating": 0.5}, ["rating_outside_scale"]),
    ({"rating": 5.5}, ["rating_outside_scale"]),
    ({"rating": None}, ["missing_rating"]),
    ({"event_timestamp": None}, ["missing_timestamp"]),
    ({"event_timestamp": LATEST + US}, ["timestamp_in_future"]),
    ({"event_timestamp": EPOCH}, ["timestamp_before_1970"]),
    ({"user_id": "", "item_id": None, "rating": 9.0}, ["missing_user_id", "missing_item_id", "rating_outside_scale"]),
]


def table(*rows: dict) -> pa.Table:
    types = {"user_id": pa.string(), "item_id": pa.string(), "event_timestamp": TIMESTAMP, "rating": pa.float32()}
    types["event_type"] = pa.string()
    return pa.Table.from_pylist(list(rows), pa.schema(list(types.items())))


def reasons(row: dict) -> list[str]:
    rules = interaction_rules((1, 5), LATEST)
    connection = connect()
    rows = table(row)
    connection.register("rows", rows)
    return connection.execute(f"""
        SELECT {reasons_sql(rules, "flags")} FROM (SELECT {flags_sql(rules)} AS flags FROM (
            SELECT user_id, item_id, event_timestamp::VARCHAR AS timestamp_text, epoch_us(event_timestamp) AS us,
                   rating::VARCHAR AS rating_text, rating::DOUBLE AS rating_number, NULL::VARCHAR AS unreadable
            FROM rows))""").fetchall()[0][0]


@pytest.mark.parametrize(("change", "want"), CASES)
def test_rules_and_contract_agree(change, want):
    row = GOOD | change
    assert reasons(row) == want
    if not want:
        validate(interactions_schema((1, 5), LATEST), table(row), "rows")
        return
    with pytest.raises(DataError):
        validate(interactions_schema((1, 5), LATEST), table(row), "rows")


def test_one_validation_lists_all_failures():
    bad = [GOOD | change for change, _ in CASES]
    with pytest.raises(DataError) as error:
        validate(interactions_schema((1, 5), LATEST), table(*bad), "rows")
    message = str(error.value)
    for column in ("user_id", "item_id", "event_timestamp", "rating"):
        assert f"{column}: " in message
    assert "fail on 15 rows" in message  # how much was looked at


def test_rating_may_be_absent_without_a_scale():
    validate(interactions_schema(None, LATEST), table(GOOD | {"rating": None}, GOOD | {"rating": -7.5}), "rows")


def test_wrong_type_and_missing_column():
    rows = table(GOOD)
    as_text = rows.set_column(3, "rating", pa.array(["3"])).drop_columns(["event_type"])
    with pytest.raises(DataError, match=r"dtype.*for example '3'") as error:
        validate(interactions_schema((1, 5), LATEST), as_text, "rows")
    assert "column_in_dataframe (1 rows, for example 'event_type')" in str(error.value)


def test_items():
    kind = pa.schema([("item_id", pa.string()), ("title", pa.string()), ("categories", pa.list_(pa.string()))])
    good = {"item_id": "1", "title": None, "categories": []}
    validate(items_schema(), pa.Table.from_pylist([good], kind), "items")
    with pytest.raises(DataError, match="item_id"):
        validate(items_schema(), pa.Table.from_pylist([good | {"item_id": ""}], kind), "items")


def test_tolerance_is_small():
    assert timedelta(0) < FUTURE_TOLERANCE <= timedelta(hours=1)
