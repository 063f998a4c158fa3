"""Which positives become labels, which negatives are drawn, and that everything left out is counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.errors import DataError
from lettingo_features.evaluation import labels
from lettingo_features.evaluation.labels import TRAIN_LABELS, train_labels
from lettingo_features.evaluation.splits import Split, SplitConfig
from lettingo_features.sql import connect

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SPLIT = Split(START + 10 * DAY, START + 20 * DAY, START + 30 * DAY)

ROWS = [  # user, item, day, rating                      label?
    ("ann", "a", 1, 5.0),  # 0   history
    ("ann", "b", 9, 1.0),  # 1   history
    ("bob", "b", 2, 3.0),  # 2   history
    ("bob", "c", 3, 5.0),  # 3   history
    ("bob", "d", 4, 5.0),  # 4   history
    ("ann", "c", 10, 4.0),  # 5   train: first instant of the period, 4 of 5 is relevant
    ("ann", "d", 11, 3.0),  # 6   no: disliked
    ("ann", "a", 12, 5.0),  # 7   no: seen before
    ("bob", "a", 15, None),  # 8   train: an event without rating
    ("bob", "e", 16, 5.0),  # 9   no: e is new at that very instant
    ("cyd", "a", 17, 5.0),  # 10  no: cyd is cold at that instant
    ("cyd", "b", 18, 5.0),  # 11  train: one day later cyd has a history
    ("ann", "e", 20, 5.0),  # 12  test: the boundary instant
    ("ann", "e", 25, 2.0),  # 13  test: rated again lower, but it was liked once
    ("bob", "c", 21, 5.0),  # 14  no: seen before the test
    ("bob", "f", 22, 5.0),  # 15  no: f did not exist at test_start
    ("cyd", "c", 30, 5.0),  # 16  test: the last instant
    ("dan", "a", 23, 5.0),  # 17  no: dan is cold at test_start ...
    ("dan", "b", 24, 5.0),  # 18  ... for the whole test, unlike in training
]


def session(rows=ROWS):
    connection = connect(threads=1)
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    users, items, days, ratings = zip(*shuffled, strict=True)
    table = pa.table(
        {
            "user_id": users,
            "item_id": items,
            "event_timestamp": pa.array([START + day * DAY for day in days], pa.timestamp("us", tz="UTC")),
            "rating": pa.array(ratings, pa.float32()),
        }
    )
    connection.register("interactions", table)
    return connection


def positives(rows: pa.Table):
    return [(r["user_id"], r["item_id"], (r["event_timestamp"] - START).days) for r in rows.to_pylist() if r["label"]]


def test_train_positives():
    found = train_labels(session(), "interactions", SPLIT, SplitConfig())
    assert found.rows.schema == TRAIN_LABELS
    assert positives(found.rows) == [("ann", "c", 10), ("bob", "a", 15), ("cyd", "b", 18)]
    assert found.counts == {
        "train_positives": 6,  # rows 5 7 8 9 10 11
        "train_seen_before": 1,  # row 7
        "train_of_cold_users": 1,  # row 10
        "train_of_new_items": 1,  # row 9
        "train_rankable": 3,
        "train_cold_users": 1,
        "train_rankable_users": 3,
        "train_queries": 3,
    }


def test_negatives_are_available_unseen_and_distinct():
    found = train_labels(session(), "interactions", SPLIT, SplitConfig(negatives=50))
    negatives = {}
    for row in found.rows.to_pylist():
        if not row["label"]:
            negatives.setdefault(row["user_id"], []).append(row["item_id"])
    # ann sees a b c d before test_start and e only in the test, but e is not there yet on day 10: nothing is left.
    assert "ann" not in negatives
    # bob at day 15: a b c d exist, all of which bob sees before test_start.
    assert "bob" not in negatives
    # cyd at day 18: a b c d e exist, a and b are cyd's own; that cyd likes c in the test must not be known here.
    assert sorted(negatives["cyd"]) == ["c", "d", "e"]


def test_test_labels():
    found = labels.test_labels(session(), "interactions", SPLIT, SplitConfig())
    assert found.relevant.to_pylist() == [{"user_id": "ann", "item_id": "e"}, {"user_id": "cyd", "item_id": "c"}]
    assert found.users.select(["user_id", "n_before"]).to_pylist() == [
        {"user_id": "ann", "n_before": 5},  # rows 0 1 5 6 7
        {"user_id": "cyd", "n_before": 2},  # rows 10 11
    ]
    assert found.items["item_id"].to_pylist() == ["a", "b", "c", "d", "e"]  # not f
    assert set(found.users["event_timestamp"].to_pylist()) == {SPLIT.test_start}
    assert found.counts == {
        "test_positives": 6,  # rows 12 (with 13), 14, 15, 16, 17, 18
        "test_seen_before": 1,  # row 14
        "test_of_cold_users": 2,  # rows 17 18
        "test_of_new_items": 1,  # row 15
        "test_rankable": 2,
        "test_cold_users": 1,
        "test_rankable_users": 2,
        "test_users": 2,
    }


def test_rating_scale_may_be_given():
    found = train_labels(session(), "interactions", SPLIT, SplitConfig(rating_max=10.0))
    assert positives(found.rows) == [("bob", "a", 15)]  # 5 of 10 is no longer relevant; the event without rating is


def test_nothing_to_rank():
    with pytest.raises(DataError, match="None of 1 positives"):
        train_labels(session([("ann", "a", 12, 5.0)]), "interactions", SPLIT, SplitConfig())


def world(n_users=60, n_items=40, n_rows=1500):
    """Users and items at random times, item 0 far more popular than the rest."""
    rng = np.random.default_rng(3)
    items = np.where(rng.random(n_rows) < 0.3, 0, rng.integers(n_items, size=n_rows))
    drawn = zip(rng.integers(n_users, size=n_rows), items, rng.random(n_rows) * 30, strict=True)
    return [(f"u{user}", f"i{item}", float(day), 5.0) for user, item, day in drawn]


def test_cap_changes_no_draw():
    connection = session(world())
    full = train_labels(connection, "interactions", SPLIT, SplitConfig(negatives=5))
    half = train_labels(connection, "interactions", SPLIT, SplitConfig(negatives=5, max_queries=50))
    assert half.counts["train_queries"] == 50 < full.counts["train_queries"]

    def queries(rows):
        grouped = {}
        for row in rows.to_pylist():
            grouped.setdefault(row["query_id"], []).append(
                (row["user_id"], row["event_timestamp"], row["item_id"], row["label"])
            )
        return {tuple(rows) for rows in grouped.values()}

    assert queries(half.rows) < queries(full.rows)
    again = train_labels(session(world()[::-1]), "interactions", SPLIT, SplitConfig(negatives=5))
    assert again.rows.equals(full.rows)  # the order of the input does not matter
    other = train_labels(connection, "interactions", SPLIT, SplitConfig(negatives=5, seed=1))
    assert not other.rows.equals(full.rows)


def test_popular_items_are_drawn_more_often():
    connection = session(world(n_users=400))
    share = {}
    for popular_share in (0.0, 1.0):
        config = SplitConfig(negatives=2, popular_share=popular_share)
        rows = train_labels(connection, "interactions", SPLIT, config).rows.to_pylist()
        drawn = Counter(row["item_id"] for row in rows if not row["label"])
        share[popular_share] = drawn["i0"] / drawn.total()
    assert share[1.0] > 3 * share[0.0]


def test_test_users_are_capped_by_seed():
    connection = session(world())
    config = SplitConfig(max_test_users=10)
    found = labels.test_labels(connection, "interactions", SPLIT, config)
    assert found.users.num_rows == found.counts["test_users"] == 10 < found.counts["test_rankable_users"]
    assert set(found.relevant["user_id"].to_pylist()) == set(found.users["user_id"].to_pylist())
    other = labels.test_labels(connection, "interactions", SPLIT, SplitConfig(max_test_users=10, seed=1))
    assert other.users["user_id"].to_pylist() != found.users["user_id"].to_pylist()
