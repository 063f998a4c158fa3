"""Windows: what a text may see, and digests."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lettingo_features import columns
from lettingo_features.errors import ConfigError
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows, window_digests

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
DAY = timedelta(days=1)
SCHEMA = pa.schema([columns.INTERACTIONS.field(name) for name in ("user_id", "item_id", "event_timestamp", "rating")])


def interactions(*rows):
    """(user, item, time before CUTOFF, rating) as an Arrow table."""
    return pa.Table.from_pylist(
        [
            {"user_id": user, "item_id": item, "event_timestamp": CUTOFF - before, "rating": rating}
            for user, item, before, rating in rows
        ],
        schema=SCHEMA,
    )


def windows(table, cutoffs=(CUTOFF,), **config):
    """(windows rows, digest rows), both as sorted lists of tuples."""
    connection = connect(threads=1)
    connection.register("given", table)
    create_windows(connection, "given", cutoffs, WindowConfig(**config))
    rows = connection.sql("SELECT * FROM windows ORDER BY cutoff, user_id, position").to_arrow_table()
    digests = window_digests(connection).order("cutoff, user_id").to_arrow_table()
    return [tuple(row.values()) for row in rows.to_pylist()], [tuple(row.values()) for row in digests.to_pylist()]


def test_half_open_interval():
    rows, digests = windows(
        interactions(
            ("u", "at_start", 10 * DAY, 1.0),  # exactly at the start: inside
            ("u", "before_start", 10 * DAY + US, 2.0),  # a microsecond too old
            ("u", "last", US, 3.0),  # the last microsecond before the cutoff: inside
            ("u", "at_cutoff", 0 * DAY, 4.0),  # exactly at the cutoff: the future
            ("u", "after", -US, 5.0),  # after the cutoff
            ("future_only", "x", -DAY, 5.0),  # a user without a past has no window
        ),
        days=10,
    )
    assert rows == [
        (CUTOFF, "u", "last", CUTOFF - US, 3.0, 1, "recent"),
        (CUTOFF, "u", "at_start", CUTOFF - 10 * DAY, 1.0, 2, "recent"),
    ]
    [(cutoff, user, count, source_max_ts, _)] = digests
    assert (cutoff, user, count, source_max_ts) == (CUTOFF, "u", 2, CUTOFF - US)


def test_a_re_rated_item_counts_once():
    rows, _ = windows(
        interactions(
            ("u", "a", 5 * DAY, 2.0),  # rated ...
            ("u", "a", 2 * DAY, 5.0),  # ... and rated again: this one counts
            ("u", "a", -DAY, 1.0),  # the next opinion is in the future
            ("u", "b", 3 * DAY, 4.0),  # rated ...
            ("u", "b", 1 * DAY, None),  # ... then seen without a rating: newest time, newest rating
            ("u", "c", 4 * DAY, 3.0),  # two ratings at one instant:
            ("u", "c", 4 * DAY, 3.5),  # the higher counts
            ("u", "d", 6 * DAY, None),  # never rated
            ("u", "e", 400 * DAY, 1.0),  # rated before the window ...
            ("u", "e", 7 * DAY, None),  # ... and seen in it: the old rating is out of sight
        )
    )
    assert [(item, CUTOFF - at, rating, position) for _, _, item, at, rating, position, _ in rows] == [
        ("b", 1 * DAY, 4.0, 1),
        ("a", 2 * DAY, 5.0, 2),
        ("c", 4 * DAY, 3.5, 3),
        ("d", 6 * DAY, None, 4),
        ("e", 7 * DAY, None, 5),
    ]


TIED = interactions(
    ("u", "new", 1 * DAY, 5.0),
    ("u", "b", 2 * DAY, 1.0),  # three at one instant: ordered by item id
    ("u", "c", 2 * DAY, 2.0),
    ("u", "a", 2 * DAY, 3.0),
    ("u", "old", 3 * DAY, 4.0),
    ("v", "a", 3 * DAY, 4.0),  # one item only
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"recent_k": 2, "long_k": 2},  # "old" is the fifth of u: not kept
            [
                *[("u", "new", 1, "recent"), ("u", "a", 2, "recent"), ("u", "b", 3, "long"), ("u", "c", 4, "long")],
                ("v", "a", 1, "recent"),
            ],
        ),
        (
            {"recent_k": 2, "long_k": 2, "reads": "long"},  # same positions; v has no long history, so no window
            [("u", "b", 3, "long"), ("u", "c", 4, "long")],
        ),
        (
            {"recent_k": 0, "long_k": 1},  # no recent segment at all
            [("u", "new", 1, "long"), ("v", "a", 1, "long")],
        ),
    ],
)
def test_segments(config, expected):
    rows, digests = windows(TIED, **config)
    assert [(user, item, position, segment) for _, user, item, _, _, position, segment in rows] == expected
    counts = {user: sum(1 for row in expected if row[0] == user) for user in {row[0] for row in expected}}
    assert {user: count for _, user, count, _, _ in digests} == counts


def test_source_max_ts_is_the_newest_row_that_is_read():
    both = windows(TIED, recent_k=1, long_k=9)[1][0]
    long_only = windows(TIED, recent_k=1, long_k=9, reads="long")[1][0]
    assert both[3] == CUTOFF - 1 * DAY
    assert long_only[3] == CUTOFF - 2 * DAY


def test_several_cutoffs_equal_one_at_a_time():
    cutoffs = [CUTOFF - 2 * DAY, CUTOFF, CUTOFF + 1 * DAY]
    rows, digests = windows(TIED, cutoffs=[*reversed(cutoffs), CUTOFF])  # in any order, one of them twice
    alone = [windows(TIED, cutoffs=[cutoff]) for cutoff in cutoffs]
    assert rows == [row for part, _ in alone for row in part]
    assert digests == [row for _, part in alone for row in part]
    assert len(rows) == 2 + 6 + 6  # at the first cutoff only the two oldest are in the past


def test_a_second_call_replaces_the_table():
    connection = connect(threads=1)
    connection.register("given", TIED)
    for _ in range(2):
        create_windows(connection, "given", [CUTOFF], WindowConfig())
    assert connection.execute("SELECT count(*) FROM windows").fetchall() == [(6,)]
    create_windows(connection, "given", [], WindowConfig())  # no cutoff: an empty table
    assert connection.execute("SELECT count(*) FROM windows").fetchall() == [(0,)]
    assert window_digests(connection).fetchall() == []


def test_digest_is_sha256_of_the_documented_text():
    _, digests = windows(interactions(("u", "é|1", 1 * DAY, 3.5), ("u", "b", 2 * DAY, None)))
    first, second = (int((CUTOFF - before).timestamp()) * 1_000_000 for before in (1 * DAY, 2 * DAY))
    text = f"4:é|1|{first}|3.5\n1:b|{second}|"  # é takes two bytes; no rating, no text
    assert digests[0][4] == hashlib.sha256(text.encode()).hexdigest()


def digest_of_u(*rows, **config):
    return {user: digest for _, user, _, _, digest in windows(interactions(*rows), **config)[1]}["u"]


BASE = [("u", "a", 1 * DAY, 5.0), ("u", "b", 2 * DAY, 3.0), ("u", "c", 3 * DAY, 1.0)]


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        (BASE[::-1], True),  # input order
        ([*BASE, ("v", "z", 1 * DAY, 5.0)], True),  # another user's row
        ([*BASE, ("u", "planted", 0 * DAY, 5.0)], True),  # at the cutoff
        ([*BASE, ("u", "planted", -DAY, 5.0)], True),  # after it
        ([*BASE, ("u", "a", -DAY, 1.0)], True),  # re-rated after it
        ([*BASE, ("u", "old", 366 * DAY, 5.0)], True),  # too old
        ([*BASE, ("u", "a", 9 * DAY, 1.0)], True),  # an older rating of the same item
        ([*BASE, ("u", "d", 1 * DAY, 5.0)], False),  # one more
        (BASE[:2], False),  # one less
        ([("u", "A", 1 * DAY, 5.0), *BASE[1:]], False),  # another item
        ([("u", "a", 1 * DAY, 4.5), *BASE[1:]], False),  # another rating
        ([("u", "a", 1 * DAY, None), *BASE[1:]], False),  # no rating
        ([("u", "a", 1 * DAY + US, 5.0), *BASE[1:]], False),  # another instant
        ([("u", "b", 1 * DAY, 5.0), ("u", "a", 2 * DAY, 3.0), BASE[2]], False),  # items swapped
    ],
)
def test_digest_changes_exactly_with_the_window(rows, same):
    assert (digest_of_u(*rows) == digest_of_u(*BASE)) is same


def test_digest_changes_when_a_row_ages_out():
    old = ("u", "old", 30 * DAY, 2.0)
    assert digest_of_u(*BASE, old, days=31) != digest_of_u(*BASE, old, days=29) == digest_of_u(*BASE, days=29)


def test_digest_in_long_mode_covers_the_long_rows_only():
    long_mode = {"recent_k": 1, "long_k": 5, "reads": "long"}
    base = digest_of_u(*BASE, **long_mode)
    recent_differs = [("u", "a", 1 * DAY, 1.0), *BASE[1:]]
    long_differs = [*BASE[:2], ("u", "c", 3 * DAY, 5.0)]
    assert digest_of_u(*recent_differs, **long_mode) == base
    assert digest_of_u(*long_differs, **long_mode) != base
    pushed = [("u", "newest", DAY / 2, 1.0), *BASE]  # "a" becomes part of the long history
    assert digest_of_u(*pushed, **long_mode) != base


def test_ids_with_separators_do_not_collide():
    newest = int((CUTOFF - 1 * DAY).timestamp()) * 1_000_000
    two = [("u", "a", 1 * DAY, None), ("u", "b", 2 * DAY, None)]
    one = [("u", f"a|{newest}|\nb", 2 * DAY, None)]  # one id that spells out two rows
    assert digest_of_u(*two) != digest_of_u(*one)


def test_order_of_rows_and_split_into_files_change_nothing(tmp_path):
    made = (
        connect(threads=1)
        .sql("""
            SELECT 'u' || hash(range, 'user') % 21 AS user_id, 'i' || hash(range, 'item') % 40 AS item_id,
                TIMESTAMPTZ '2024-05-01' + to_hours((hash(range, 'time') % 800)::INT) AS event_timestamp,
                (hash(range, 'rating') % 11)::FLOAT / 2 AS rating
            FROM range(3000)
        """)
        .to_arrow_table()
    )  # whole hours and half stars: many ties and re-ratings
    shuffled = made.take(np.random.default_rng(0).permutation(made.num_rows))
    pq.write_table(shuffled.slice(0, 1000), tmp_path / "b.parquet")
    pq.write_table(shuffled.slice(1000), tmp_path / "a.parquet")
    config = {"recent_k": 5, "long_k": 10, "cutoffs": [CUTOFF - 10 * DAY, CUTOFF]}
    expected = windows(made, **config)
    assert windows(shuffled, **config) == expected
    assert windows(pq.read_table(tmp_path), **config) == expected
    assert len(expected[0]) == 2 * 21 * 15  # every window is full


def test_a_cutoff_without_a_zone_is_refused():
    with pytest.raises(ConfigError, match="no zone"):
        windows(TIED, cutoffs=[datetime(2024, 6, 1)])


@pytest.mark.parametrize("field", [{"days": 0}, {"recent_k": -1}, {"long_k": 0}, {"reads": "recent"}, {"day": 3}])
def test_config_refuses(field):
    with pytest.raises(ValidationError):
        WindowConfig(**field)
