"""Behavioural features as of a cutoff."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features import columns
from lettingo_features.behaviour import build_item_behaviour, build_user_behaviour
from lettingo_features.errors import ConfigError
from lettingo_features.snapshots import snapshot_cutoffs
from lettingo_features.sql import connect

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
DAY = timedelta(days=1)
LAG_S = 6 * 3600
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


def items(*rows):
    """(item, categories, day of creation) as an Arrow table."""
    return pa.Table.from_pylist(
        [
            {"item_id": item, "categories": categories, "created_timestamp": datetime(2024, 1, day, tzinfo=UTC)}
            for item, categories, day in rows
        ],
        schema=columns.ITEMS,
    )


ITEMS = items(
    ("a", ["Drama", "War"], 1),
    ("b", ["Drama"], 1),
    ("c", ["Comedy", "Comedy"], 1),  # a name given twice counts once
    ("d", [], 1),  # no category
    ("e", None, 1),  # unknown categories; "f" is in no catalogue at all
)


def users(given, cutoffs=(CUTOFF,), catalogue=ITEMS, lag_s=LAG_S, threads=1):
    connection = connect(threads=threads)
    connection.register("given", given)
    connection.register("catalogue", catalogue)
    return build_user_behaviour(connection, "given", "catalogue", cutoffs, lag_s).read_all()


def item_rows(given, cutoffs=(CUTOFF,), lag_s=LAG_S, threads=1):
    connection = connect(threads=threads)
    connection.register("given", given)
    return build_item_behaviour(connection, "given", cutoffs, lag_s).read_all()


def only(table):
    [row] = table.to_pylist()
    return row


def picked(row, *names, prefix="user_"):
    return tuple(row[prefix + name] for name in names)


BOUNDARIES = interactions(
    ("u", "a", US, 5.0),  # the last instant before the cutoff
    ("u", "b", 7 * DAY, 5.0),  # exactly 7 days old: in
    ("u", "c", 7 * DAY + US, 5.0),  # a microsecond older: only in 30 days
    ("u", "a", 30 * DAY, 5.0),  # exactly 30 days old
    ("u", "b", 30 * DAY + US, 5.0),
    ("u", "c", 90 * DAY, 5.0),  # exactly 90 days old
    ("u", "d", 90 * DAY + US, 5.0),  # only in all
    ("u", "e", 200 * DAY, 5.0),
    ("u", "planted", 0 * DAY, 1.0),  # exactly at the cutoff: the future
    ("u", "planted", -DAY, 1.0),  # after it
    ("late", "planted", -DAY, 1.0),  # a user without a past has no row
)


def test_counts_and_rates_are_half_open():
    row = only(users(BOUNDARIES))
    assert picked(row, "count_7d", "count_30d", "count_90d", "count_all") == (2, 4, 6, 8)
    rates = picked(row, "rate_7d", "rate_30d", "rate_90d", "rate_all")
    assert rates == pytest.approx((2 / 7, 4 / 30, 6 / 90, 8 / 200))


def test_times_and_provenance():
    row = only(users(BOUNDARIES))
    assert row["event_timestamp"] == row["user_behaviour_cutoff_at"] == CUTOFF
    assert row["created_timestamp"] == row["user_behaviour_published_at"] == CUTOFF + timedelta(hours=6)
    assert row["user_behaviour_source_max_ts"] == CUTOFF - US
    assert picked(row, "tenure_days") == (200.0,)
    assert picked(row, "days_since_last") == pytest.approx((1e-6 / 86400,))


def test_the_first_day_counts_as_a_whole_day():
    row = only(users(interactions(("u", "a", DAY / 2, 5.0), ("u", "b", DAY / 4, 5.0))))
    assert picked(row, "rate_all", "tenure_days", "days_since_last") == (2.0, 0.5, 0.25)  # not 4 per day


@pytest.mark.parametrize(
    ("ratings", "mean", "spread"),
    [
        ([4.0], 4.0, 0.0),  # one rating has no spread
        ([1.0, 5.0], 3.0, 2.0),  # population standard deviation, not the sample's 2.83
        ([1.0, 5.0, None], 3.0, 2.0),  # an unrated interaction is not a zero
        ([None, None], None, None),  # nothing rated
        ([3.7] * 100, 3.7, 0.0),  # squares of 3.7 leave rounding noise, which must not show as spread
    ],
)
def test_mean_and_spread(ratings, mean, spread):
    given = interactions(*(("u", "a", (day + 1) * DAY, rating) for day, rating in enumerate(ratings)))
    for row, prefix in ((only(users(given)), "user_"), (only(item_rows(given)), "item_")):
        assert row[f"{prefix}count_all"] == len(ratings)  # a re-rated item counts each time
        assert row[f"{prefix}mean_rating"] == (None if mean is None else pytest.approx(mean))
        assert row[f"{prefix}std_rating"] == spread


def test_top_categories():
    row = only(
        users(
            interactions(
                ("u", "a", 1 * DAY, 5.0),  # Drama, War
                ("u", "b", 2 * DAY, 2.0),  # Drama
                ("u", "c", 3 * DAY, None),  # Comedy, not rated
                ("u", "d", 4 * DAY, 1.0),  # no category
                ("u", "f", 5 * DAY, 1.0),  # not in the catalogue
                ("u", "b", -DAY, 5.0),  # the future
            )
        )
    )
    assert row["user_top_categories"] == ["Drama", "Comedy", "War"]  # most frequent first, then by name
    assert row["user_top_category_shares"] == pytest.approx([2 / 5, 1 / 5, 1 / 5])  # of all five interactions
    assert row["user_top_category_ratings"] == [3.5, None, 5.0]


def test_at_most_five_categories():
    catalogue = items(("a", list("gfedcba"), 1), ("b", ["g"], 1))
    row = only(users(interactions(("u", "a", 1 * DAY, 5.0), ("u", "b", 2 * DAY, 1.0)), catalogue=catalogue))
    assert row["user_top_categories"] == ["g", "a", "b", "c", "d"]
    assert row["user_top_category_ratings"] == [3.0, 5.0, 5.0, 5.0, 5.0]


def test_a_user_without_categories_has_empty_lists():
    row = only(users(interactions(("u", "e", 1 * DAY, 5.0))))
    assert picked(row, "top_categories", "top_category_shares", "top_category_ratings") == ([], [], [])


def test_the_newest_row_of_an_item_counts():
    catalogue = items(("a", ["Old"], 1), ("a", ["New"], 3), ("a", ["Middle"], 2))
    row = only(users(interactions(("u", "a", 1 * DAY, 5.0)), catalogue=catalogue))
    assert row["user_top_categories"] == ["New"]


def test_recent_items_are_distinct_and_newest_first():
    given = interactions(
        *(("u", f"i{day:02}", day * DAY, 5.0) for day in range(3, 15)),  # twelve items, ten places
        ("u", "i14", 2 * DAY, 5.0),  # the oldest again: now among the newest
        ("u", "z", 1 * DAY, 5.0),  # two at one instant:
        ("u", "y", 1 * DAY, 5.0),  # by item id
        ("u", "i13", -DAY, 5.0),  # again, but in the future
    )
    expected = ["y", "z", "i14", *(f"i{day:02}" for day in range(3, 10))]
    assert only(users(given))["user_recent_item_ids"] == expected
    weekly = users(given, cutoffs=[CUTOFF - 10 * DAY, CUTOFF - 5 * DAY, CUTOFF])  # the same through several spans
    assert weekly.to_pylist()[-1]["user_recent_item_ids"] == expected
    assert weekly.to_pylist()[0]["user_recent_item_ids"] == ["i11", "i12", "i13", "i14"]


def test_items():
    given = interactions(
        ("u", "a", 100 * DAY, 1.0),  # its first interaction: 100 days old
        ("v", "a", 20 * DAY, 5.0),
        ("u", "a", 2 * DAY, 3.0),  # the same user again counts again
        ("u", "b", -DAY, 5.0),  # an item of the future has no row
        ("u", "a", 0 * DAY, 5.0),  # at the cutoff
    )
    row = only(item_rows(given))
    assert picked(row, "count_7d", "count_30d", "count_90d", "count_all", prefix="item_") == (1, 2, 2, 3)
    assert picked(row, "mean_rating", "days_since_last", "age_days", prefix="item_") == (3.0, 2.0, 100.0)
    assert row["item_std_rating"] == pytest.approx((8 / 3) ** 0.5)
    assert row["item_behaviour_source_max_ts"] == CUTOFF - 2 * DAY
    assert row["event_timestamp"] == row["item_behaviour_cutoff_at"] == CUTOFF
    assert row["created_timestamp"] == row["item_behaviour_published_at"] == CUTOFF + timedelta(hours=6)


def random_interactions(n=3000):
    """Users and items with many ties, re-ratings and missing ratings over 150 days, part of them after CUTOFF."""
    draw = np.random.default_rng(7)
    return pa.table(
        {
            "user_id": [f"u{user}" for user in draw.integers(0, 25, n)],
            "item_id": [f"i{item:02}" for item in draw.zipf(1.3, n) % 60],
            "event_timestamp": [CUTOFF + (int(hour) - 3200) * DAY / 24 for hour in draw.integers(0, 3600, n)],
            "rating": pa.array(draw.integers(1, 11, n) / 2, mask=draw.random(n) < 0.2),
        },
        schema=SCHEMA,
    )


def random_catalogue():
    draw = np.random.default_rng(8)
    return items(*((f"i{item:02}", [f"c{kind}" for kind in draw.integers(0, 9, 2)], 1) for item in range(50)))


CUTOFFS = snapshot_cutoffs(CUTOFF - 57 * DAY, CUTOFF + 19 * DAY, "19d")  # five; interactions come at full hours


def days(later, earlier):
    return (later - earlier) / DAY


def expected_row(prefix, seen, cutoff):
    """What both tables say about one entity, from its interactions before ``cutoff``, the slow way."""
    times = [row["event_timestamp"] for row in seen]
    ratings = [row["rating"] for row in seen if row["rating"] is not None]
    counts = {f"{n}d": sum(at >= cutoff - n * DAY for at in times) for n in (7, 30, 90)} | {"all": len(seen)}
    age = "tenure_days" if prefix == "user_" else "age_days"
    return {f"{prefix}count_{span}": count for span, count in counts.items()} | {
        f"{prefix}mean_rating": pytest.approx(statistics.fmean(ratings)) if ratings else None,
        f"{prefix}std_rating": pytest.approx(statistics.pstdev(ratings), abs=1e-5) if ratings else None,
        f"{prefix}days_since_last": pytest.approx(days(cutoff, max(times))),
        f"{prefix}{age}": pytest.approx(days(cutoff, min(times))),
        f"{prefix}behaviour_source_max_ts": max(times),
    }


def expected_tastes(seen, categories):
    tallies: dict[str, list] = {}
    for row in seen:
        for category in set(categories.get(row["item_id"], [])):
            tallies.setdefault(category, []).append(row["rating"])
    top = sorted(tallies, key=lambda category: (-len(tallies[category]), category))[:5]
    rated = [[rating for rating in tallies[category] if rating is not None] for category in top]
    newest = sorted(seen, key=lambda row: (-row["event_timestamp"].timestamp(), row["item_id"]))
    return {
        "user_top_categories": top,
        "user_top_category_shares": pytest.approx([len(tallies[category]) / len(seen) for category in top]),
        "user_top_category_ratings": [pytest.approx(statistics.fmean(each)) if each else None for each in rated],
        "user_recent_item_ids": list(dict.fromkeys(row["item_id"] for row in newest))[:10],
    }


@pytest.mark.parametrize("entity", ["user_id", "item_id"])
def test_many_cutoffs_equal_a_slow_reference(entity):
    given, catalogue = random_interactions(), random_catalogue()
    table = users(given, CUTOFFS, catalogue) if entity == "user_id" else item_rows(given, CUTOFFS)
    rows = given.to_pylist()
    categories = {row["item_id"]: row["categories"] for row in catalogue.to_pylist()}
    expected = []
    for cutoff in CUTOFFS:
        past = [row for row in rows if row["event_timestamp"] < cutoff]
        for who in sorted({row[entity] for row in past}):
            seen = [row for row in past if row[entity] == who]
            row = {entity: who, "event_timestamp": cutoff} | expected_row(entity.removesuffix("id"), seen, cutoff)
            expected.append(row | (expected_tastes(seen, categories) if entity == "user_id" else {}))
    actual = table.to_pylist()  # ordered by cutoff and entity, as promised
    assert len(actual) == len(expected) > 25 * len(CUTOFFS) * 0.9
    for row, want in zip(actual, expected, strict=True):
        assert {name: row[name] for name in want} == want


def test_one_cutoff_at_a_time_gives_the_same_rows():
    given, catalogue = random_interactions(), random_catalogue()
    alone = [users(given, [cutoff], catalogue) for cutoff in CUTOFFS]
    assert users(given, [*reversed(CUTOFFS), CUTOFF], catalogue).equals(pa.concat_tables(alone))
    assert item_rows(given, CUTOFFS).equals(pa.concat_tables([item_rows(given, [cutoff]) for cutoff in CUTOFFS]))


def test_a_planted_future_changes_nothing():
    given, catalogue = random_interactions(), items(("i00", ["c0"], 1), ("planted", ["Planted"], 1))
    planted = interactions(
        ("u0", "planted", 0 * DAY, 4.125),  # exactly at the last cutoff, with a rating that nobody else gives
        ("u0", "planted", -US, 4.125),  # just after it
        ("u1", "i00", -30 * DAY, 4.125),  # long after it, about an old item
        ("planted", "i00", -US, 4.125),  # by a user without a past
    )
    cutoffs = [CUTOFF - 14 * DAY, CUTOFF]
    with_future = pa.concat_tables([given, planted])
    assert users(with_future, cutoffs, catalogue).equals(users(given, cutoffs, catalogue))
    assert item_rows(with_future, cutoffs).equals(item_rows(given, cutoffs))
    seen_later = users(with_future, [CUTOFF + US], catalogue)  # the plant is real: a microsecond later it shows
    assert not seen_later.equals(users(given, [CUTOFF + US], catalogue))


def test_order_files_and_threads_change_nothing(tmp_path):
    given, catalogue = random_interactions(), random_catalogue()
    shuffled = given.take(np.random.default_rng(0).permutation(given.num_rows))
    pq.write_table(shuffled.slice(0, 1000), tmp_path / "b.parquet")
    pq.write_table(shuffled.slice(1000), tmp_path / "a.parquet")
    expected_users, expected_items = users(given, CUTOFFS, catalogue), item_rows(given, CUTOFFS)
    for again in (shuffled, pq.read_table(tmp_path, schema=SCHEMA)):
        assert users(again, CUTOFFS, catalogue, threads=2).equals(expected_users)
        assert item_rows(again, CUTOFFS, threads=2).equals(expected_items)


def test_schemas_also_without_rows():
    nothing = interactions()
    for cutoffs in ([CUTOFF], []):  # no interaction, no cutoff
        assert users(nothing, cutoffs).schema.equals(columns.USER_BEHAVIOUR)
        assert item_rows(nothing, cutoffs).schema.equals(columns.ITEM_BEHAVIOUR)
    assert users(BOUNDARIES).schema.equals(columns.USER_BEHAVIOUR)
    assert item_rows(BOUNDARIES).schema.equals(columns.ITEM_BEHAVIOUR)


def test_cutoffs_of_any_zone_but_never_without():
    east = CUTOFF.astimezone(timezone(timedelta(hours=9)))
    assert users(BOUNDARIES, [east, CUTOFF]).equals(users(BOUNDARIES, [CUTOFF]))
    for build in (users, item_rows):
        with pytest.raises(ConfigError, match="no zone"):
            build(BOUNDARIES, [datetime(2024, 6, 1)])
