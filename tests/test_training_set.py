"""Training sets through Feast and the as-of store: what a label may find, and the certificate beside the file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features.columns import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    GENERATOR,
    N_INTERACTIONS,
    PROFILE_PROVENANCE,
    TIMESTAMP,
    USER_ID,
    USER_PROFILE_META,
)
from lettingo_features.errors import ConfigError, DataError, LeakageError
from lettingo_features.home import Home
from lettingo_features.training_set import build_training_set, join_views, read_labels

T = datetime(2026, 3, 1, tzinfo=UTC)
US, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)


def meta(*rows: tuple[str, datetime, datetime, datetime, int]) -> pa.Table:
    """(user, newest interaction read, cutoff, published, interactions)"""
    columns: dict[str, list] = {name: [] for name in USER_PROFILE_META.names}
    for user, source, cutoff, published, n in rows:
        values = dict(zip(PROFILE_PROVENANCE, (cutoff, source, published), strict=True))
        values |= {USER_ID: user, EVENT_TIMESTAMP: cutoff, CREATED_TIMESTAMP: published, N_INTERACTIONS: n}
        for name, column in columns.items():
            column.append(values.get(name, "x" if name == GENERATOR else None))
    return pa.table(columns, schema=USER_PROFILE_META)


def labels(*rows: tuple[str, datetime]) -> pa.Table:
    users, at = zip(*rows, strict=True)
    return pa.table({USER_ID: users, EVENT_TIMESTAMP: pa.array(at, TIMESTAMP), "label": range(len(rows))})


@pytest.fixture(scope="module")
def make_store(tmp_path_factory):
    """A store over ``user_profile_meta_v1`` alone: a service ``s`` and a service without provenance, ``bare``."""

    def make(rows: pa.Table, offline: str = "lettingo_features.offline_store.asof.AsofOfflineStore"):
        from feast import Entity, FeatureService, FeatureStore, FeatureView, FileSource, RepoConfig, ValueType

        from lettingo_features.feast_schema import fields

        root = tmp_path_factory.mktemp("store")
        home = Home(root).create()
        home.write_part("user_profile_meta_v1", "p", rows, USER_PROFILE_META)
        source = FileSource(
            name="meta",
            path=str(home.table_dir("user_profile_meta_v1")),
            timestamp_field=EVENT_TIMESTAMP,
            created_timestamp_column=CREATED_TIMESTAMP,
        )
        user = Entity(name="user", join_keys=[USER_ID], value_type=ValueType.STRING)
        view = FeatureView(
            name="user_profile_meta_v1",
            entities=[user],
            source=source,
            schema=fields(USER_PROFILE_META),
            ttl=timedelta(days=36_500),
        )
        config = RepoConfig(
            project="t",
            provider="local",
            registry=str(root / "registry.db"),
            offline_store={"type": offline},
            online_store={"type": "sqlite", "path": str(root / "online.db")},
            entity_key_serialization_version=3,
            repo_path=root,
        )
        store = FeatureStore(config=config)
        bare = FeatureService(name="bare", features=[view[[N_INTERACTIONS]]])
        store.apply([user, view, FeatureService(name="s", features=[view]), bare])
        return store

    return make


GOOD = ("u", T - 2 * DAY, T - DAY, T - DAY + 6 * HOUR, 5)


def test_a_label_finds_the_newest_profile_that_was_published_before_it(make_store):
    older = ("u", T - 30 * DAY, T - 29 * DAY, T - 29 * DAY + 6 * HOUR, 4)
    store = make_store(meta(older, GOOD))
    at = labels(
        ("u", T - DAY + 6 * HOUR),  # the instant of publication: found
        ("u", T - DAY + 6 * HOUR - US),  # a microsecond earlier: still the older one
        ("u", T - 29 * DAY),  # at the older cutoff, before its publication: nothing
        ("nobody", T),  # unknown: kept, empty
        ("u", T),
    )
    made = build_training_set(store, at, "s")
    assert made.table[N_INTERACTIONS].to_pylist() == [5, 4, None, None, 5]
    assert made.table["label"].to_pylist() == [0, 1, 2, 3, 4]  # rows and order of the labels
    (family,) = made.certificate.families
    assert (family.rows_with_value, family.rows_without_value, made.certificate.violations) == (3, 2, 0)
    assert family.worst_label_margin_s == 0


PLANTED = [  # source              cutoff        published     which rule would let it in
    pytest.param((T - DAY, T - HOUR, T + DAY), id="backfill created late: hidden by the created filter"),
    pytest.param((T - DAY, T + US, T + US), id="cutoff after the label: hidden by the as-of join"),
]


@pytest.mark.parametrize("times", PLANTED)
def test_a_planted_future_row_is_not_found(make_store, times):
    store = make_store(meta(GOOD, ("u", *times, 666)))
    made = build_training_set(store, labels(("u", T)), "s")
    assert made.table[N_INTERACTIONS].to_pylist() == [5]


def test_without_the_created_filter_the_planted_row_would_be_found(make_store):
    store = make_store(meta(GOOD, ("u", T - DAY, T - HOUR, T + DAY, 666)))
    service = store.get_feature_service("s")
    rows = store.get_historical_features(labels(("u", T)).to_pandas(), service).to_arrow()
    assert rows[N_INTERACTIONS].to_pylist() == [666]


def test_a_window_that_reached_its_cutoff_is_a_violation_even_when_published_in_time(make_store):
    store = make_store(meta(("u", T - DAY, T - DAY, T - DAY, 5)))  # a label at exactly the cutoff was inside
    with pytest.raises(LeakageError, match=r"1 of 1 training rows.*source_max_ts < cutoff_at.*user_id u"):
        build_training_set(store, labels(("u", T)), "s")


def test_the_certificate_lies_beside_the_file_and_names_its_content(make_store, tmp_path):
    made = build_training_set(make_store(meta(GOOD)), labels(("u", T)), "s")
    beside = made.write(tmp_path / "train.parquet")
    written = json.loads(beside.read_text())
    assert beside.name == "train.parquet.certificate.json"
    assert (written["rows"], written["violations"], written["views"]) == (1, 0, ["user_profile_meta_v1"])
    assert pq.read_table(tmp_path / "train.parquet").equals(made.table)


REFUSED = [  # labels                                                   service  error        says
    (labels(("u", T)).drop_columns([USER_ID]), "s", DataError, "lack user_id"),
    (labels(("u", T)).drop_columns([EVENT_TIMESTAMP]), "s", DataError, "lack event_timestamp"),
    (labels(("u", T), ("u", None)), "s", DataError, "1 of 2 labels have no event_timestamp"),
    (labels(("u", T)).set_column(1, EVENT_TIMESTAMP, pa.array(["soon"])), "s", DataError, "is not a time"),
    (labels(("u", T)), "ranker_v9", ConfigError, "No feature service ranker_v9.*knows: bare, s"),
    (labels(("u", T)), "bare", DataError, "no provenance columns"),
]


@pytest.mark.parametrize(("rows", "service", "error", "says"), REFUSED)
def test_labels_or_services_that_cannot_be_certified_are_refused(make_store, rows, service, error, says):
    with pytest.raises(error, match=says):
        build_training_set(make_store(meta(GOOD)), rows, service)


def test_a_store_that_cannot_filter_by_creation_is_refused(make_store):
    store = make_store(meta(GOOD))
    store._get_provider().offline_store.supports_filter_by_created_timestamp = False  # as Ray's and Snowflake's
    with pytest.raises(ConfigError, match="cannot filter by created timestamp"):
        build_training_set(store, labels(("u", T)), "s")
    with pytest.raises(ConfigError, match="cannot filter by created timestamp"):
        join_views(store, labels(("u", T)), ["user_profile_meta_v1"])


TIMES = [  # label time as text or type                      the same instant as T - DAY + 6 h
    pa.array(["2026-02-28T06:00:00Z"]),
    pa.array(["2026-02-28T08:00:00+02:00"]),
    pa.array([datetime(2026, 2, 28, 6)], pa.timestamp("ns")),  # no zone: UTC
    pa.array([datetime(2026, 2, 28, 6, tzinfo=UTC)], pa.timestamp("ms", tz="Europe/Berlin")),
]


@pytest.mark.parametrize("at", TIMES, ids=str)
def test_label_times_of_any_type_mean_the_same_instant(make_store, at):
    store = make_store(meta(GOOD))
    made = build_training_set(store, pa.table({USER_ID: ["u"], EVENT_TIMESTAMP: at}), "s")
    assert made.certificate.families[0].worst_label_margin_s == 0


def test_label_columns_pass_through_unchanged(make_store):
    rows = labels(("u", T), ("v", T)).append_column("clicks", pa.array([2**53 + 1, None], pa.int64()))
    made = build_training_set(make_store(meta(GOOD)), rows, "s")
    assert made.table.select(rows.column_names).equals(rows)


def test_labels_come_from_parquet_or_csv_and_ids_stay_text(tmp_path):
    pq.write_table(labels(("007", T)), tmp_path / "l.parquet")
    (tmp_path / "l.csv").write_text("user_id,event_timestamp,label\n007,2026-03-01T00:00:00Z,1\n")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "l.parquet").read_bytes()[:-20])
    assert read_labels(tmp_path / "l.parquet")[USER_ID].to_pylist() == ["007"]
    assert read_labels(tmp_path / "l.csv")[USER_ID].to_pylist() == ["007"]
    with pytest.raises(DataError, match=r"half\.parquet cannot be read.*Write it again, whole"):
        read_labels(tmp_path / "half.parquet")
    with pytest.raises(DataError, match="No labels at"):
        read_labels(tmp_path / "absent.csv")
