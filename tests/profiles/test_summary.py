"""Summaries of hand-written windows, each figure checkable by eye."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lettingo_features import columns as c
from lettingo_features.profiles.summary import SUMMARY, SummaryConfig, rating_scale, summaries, summarise
from lettingo_features.sql import connect

T0 = datetime(2025, 3, 1, tzinfo=UTC)

ITEMS = pa.table(
    {
        "item_id": ["t1", "t2", "t3", "h1", "h2", "d1", "bare", "nocat"],
        "title": ["Tense", "Tenser", "Tensest", "Creak", "Moan", "Sigh", None, "Plain"],
        "categories": [
            ["Thriller", "Crime"],
            ["Thriller"],
            ["Thriller", "Thriller", ""],  # a name twice counts once, an empty one never
            ["Horror"],
            ["Horror", "Crime"],
            ["Drama"],
            ["Thriller"],
            None,
        ],
    },
    schema=pa.schema(
        [pa.field("item_id", pa.string()), pa.field("title", pa.string()), pa.field("categories", c.STRINGS)]
    ),
)


def make_connection(rows, items=ITEMS):
    """Session with ``windows`` from (user_id, item_id, days before the cutoff, rating), newest first per user."""
    positions: dict[str, int] = {}
    table = []
    for user_id, item_id, days, rating in rows:
        positions[user_id] = positions.get(user_id, 0) + 1
        table.append((T0, user_id, item_id, T0 - timedelta(days=days), rating, positions[user_id], "recent"))
    names = ("cutoff", "user_id", "item_id", "event_timestamp", "rating", "position", "segment")
    types = (c.TIMESTAMP, pa.string(), pa.string(), c.TIMESTAMP, pa.float32(), pa.int64(), pa.string())
    arrays = [pa.array([row[i] for row in reversed(table)], t) for i, t in enumerate(types)]  # any row order will do
    connection = connect(threads=1)
    connection.register("windows", pa.table(arrays, names=names))
    connection.register("items", items)
    return connection


def summary_of(rows, rating_max=5.0, **knobs):
    connection = make_connection([("u", *row) for row in rows])
    ((_, facts),) = summaries(summarise(connection, "items", SummaryConfig(rating_max=rating_max, **knobs)).read_all())
    return facts


def test_every_figure_of_one_user():
    facts = summary_of(
        [
            ("t1", 1, 5.0),  # liked
            ("h1", 2, 1.0),  # disliked
            ("t2", 3, 3.0),  # neutral: 3 of 5 is the lower edge
            ("h2", 5, 2.5),  # disliked
            ("t3", 8, 4.0),  # liked: 4 of 5 is the edge
            ("unknown", 11, None),  # engaged, outside the catalogue
        ]
    )
    assert facts == {
        "n_interactions": 6,
        "mean_rating": pytest.approx(3.1),
        "span_days": 10.0,
        "top_categories": [
            {"name": "Thriller", "n": 3, "liked": 2, "disliked": 0},  # score 5
            {"name": "Crime", "n": 2, "liked": 1, "disliked": 1},  # score 2
            {"name": "Horror", "n": 2, "liked": 0, "disliked": 2},  # score 0
        ],
        "lowest_category": {"name": "Horror", "n": 2, "liked": 0, "disliked": 2},
        "loved_titles": ["Tense", "Tensest"],  # highest rating first
        "disliked_titles": ["Creak", "Moan"],  # lowest rating first
        "newest": [
            {"title": "Tense", "category": "Thriller", "sentiment": "liked"},
            {"title": "Creak", "category": "Horror", "sentiment": "disliked"},
            {"title": "Tenser", "category": "Thriller", "sentiment": "neutral"},
            {"title": "Moan", "category": "Horror", "sentiment": "disliked"},
            {"title": "Tensest", "category": "Thriller", "sentiment": "liked"},
            {"title": "", "category": "", "sentiment": "engaged"},
        ],
        "years": [],
        "tone": "critical",
    }


@pytest.mark.parametrize(
    ("rating_max", "rating", "sentiment"),
    [
        (5.0, 4.0, "liked"),  # edges on each scale: 0.8 of it likes,
        (10.0, 8.0, "liked"),
        (100.0, 80.0, "liked"),
        (1.0, 0.8, "liked"),  # also where float32 cannot hold the edge exactly
        (5.0, 3.5, "neutral"),
        (5.0, 3.0, "neutral"),  # 0.6 of it is still neutral,
        (1.0, 0.6, "neutral"),
        (10.0, 6.0, "neutral"),
        (5.0, 2.5, "disliked"),  # and less is a dislike
        (10.0, 5.9, "disliked"),
        (5.0, None, "engaged"),
    ],
)
def test_sentiment(rating_max, rating, sentiment):
    assert summary_of([("t2", 1, rating)], rating_max)["newest"][0]["sentiment"] == sentiment


@pytest.mark.parametrize(
    ("ratings", "tone"),
    [
        ([None, None], "unrated"),
        ([5, 5, 5, 3], "generous"),
        ([5, 5, 3, 3], "balanced"),
        ([5, 1, 3], "critical"),
        ([5, 5, 5, 5, 5, 5, 5, 1, 1, 1], "generous"),  # 70 % liked beats 30 % disliked
        ([5, None, None, None], "generous"),  # shares are of what is rated
    ],
)
def test_tone(ratings, tone):
    assert summary_of([("t2", day, rating) for day, rating in enumerate(ratings)])["tone"] == tone


@pytest.mark.parametrize(
    ("rows", "lowest"),
    [
        ([("t2", 1, 5), ("h1", 2, 1)], None),  # met once: no verdict
        ([("t2", 1, 5), ("h1", 2, 1), ("h1", 3, 3)], None),  # half is not most
        ([("h1", 1, 1), ("h1", 2, 1)], None),  # all the user has: it is already the first of the top
        ([("t2", 1, 5), ("h1", 2, 1), ("h2", 3, 1), ("h1", 4, 4)], "Horror"),  # 2 of 3
        ([("t2", 1, 5), ("d1", 2, 1), ("d1", 3, 1), ("h1", 4, 1), ("h1", 5, 1)], "Drama"),  # tie: by name
    ],
)
def test_lowest_category(rows, lowest):
    found = summary_of(rows)["lowest_category"]
    assert (found and found["name"]) == lowest


def test_missing_title_and_categories_are_kept_as_empty():
    facts = summary_of([("bare", 1, 5), ("nocat", 2, 5)])
    assert facts["newest"] == [
        {"title": "", "category": "Thriller", "sentiment": "liked"},
        {"title": "Plain", "category": "", "sentiment": "liked"},
    ]
    assert facts["loved_titles"] == ["Plain"]
    assert [entry["name"] for entry in facts["top_categories"]] == ["Thriller"]


def test_user_known_only_by_unknown_items_has_empty_lists():
    facts = summary_of([("x", 1, None)])
    assert (facts["top_categories"], facts["loved_titles"], facts["mean_rating"]) == ([], [], None)
    assert facts["span_days"] == 0


def test_without_a_catalogue_only_ratings_are_known():
    connection = make_connection([("u", "t1", 1, 5)])
    ((_, facts),) = summaries(summarise(connection, "(SELECT NULL)", SummaryConfig(rating_max=5)).read_all())
    assert facts["newest"] == [{"title": "", "category": "", "sentiment": "liked"}]
    assert facts["top_categories"] == []


def test_lists_are_capped():
    facts = summary_of([("t1", 1, 5), ("h2", 2, 5), ("d1", 3, 5)], n_newest=2, n_top=1, n_titles=1)
    assert [row["title"] for row in facts["newest"]] == ["Tense", "Moan"]
    assert [entry["name"] for entry in facts["top_categories"]] == ["Crime"]  # 2 rows of it, one of each other
    assert facts["loved_titles"] == ["Tense"]


def test_positions_need_not_start_at_one():
    connection = make_connection([("u", "t1", 1, 5), ("u", "h1", 2, 1), ("u", "d1", 3, 3)])
    connection.execute("CREATE TABLE older AS SELECT * FROM windows WHERE position > 1")
    connection.unregister("windows")
    connection.execute("ALTER TABLE older RENAME TO windows")
    ((_, facts),) = summaries(summarise(connection, "items", SummaryConfig(rating_max=5)).read_all())
    assert [row["title"] for row in facts["newest"]] == ["Creak", "Sigh"]


def test_an_item_with_two_versions_counts_once_by_its_newest():
    stamps = pa.array([T0 - timedelta(days=2), T0 - timedelta(days=1)], c.TIMESTAMP)
    items = pa.table(
        {
            "item_id": ["t1", "t1"],
            "title": ["Zold title", "A new title"],
            "categories": pa.array([["Old"], ["New"]], c.STRINGS),
            "created_timestamp": stamps,
        }
    )
    connection = make_connection([("u", "t1", 1, 5)], items)
    ((_, facts),) = summaries(summarise(connection, "items", SummaryConfig(rating_max=5)).read_all())
    assert facts["newest"] == [{"title": "A new title", "category": "New", "sentiment": "liked"}]
    assert facts["n_interactions"] == 1


YEARS = [  # titles with their ratings, newest first -> years
    ([("Heat (1995)", 5), ("Se7en (1995)", 5), ("Ran (1985)", 5)], [1995, 1985]),
    ([("Old (1901)", 5), ("New (2013)", 5)], [2013, 1901]),  # of equals the later
    ([("Liked (1980)", 5), ("Met (1990)", 3), ("Met too (1990)", 3)], [1980, 1990]),  # 1 + 1 and 2: balance decides
    ([("Disliked (1980)", 1), ("Met (1990)", 3)], [1990]),  # 1 - 1 is no preference
    ([("1984", 5), ("(2001) A", 5), ("Model (3000)", 5), ("Size (12)", 5)], []),  # only at the end, only a year
    ([("A (1990) ", 5)], []),
    ([("A (1990)", 5), ("B (1991)", 5), ("C (1992)", 5)], [1992, 1991]),
]


@pytest.mark.parametrize(("rated", "expected"), YEARS)
def test_years(rated, expected):
    items = pa.table({"item_id": [f"i{n}" for n in range(len(rated))], "title": [title for title, _ in rated]})
    rows = [("u", f"i{n}", n + 1, float(rating)) for n, (_, rating) in enumerate(rated)]
    ((_, facts),) = summaries(
        summarise(make_connection(rows, items), "items", SummaryConfig(rating_max=5.0)).read_all()
    )
    assert facts["years"] == expected


def test_schema_and_order_over_users_and_batches():
    connection = make_connection([("b", "t1", 1, 5), ("a", "t1", 1, 5), ("c", "h1", 1, None)])
    reader = summarise(connection, "items", SummaryConfig(rating_max=5), batch_size=2)
    assert reader.schema == SUMMARY
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert [user for batch in batches for user, _ in summaries(batch)] == ["a", "b", "c"]
    table = pa.Table.from_batches(batches)
    assert table.column("user_id").to_pylist() == ["a", "b", "c"]
    users, facts = zip(*summaries(table), strict=True)
    assert users == ("a", "b", "c")
    assert "user_id" not in facts[0]


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [([1.0, 0.0], 1), ([3.0], 5), ([5.0], 5), ([5.5], 10), ([10.0, 1.0], 10), ([64.0], 100), ([None], 5), ([], 5)],
)
def test_rating_scale(ratings, scale):
    connection = connect(threads=1)
    connection.register("interactions", pa.table({"rating": pa.array(ratings, pa.float32())}))
    assert rating_scale(connection, "interactions") == scale
