"""History rows of hand-written windows."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa

from lettingo_features.profiles.history import HISTORY, history_rows
from lettingo_features.profiles.summary import SummaryConfig
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows
from tests.test_windows import CUTOFF, DAY, interactions

ITEMS = pa.table(
    {
        "item_id": ["a", "a", "b", "c"],
        "title": ["Old name", "Alpha", "Beta", None],
        "categories": [["x"], ["Drama", ""], None, ["Crime"]],
        "created_timestamp": [CUTOFF - 2 * DAY, CUTOFF - DAY, CUTOFF, CUTOFF],
    }
)
ROWS = interactions(
    ("u2", "c", 1 * DAY, None),
    ("u1", "b", 3 * DAY, 3.0),
    ("u1", "a", 1 * DAY, 4.0),  # newest
    ("u1", "c", 5 * DAY, 2.5),
    ("u1", "gone", 9 * DAY, 5.0),  # outside the catalogue
    ("u1", "too old", 400 * DAY, 5.0),
)


def histories(cutoffs=(CUTOFF,), **config) -> pa.Table:
    connection = connect(threads=1)
    connection.register("given", ROWS)
    connection.register("items", ITEMS)
    create_windows(connection, "given", cutoffs, WindowConfig(recent_k=2, **config))
    return history_rows(connection, "items", SummaryConfig(rating_max=5.0)).read_all()


def test_rows_newest_first() -> None:
    table = histories()
    assert table.schema == HISTORY
    u1, u2 = table.to_pylist()
    assert (u1["cutoff"], u1["user_id"], u2["user_id"]) == (CUTOFF, "u1", "u2")
    assert [tuple(row.values()) for row in u1["rows"]] == [
        (1, "a", "Alpha", ["Drama"], "liked", "recent", 1.0),  # the newest version of the item; 4 of 5 is a like
        (2, "b", "Beta", [], "neutral", "recent", 3.0),
        (3, "c", "", ["Crime"], "disliked", "long", 5.0),
        (4, "gone", "", [], "liked", "long", 9.0),
    ]
    assert [tuple(row.values()) for row in u2["rows"]] == [(1, "c", "", ["Crime"], "engaged", "recent", 1.0)]


def test_numbers_start_at_the_first_row_shown() -> None:
    (u1,) = histories(reads="long").to_pylist()  # the recent two are left to the predictor
    assert [(row["n"], row["item_id"]) for row in u1["rows"]] == [(1, "c"), (2, "gone")]


def test_one_row_per_cutoff_and_user() -> None:
    table = histories(cutoffs=(CUTOFF, CUTOFF - timedelta(days=4)))
    assert [(row["cutoff"], row["user_id"], len(row["rows"])) for row in table.to_pylist()] == [
        (CUTOFF - timedelta(days=4), "u1", 2),
        (CUTOFF, "u1", 4),
        (CUTOFF, "u2", 1),
    ]
