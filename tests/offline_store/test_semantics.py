"""What a label gets, case by case: the table that a training set needs."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest

from tests.offline_store.feast_store import feast_store, hour, source, view, write_part

TEN_HOURS = timedelta(hours=10)

# Stored rows of the view "stats": user, event hour, created hour, value.
ROWS = [
    ("a", 10, 11, 1),
    ("a", 20, 21, 2),
    ("a", 20, 23, 3),  # corrects the row above: same event, later created
    ("a", 20, 22, 4),  # created between the two, written last
    ("a", 30, 90, 5),  # a backfill: created long after
    ("b", 10, 10, 6),
    ("b", 10, 10, 7),  # full tie: written last
    ("b", 40, 41, None),  # a stored null is an answer, not a gap
    (None, 5, 5, 8),  # a stored row without a key answers nobody
]

# label (user, hour), ttl, value without the filter, value with filter_by_created_timestamp, why
CASES = [
    ("a", 9, None, None, None, "only future rows: kept, null"),
    ("a", 10, None, 1, None, "at the event's instant: visible, unless created later"),
    ("a", 11, None, 1, 1, "at the instant of creation: visible"),
    ("a", 19, None, 1, 1, "between two events: the older"),
    ("a", 20, None, 3, 1, "tie on event time: later created; filtered: none of the three was created"),
    ("a", 21, None, 3, 2, "filtered: the first version"),
    ("a", 22, None, 3, 4, "filtered: the second version"),
    ("a", 23, None, 3, 3, "filtered: the last version"),
    ("a", 50, None, 5, 3, "backfilled row: leaks without the filter, not with it"),
    ("a", 90, None, 5, 5, "the backfill counts from its creation on"),
    ("a", 20, TEN_HOURS, 3, 1, "filtered: exactly ttl old is present"),
    ("a", 30, TEN_HOURS, 5, 3, "exactly ttl old is present"),
    ("a", 31, TEN_HOURS, 5, None, "filtered: older than ttl is null"),
    ("a", 41, TEN_HOURS, None, None, "older than ttl: kept, null"),
    ("a", 500, timedelta(0), 5, 5, "ttl of zero: no limit"),
    ("b", 10, None, 7, 7, "full tie: the last written"),
    ("b", 45, None, None, None, "a stored null is returned, not the value before it"),
    ("c", 45, None, None, None, "unknown key: kept, null"),
    (None, 45, None, None, None, "null key: kept, null"),
]


@pytest.fixture(scope="module")
def stats(tmp_path_factory):
    """The view ``stats`` with three ttls."""
    root = tmp_path_factory.mktemp("stats")
    users, events, created, values = map(list, zip(*ROWS, strict=True))
    path = root / "stats"
    # Two parts: ties must be decided across files as well.
    for part, rows in {"0.parquet": slice(0, 6), "1.parquet": slice(6, None)}.items():
        write_part(
            path / part,
            user_id=pa.array(users[rows], pa.string()),
            event_timestamp=events[rows],
            created_timestamp=created[rows],
            value=pa.array(values[rows], pa.int64()),
        )
    views = {
        ttl: view(f"stats_{index}", source(path), ttl=ttl) for index, ttl in enumerate((None, TEN_HOURS, timedelta(0)))
    }
    return feast_store(root, list(views.values())), {ttl: f"{stored.name}:value" for ttl, stored in views.items()}


def labels(*rows: tuple[str | None, float]) -> pd.DataFrame:
    users, hours = zip(*rows, strict=True)
    return pd.DataFrame({"user_id": users, "event_timestamp": [hour(value) for value in hours]})


@pytest.mark.parametrize("by_created", [False, True])
@pytest.mark.parametrize(("user_id", "at", "ttl", "plain", "filtered", "why"), CASES, ids=[case[-1] for case in CASES])
def test_one_label(stats, user_id, at, ttl, plain, filtered, why, by_created):
    store, references = stats
    job = store.get_historical_features(
        labels((user_id, at)), [references[ttl]], filter_by_created_timestamp=by_created
    )
    assert job.to_arrow()["value"].to_pylist() == [filtered if by_created else plain], why
