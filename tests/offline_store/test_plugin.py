"""The store through Feast: inputs of every shape, several views, materialisation, writing, and clear refusals."""

from __future__ import annotations

import random
import re
from datetime import timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, Field, RequestSource, ValueType
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int64, String

from lettingo_features.errors import ConfigError, DataError, FormatError
from lettingo_features.offline_store.asof import AsofOfflineStore
from lettingo_features.offline_store.join import ViewJoin
from tests.offline_store.feast_store import ASOF, feast_store, hour, item, source, user, view, write_part

number = Entity(name="number", join_keys=["number_id"], value_type=ValueType.INT64)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Users (mapped column names), items, pairs, numbers, a view with no rows and one without entities."""
    root = tmp_path_factory.mktemp("shop")
    write_part(
        root / "users" / "0.parquet",
        uid=["a", "b", "a"],
        at=pa.array([hour(1), hour(1), hour(5)], pa.timestamp("us", "UTC")),
        written=pa.array([hour(2), hour(2), hour(6)], pa.timestamp("us", "UTC")),
        n=pa.array([1, None, 3], pa.int64()),
        old_name=["x", "y", None],
        vec=pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32())),
        known=pa.array([True, None, False]),
    )
    # A part that a killed writer left behind is no parquet and must not be read.
    (root / "users" / ".1.parquet").write_bytes(b"half")
    write_part(root / "items.parquet", item_id=["i", "j"], event_timestamp=[2, 2], n=pa.array([10, 20], pa.int32()))
    write_part(
        root / "pairs" / "0.parquet", user_id=["a", "a"], item_id=["i", "j"], event_timestamp=[3, 3], liked=[0.5, 0.25]
    )
    write_part(root / "numbers" / "0.parquet", number_id=[1, 2], event_timestamp=[1, 1], square=[1, 4])
    write_part(root / "clock" / "0.parquet", event_timestamp=[1, 2], tick=[1, 2])
    (root / "nothing").mkdir()
    mapped = source(root / "users", field_mapping={"uid": "user_id", "old_name": "name", "at": "event_timestamp"})
    mapped.created_timestamp_column = "written"
    users = view("users", mapped, n=Int64, name=String, vec=Array(Float32), known=Bool)
    items = view("items", source(root / "items.parquet", created=None), [item], n=Int64)
    pairs = view("pairs", source(root / "pairs", created=None), [user, item], liked=Float64)
    numbers = view("numbers", source(root / "numbers", created=None), [number], square=Int64)
    clock = view("clock", source(root / "clock", created=None), [], tick=Int64)

    @on_demand_feature_view(
        sources=[users, RequestSource(name="request", schema=[Field(name="factor", dtype=Int64)])],
        schema=[Field(name="scaled", dtype=Int64)],
    )
    def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["n"] * inputs["factor"]})

    services = [
        FeatureService(name="two_users", features=[
            users[["n"]].with_name("viewer").with_join_key_map({"user_id": "viewer_id"}),
            users[["n"]].with_name("seller").with_join_key_map({"user_id": "seller_id"}),
        ]),
    ]  # fmt: skip
    store = feast_store(root, [number, users, items, pairs, numbers, clock, scaled, *services])
    return store, root


def people(*users: str | None, at: float = 9, **more) -> pd.DataFrame:
    return pd.DataFrame({"user_id": users, "event_timestamp": [hour(at)] * len(users), **more})


def found(shop, entity_df, *features: str, **options) -> pa.Table:
    return shop[0].get_historical_features(entity_df, list(features), **options).to_arrow()


def test_order_duplicates_and_input_are_kept(shop):
    users = [random.Random(0).choice(["a", "b", "c", None]) for _ in range(500)]
    frame = people(*users, note=range(500))
    frame.index = frame.index[::-1]
    before = frame.copy(deep=True)
    result = shop[0].get_historical_features(frame, ["users:n"]).to_df()
    assert result["note"].tolist() == list(range(500))
    assert [None if pd.isna(n) else n for n in result["n"]] == [3 if name == "a" else None for name in users]
    pd.testing.assert_frame_equal(frame, before)


def test_slate_and_several_views(shop):
    frame = people("a", "a", "a", item_id=["i", "j", "k"])  # one user, one instant, three items
    table = found(shop, frame, "users:name", "items:n", "pairs:liked")
    assert table.column_names == ["user_id", "event_timestamp", "item_id", "name", "n", "liked"]
    assert table.select(["name", "n", "liked"]).to_pydict() == {
        "name": [None, None, None],
        "n": [10, 20, None],
        "liked": [0.5, 0.25, None],
    }


def test_same_feature_name_in_two_views(shop):
    table = found(shop, people("a", item_id=["i"]), "users:n", "items:n", full_feature_names=True)
    assert (table["users__n"].to_pylist(), table["items__n"].to_pylist()) == ([3], [10])


def test_aliased_views_with_their_own_join_keys(shop):
    store, _ = shop
    frame = pd.DataFrame({"viewer_id": ["a"], "seller_id": ["b"], "event_timestamp": [hour(2)]})
    job = store.get_historical_features(frame, store.get_feature_service("two_users"), full_feature_names=True)
    table = job.to_arrow()
    assert (table["viewer__n"].to_pylist(), table["seller__n"].to_pylist()) == ([1], [None])


def test_columns_named_like_the_joins_own(tmp_path):
    own = {name: Int64 for name in ("e", "c", "v", "h", "k0", "f0", "label", "instant", "same")}
    values = {name: [index] for index, name in enumerate(own)}
    write_part(tmp_path / "0.parquet", user_id=["a"], event_timestamp=[1], created_timestamp=[2], **values)
    store = feast_store(tmp_path, [view("own", source(tmp_path), ttl=timedelta(days=1), **own)])
    job = store.get_historical_features(people("a"), [f"own:{name}" for name in own], filter_by_created_timestamp=True)
    assert job.to_arrow().select(list(own)).to_pydict() == values


def test_view_without_entities(shop):
    assert found(shop, people("a", "b", at=1.5), "clock:tick")["tick"].to_pylist() == [1, 1]


def test_on_demand_view_runs_on_the_joined_row(shop):
    table = found(shop, people("a", "b", factor=[10, 10]), "scaled:scaled", "users:n")
    assert table["factor"].to_pylist() == [10, 10]
    assert pd.isna(table["scaled"].to_pylist()[1]) and table["scaled"].to_pylist()[0] == 30


def test_types_survive_nulls_in_pandas(shop):
    job = shop[0].get_historical_features(people("a", "b", "c"), ["users:n", "users:vec", "users:known", "users:name"])
    result = job.to_df()
    assert {name: str(result[name].dtype) for name in ("n", "known")} == {"n": "Int64", "known": "boolean"}
    assert result["vec"][0].dtype == np.float32 and result["vec"][0].tolist() == [3.0, 4.0]
    assert result["vec"][1] is None and result["vec"][2] is None
    assert job.to_arrow()["vec"].type == pa.list_(pa.float32())


def test_declared_type_wins_over_the_stored_one(shop):
    assert found(shop, people("a", item_id=["i"]), "items:n")["n"].type == pa.int64()  # stored as int32


# The same instant, hour 2, written in every way; the view's row of hour 1 is visible from 1 on, that of hour 5 is not.
TIMES = {
    "UTC": pd.Series([hour(2)]),
    "no zone is UTC": pd.Series([hour(2).replace(tzinfo=None)]),
    "another zone": pd.Series([pd.Timestamp(hour(2)).tz_convert("Asia/Tokyo")]),
    "text with zone": pd.Series(["2024-01-01T04:00:00+02:00"]),
    "text without": pd.Series(["2024-01-01 02:00:00"]),
    "python datetimes": pd.Series([hour(2).astimezone(timezone(timedelta(hours=-5)))], dtype=object),
    "microseconds": pd.Series([hour(2)]).astype("datetime64[us, UTC]"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times(shop, kind):
    table = found(shop, pd.DataFrame({"user_id": ["a"], "event_timestamp": TIMES[kind]}), "users:n")
    assert table["event_timestamp"].to_pylist() == [hour(2)]
    assert table["n"].to_pylist() == [1]


def test_labels_as_arrow_and_as_query(shop):
    arrow = pa.table({"user_id": ["a", "b"], "event_timestamp": ["2024-01-01T09:00:00Z", None], "w": [1.5, 2.5]})
    table = found(shop, arrow, "users:n")
    assert table.drop_columns("event_timestamp").to_pydict() == {"user_id": ["a", "b"], "w": [1.5, 2.5], "n": [3, None]}
    query = "SELECT 'a' AS user_id, TIMESTAMPTZ '2024-01-01 02:00:00Z' AS event_timestamp"
    assert found(shop, query, "users:n")["n"].to_pylist() == [1]


def test_integer_keys_with_nulls(shop):
    frame = pd.DataFrame({"number_id": [2, None, 1], "event_timestamp": [hour(9)] * 3})  # pandas makes them floats
    assert found(shop, frame, "numbers:square")["square"].to_pylist() == [4, None, 1]


@pytest.mark.parametrize("state", ["empty", "absent"])
def test_a_view_without_rows_gives_typed_nulls(shop, tmp_path, state):
    path = tmp_path / "rows"
    if state == "empty":
        path.mkdir()
    store = feast_store(tmp_path, [view("rows", source(path), vec=Array(Float32), n=Int64)])
    table = store.get_historical_features(people("a"), ["rows:vec", "rows:n"]).to_arrow()
    assert table.schema.field("vec").type == pa.list_(pa.float32()) and table["vec"].null_count == 1
    store.materialize(hour(0), hour(9))


def test_materialised_values_are_the_newest(shop):
    store, _ = shop
    store.materialize(hour(0), hour(9), feature_views=["users", "items"])
    online = store.get_online_features(["users:n", "users:vec"], [{"user_id": "a"}, {"user_id": "b"}]).to_dict()
    assert online["n"] == [3, None]
    assert online["vec"][0] == [3.0, 4.0]


def test_materialise_takes_every_row(tmp_path):
    # Feast 0.67 writes only the first chunk of what the store returns.
    names = [f"u{index:06d}" for index in range(300_000)]
    times = pa.array([hour(1)] * len(names), pa.timestamp("us", "UTC"))
    write_part(
        tmp_path / "rows" / "0.parquet",
        user_id=names,
        event_timestamp=times,
        created_timestamp=times,
        value=range(300_000),
    )
    store = feast_store(tmp_path, [view("rows", source(tmp_path / "rows"))])
    columns = (["user_id"], ["value"], "event_timestamp", "created_timestamp")
    job = AsofOfflineStore.pull_latest_from_table_or_query(
        store.config, source(tmp_path / "rows"), *columns, hour(0), hour(9)
    )
    assert len(job.to_arrow().to_batches()) == 1 and job.to_arrow().num_rows == 300_000


def test_saved_dataset_round_trip(shop, tmp_path):
    store, _ = shop
    for target in ("saved.parquet", "saved"):
        job = store.get_historical_features(people("b", "a"), ["users:n"])
        storage = SavedDatasetFileStorage(path=str(tmp_path / target))
        saved = store.create_saved_dataset(job, target, storage)
        assert sorted(saved.to_df()["user_id"]) == ["a", "b"]
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            job.persist(storage)
        job.persist(storage, allow_overwrite=True)
        assert pq.read_table(tmp_path / target)["n"].to_pylist() == [None, 3]


@pytest.mark.parametrize("target", ["rows", "rows.parquet"])
def test_rows_written_through_feast_are_found(tmp_path, target):
    stored = tmp_path / target if target.endswith("parquet") else tmp_path / target / "0.parquet"
    write_part(stored, user_id=["a"], event_timestamp=[1], created_timestamp=[1], value=[1])
    store = feast_store(tmp_path, [view("rows", source(tmp_path / target))])
    rows = people("a", at=1, created_timestamp=[hour(1)], value=[2])  # a full tie with the stored row: written later
    store.write_to_offline_store("rows", rows)
    assert store.get_historical_features(people("a", "a"), ["rows:value"]).to_arrow()["value"].to_pylist() == [2, 2]
    assert not list(tmp_path.rglob("*.tmp"))


def test_keys_that_share_a_hash_are_told_apart(shop, monkeypatch):
    text = ViewJoin.sql
    runs = []

    def weak(self, span, ordered, exact):
        runs.append(exact)
        return re.sub(r"hash\([^)]*\)", "42", text(self, span, ordered, exact))

    monkeypatch.setattr(ViewJoin, "sql", weak)
    assert found(shop, people("a", "b", "c"), "users:n")["n"].to_pylist() == [3, None, None]
    assert runs == [False, True]


REFUSALS = {
    # what is wrong: labels, feature, error, a word of the message that tells what to do
    "no key column": (people("a").rename(columns={"user_id": "u"}), "users:n", DataError, "lack user_id"),
    "number for a text key": (people(7), "users:n", DataError, "convert"),
    "text for a number key": (people("a", number_id=["1"]), "numbers:square", DataError, "convert"),
    "unreadable time": (people("a").assign(event_timestamp="soon"), "users:n", DataError, "ISO 8601"),
    "no time": (people("a").drop(columns="event_timestamp"), "users:n", ConfigError, "event_timestamp"),
    "mixed types": (people("a", 7), "users:n", DataError, "one type"),
    "taken name": (people("a", n=[1]), "users:n", ConfigError, "full_feature_names"),
}


@pytest.mark.parametrize("wrong", REFUSALS)
def test_refusals(shop, wrong):
    labels, feature, error, advice = REFUSALS[wrong]
    with pytest.raises(error, match=advice):
        found(shop, labels, feature)


def test_a_date_range_instead_of_labels_is_refused(shop):
    with pytest.raises(ConfigError, match="entity_df"):
        shop[0].get_historical_features(features=["users:n"], start_date=hour(0), end_date=hour(9))


def test_missing_column_half_written_part_and_variable(tmp_path):
    write_part(tmp_path / "rows" / "0.parquet", user_id=["a"], event_timestamp=[1], created_timestamp=[1], value=[1])
    rows = view("rows", source(tmp_path / "rows"), value=Int64, other=Int64)
    home = view("home", source(tmp_path / "$LETTINGO_HOME" / "rows"))
    store = feast_store(tmp_path, [rows, home])
    with pytest.raises(DataError, match="lacks: other"):
        store.get_historical_features(people("a"), ["rows:other"])
    with pytest.raises(ConfigError, match="export LETTINGO_HOME"):
        store.get_historical_features(people("a"), ["home:value"])
    (tmp_path / "rows" / "1.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(FormatError, match="not readable parquet"):
        store.get_historical_features(people("a"), ["rows:value"])
    with pytest.raises(ConfigError, match="export LETTINGO_HOME"):
        feast_store(tmp_path, offline={"type": ASOF, "spill_directory": "${LETTINGO_HOME}/spill"})


def test_little_memory_spills_and_agrees(tmp_path):
    n, draw = 200_000, np.random.default_rng(0)
    times = pa.array(draw.integers(1_704_067_200_000_000, 1_704_153_600_000_000, n), pa.timestamp("us", "UTC"))
    users = pa.array(draw.integers(0, 50, n)).cast(pa.string())
    text = pa.array(["x" * 200] * n)
    write_part(tmp_path / "rows" / "0.parquet", user_id=users, event_timestamp=times, text=text, value=range(n))
    rows = view("rows", source(tmp_path / "rows", created=None), text=String, value=Int64)
    labels = pa.table({"user_id": users, "event_timestamp": times})
    answers = [
        feast_store(tmp_path, [rows], {"type": ASOF, "memory_limit": limit, "threads": 1})
        .get_historical_features(labels, ["rows:text", "rows:value"])
        .to_arrow()["value"]
        for limit in ("60MB", "1GB")
    ]
    assert answers[0].equals(answers[1]) and answers[0].null_count == 0
