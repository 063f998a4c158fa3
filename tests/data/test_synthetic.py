"""The synthetic world: the same config gives the same tables, and what it plants can be found again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lettingo_features import columns as c
from lettingo_features.data.ingest import ingest
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.data.synthetic_tastes import MAX_CHANGES, draw_tastes
from lettingo_features.home import Home
from lettingo_features.profiles.summary import SummaryConfig, summaries, summarise
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows

BEAUTY = ("Skin Care", "Hair Care", "Make-up", "Fragrance", "Nail Care", "Bath", "Shaving", "Oral Care", "Sun Care")
SMALL = WorldConfig(n_users=300, n_items=400, interactions_per_user=15, unrated_share=0.1)


@pytest.fixture(scope="module")
def world():
    return SyntheticWorld(SMALL)


def digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def rows_of(table: pa.Table, users: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table[c.USER_ID], users))


def test_same_config_same_tables(world):
    again = SyntheticWorld(SMALL)
    at = SMALL.start + timedelta(days=100)
    assert digest(again.items()) == digest(world.items())
    assert digest(again.interactions()) == digest(world.interactions())
    assert digest(again.truth(at)) == digest(world.truth(at))


def test_another_seed_is_another_world(world):
    other = SyntheticWorld(SMALL.model_copy(update={"seed": 1}))
    assert digest(other.interactions()) != digest(world.interactions())
    assert digest(other.items()) != digest(world.items())


@pytest.mark.parametrize("n_users", [10, 256, 299])  # inside a block, at its end, inside the next
def test_more_users_leave_earlier_histories_alone(world, n_users):
    fewer = SyntheticWorld(SMALL.model_copy(update={"n_users": n_users}))
    users = fewer.truth(SMALL.start)[c.USER_ID].combine_chunks()
    assert len(users) == n_users
    assert digest(fewer.interactions()) == digest(rows_of(world.interactions(), users))


def test_tables_have_the_declared_schemas(world):
    assert world.interactions().schema == c.INTERACTIONS
    assert world.items().schema.names == [name for name in c.ITEMS.names if name != c.CREATED_TIMESTAMP]
    for field in world.items().schema:
        assert field == c.ITEMS.field(field.name)


def test_interactions_are_plausible(world):
    table = world.interactions()
    times = table[c.EVENT_TIMESTAMP].to_pylist()
    assert times == sorted(times)
    assert SMALL.start <= times[0] and times[-1] < SMALL.start + timedelta(days=SMALL.n_days)
    pairs = table.group_by([c.USER_ID, c.ITEM_ID]).aggregate([([], "count_all")])
    assert pairs.num_rows == table.num_rows, "a user meets an item once"
    assert len(table[c.USER_ID].unique()) > 0.98 * SMALL.n_users
    ratings = table[c.RATING].to_numpy()
    rated = ratings[~np.isnan(ratings)]
    assert set(np.unique(rated)) <= set(np.arange(0.5, 5.5, 0.5))
    assert np.isnan(ratings).mean() == pytest.approx(SMALL.unrated_share, abs=0.02)
    assert rated.std() > 0.7
    lag = pc.subtract(table[c.CREATED_TIMESTAMP].cast(pa.int64()), table[c.EVENT_TIMESTAMP].cast(pa.int64()))
    assert pc.min_max(lag).as_py() == {"min": 1, "max": 1}  # microseconds


def test_event_type_says_whether_a_row_is_rated(world):
    table = world.interactions()
    assert table.filter(pc.is_null(table[c.RATING]))[c.EVENT_TYPE].unique().to_pylist() == ["view"]
    assert table.filter(pc.is_valid(table[c.RATING]))[c.EVENT_TYPE].unique().to_pylist() == ["rating"]


def test_activity_and_popularity_are_skewed(world):
    for key in (c.USER_ID, c.ITEM_ID):
        counts = np.sort(world.interactions()[key].value_counts().field("counts").to_numpy())[::-1]
        assert counts[: len(counts) // 5].sum() > 0.35 * counts.sum(), key  # the top fifth does more than a third


def test_no_item_is_met_before_its_release(world):
    table = world.interactions()
    index = np.array([int(item[1:]) for item in table[c.ITEM_ID].to_pylist()])
    second = (table[c.EVENT_TIMESTAMP].cast(pa.int64()).to_numpy() - SMALL.start.timestamp() * 1e6) / 1e6
    released = world._catalogue.released[index]
    assert (second >= released).all()
    assert (released > 0).mean() > 0.1, "some of what is met appeared on the way"


def test_titles_are_distinct_and_categories_one_to_three(world):
    items = world.items()
    assert len(items[c.TITLE].unique()) == items.num_rows
    assert set(pc.list_value_length(items[c.CATEGORIES]).to_pylist()) == {1, 2, 3}
    assert all(len(set(names)) == len(names) for names in items[c.CATEGORIES].to_pylist())


def test_reviews_agree_with_ratings(world):
    table = world.interactions()
    written = table.filter(pc.is_valid(table[c.REVIEW_TEXT]))
    n_rated = pc.count(table[c.RATING]).as_py()
    assert written.num_rows / n_rated == pytest.approx(SMALL.review_share, abs=0.03)
    praise = pc.match_substring_regex(written[c.REVIEW_TEXT], "Loved|won me over|stays with me|and stayed").to_numpy()
    assert (praise == (written[c.RATING].to_numpy() >= 4)).all()


def test_truth_is_a_distribution_without_the_disliked(world):
    for row in world.truth(SMALL.start + timedelta(days=365)).to_pylist():
        assert 2 <= len(row["interests"]) <= 4
        assert row["weights"] == sorted(row["weights"], reverse=True)
        assert sum(row["weights"]) == pytest.approx(1, abs=1e-5)
        assert row["disliked"] not in row["interests"]


def test_truth_drifts_for_some_and_never_forgets_the_disliked(world):
    before = world.truth(SMALL.start)
    after = world.truth(SMALL.start + timedelta(days=SMALL.n_days))
    changed = np.mean(
        [a != b for a, b in zip(before["interests"].to_pylist(), after["interests"].to_pylist(), strict=True)]
    )
    assert 0.25 < changed < 0.65  # 1 - exp(-0.3 * 2 years) = 0.45
    assert before["disliked"].equals(after["disliked"])


def test_a_change_holds_from_its_instant_on():
    tastes = draw_tastes(np.random.default_rng(0), n=50, n_categories=10, duration_s=1000, changes=2)
    user = int(np.flatnonzero(np.isfinite(tastes.change_s[:, 0]))[0])
    change = tastes.change_s[user, 0]
    before, at = tastes.at(np.array([user, user]), np.array([np.nextafter(change, 0), change]))
    assert (before == tastes.weights[user, 0]).all()
    assert (at == tastes.weights[user, 1]).all()
    assert tastes.weights.shape == (50, MAX_CHANGES + 1, 10)


def test_no_changes_means_no_drift():
    world = SyntheticWorld(SMALL.model_copy(update={"changes_per_year": 0.0}))
    ends = [world.truth(SMALL.start + timedelta(days=days))["interests"] for days in (0, SMALL.n_days)]
    assert ends[0].equals(ends[1])


@pytest.mark.parametrize("names", [WorldConfig().category_names, BEAUTY], ids=["films", "beauty"])
def test_top_summary_category_names_the_true_interest(names):
    """What a generator reads must hold the answer, or copying it right would not be measured."""
    config = WorldConfig(n_users=600, category_names=names)
    world, at = SyntheticWorld(config), config.start + timedelta(days=config.n_days)
    connection = connect(threads=1)
    connection.register("interactions", world.interactions())
    connection.register("items", world.items())
    create_windows(connection, "interactions", [at], WindowConfig())
    truth = {row["user_id"]: row for row in world.truth(at).to_pylist()}
    found, lowest = [], []
    for user_id, facts in summaries(summarise(connection, "items", SummaryConfig(rating_max=5)).read_all()):
        if facts["n_interactions"] >= 10:
            found.append(facts["top_categories"][0]["name"] == truth[user_id]["interests"][0])
            if facts["lowest_category"]:
                lowest.append(facts["lowest_category"]["name"] == truth[user_id]["disliked"])
    assert len(found) > 400 and np.mean(found) >= 0.9
    assert len(lowest) > 200 and np.mean(lowest) >= 0.85


def test_write_world_leaves_raw_files(world, tmp_path):
    paths = write_world(world, tmp_path)
    assert [path.name for path in paths] == ["interactions.parquet", "items.parquet"]
    written, made = pq.read_table(paths[0]), world.interactions()
    assert written.column_names == ["user_id", "item_id", "timestamp", "rating", "event_type", "review_text"]
    for theirs, ours in (("timestamp", c.EVENT_TIMESTAMP), ("rating", c.RATING), ("user_id", c.USER_ID)):
        assert written[theirs].equals(made[ours])
    assert pq.read_table(paths[1]).equals(world.items())


def test_a_written_world_passes_the_door_whole(world, tmp_path):
    write_world(world, tmp_path / "raw")
    home = Home(tmp_path / "home")
    report = ingest(tmp_path / "raw", home, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert report.interactions.appended == world.interactions().num_rows
    assert report.items.appended == world.items().num_rows
    assert report.quarantine is None
    stored = connect(threads=1).sql(f"SELECT * FROM {home.scan('interactions')}").to_arrow_table()
    order = [(name, "ascending") for name in (c.EVENT_TIMESTAMP, c.USER_ID, c.ITEM_ID)]
    made = world.interactions()
    for name in (c.USER_ID, c.ITEM_ID, c.EVENT_TIMESTAMP, c.CREATED_TIMESTAMP, c.RATING, c.EVENT_TYPE, c.REVIEW_TEXT):
        assert stored.sort_by(order)[name].to_pylist() == made[name].to_pylist(), name


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_users": 0},
        {"category_names": BEAUTY[:7]},  # four interests, one aversion and three changes need eight
        {"category_names": (*BEAUTY, "Bath")},  # a name twice
        {"start": datetime(2023, 1, 1)},  # no zone
        {"browsing_share": 0.7, "aversion_share": 0.6},  # more than everything
    ],
)
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ValidationError):
        WorldConfig(**wrong)


def test_start_in_another_zone_is_the_same_instant():
    shifted = WorldConfig(n_users=5, start=datetime(2023, 1, 1, tzinfo=UTC).astimezone())
    assert digest(SyntheticWorld(shifted).interactions()) == digest(
        SyntheticWorld(WorldConfig(n_users=5)).interactions()
    )
