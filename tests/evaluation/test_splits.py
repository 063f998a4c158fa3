"""The time split, checked against hand-written timelines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lettingo_features.errors import DataError
from lettingo_features.evaluation.splits import SplitConfig, history, time_split
from lettingo_features.sql import connect

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def session(hours):
    connection = connect(threads=1)
    rows = pa.table(
        {
            "user_id": ["u"] * len(hours),
            "item_id": [f"i{n}" for n in range(len(hours))],
            "event_timestamp": pa.array([START + h * HOUR for h in hours], pa.timestamp("us", tz="UTC")),
        }
    )
    connection.register("interactions", rows)
    return connection


def test_shares_of_interactions_not_of_time():
    hours = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1000]  # the last one comes weeks later: quantiles do not care
    split = time_split(session(hours[::-1]), "interactions", SplitConfig(train_share=0.3, test_share=0.2))
    # in order:  0 1 2 3 4 | 5 6 7 | 8 1000, where quantile_disc(p) is the first value that p of the rows do not exceed
    assert split.train_start == START + 4 * HOUR
    assert split.test_start == START + 7 * HOUR
    assert split.end == START + 1000 * HOUR


def test_boundary_instant_belongs_to_the_later_side():
    #         history  | train      | test
    hours = [0, 1, 2, 3, 5, 5, 5, 7, 9, 9]
    split = time_split(session(hours), "interactions", SplitConfig(train_share=0.3, test_share=0.2))
    assert split.train_start == START + 5 * HOUR
    assert split.test_start == START + 7 * HOUR
    before = history(session(hours), "interactions", split.train_start)
    assert before["item_id"].to_pylist() == ["i0", "i1", "i2", "i3"]  # all three rows at 5 are train, none is history


def test_history_is_ordered_and_ends_before_the_instant():
    rows = history(session([3, 1, 2]), "interactions", START + 3 * HOUR)
    assert rows["item_id"].to_pylist() == ["i1", "i2"]  # i0 lies at the instant itself: outside
    assert rows.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    "hours",
    [
        [],  # nothing
        [5] * 20,  # one instant
        [0] * 5 + [1] * 15,  # training and test would start together
    ],
)
def test_refuses_what_cannot_be_cut(hours):
    with pytest.raises(DataError, match="cannot be cut"):
        time_split(session(hours), "interactions", SplitConfig())


def test_refuses_shares_without_history():
    with pytest.raises(DataError, match="leave no history"):
        time_split(session([0, 1, 2]), "interactions", SplitConfig(train_share=0.6, test_share=0.4))
