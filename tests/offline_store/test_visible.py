"""What goes online, and when: a row is visible from its event time and its created time on, whichever is later."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource, RepoConfig

from lettingo_features.columns import TIMESTAMP
from lettingo_features.offline_store.asof import AsofOfflineStore


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


ROWS = [  # user  value  event  created
    ("a", 1, 1, 2),  # published a day after its event
    ("a", 2, 5, 8),  # published on day 8
    ("b", 3, 1, 9),  # arrived late: old event, published on day 9
    ("c", 4, 3, 3),
    ("c", 5, 2, 9),  # arrived late behind a newer event: changes nothing online
]
RUNS = [  # start  end   what goes online
    pytest.param(None, 1, {}, id="nothing is published yet"),
    pytest.param(None, 7, {"a": 1, "c": 4}, id="a's second row is not published yet"),
    pytest.param(7, 8, {"a": 2}, id="on its day it is, although its event lies before the run's start"),
    pytest.param(8, 9, {"a": 2, "b": 3, "c": 4}, id="late rows are not skipped; the newest event stays the value"),
    pytest.param(10, 11, {}, id="nothing new"),
]


@pytest.mark.parametrize(("start", "end", "expected"), RUNS)
def test_each_run_brings_the_online_store_to_its_end(tmp_path, start, end, expected):
    user, value, event, created = zip(*ROWS, strict=True)
    times = {"event_timestamp": event, "created_timestamp": created}
    columns = {name: pa.array([day(number) for number in numbers], TIMESTAMP) for name, numbers in times.items()}
    pq.write_table(pa.table({"user_id": user, "value": value, **columns}), tmp_path / "rows.parquet")
    config = RepoConfig(
        project="t",
        provider="local",
        registry=str(tmp_path / "registry.db"),
        offline_store={"type": "lettingo_features.offline_store.asof.AsofOfflineStore"},
        entity_key_serialization_version=3,
        repo_path=tmp_path,
    )
    source = FileSource(
        path=str(tmp_path / "rows.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    job = AsofOfflineStore.pull_latest_from_table_or_query(
        config,
        source,
        ["user_id"],
        ["value"],
        "event_timestamp",
        "created_timestamp",
        day(start) if start else None,
        day(end),
    )
    pulled = job.to_arrow()
    assert dict(zip(pulled["user_id"].to_pylist(), pulled["value"].to_pylist(), strict=True)) == expected
