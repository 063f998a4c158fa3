"""A small real Feast repository for the tests of the offline store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.repo_config import RepoConfig
from feast.types import FeastType, Int64

ASOF = "lettingo_features.offline_store.asof.AsofOfflineStore"
INSTANT = pa.timestamp("us", tz="UTC")
START = datetime(2024, 1, 1, tzinfo=UTC)

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)


def hour(hours: float) -> datetime:
    """The instant ``hours`` after the start of all timelines."""
    return START + timedelta(hours=hours)


def instants(hours: Sequence[float | None]) -> pa.Array:
    return pa.array([None if value is None else hour(value) for value in hours], INSTANT)


def source(path: Path, created: str | None = "created_timestamp", **options) -> FileSource:
    return FileSource(
        name=path.name,
        path=str(path),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column=created,
        **options,
    )


def view(
    name: str,
    batch_source: FileSource,
    /,
    entities: Sequence[Entity] = (user,),
    ttl: timedelta | None = None,
    **features: FeastType,
) -> FeatureView:
    schema = [Field(name=feature, dtype=kind) for feature, kind in (features or {"value": Int64}).items()]
    return FeatureView(name=name, entities=list(entities), ttl=ttl, schema=schema, source=batch_source)


def write_part(path: Path, **columns) -> Path:
    """Write one parquet part; ``event_timestamp`` and ``created_timestamp`` are given in hours since ``START``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = ("event_timestamp", "created_timestamp")
    pq.write_table(
        pa.table({k: instants(v) if k in times and isinstance(v, list) else v for k, v in columns.items()}), path
    )
    return path


def feast_store(root: Path, objects: Sequence = (), offline: str | dict = ASOF) -> FeatureStore:
    """An applied Feast repository in ``root``: file registry, SQLite online store, the offline store in question."""
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(root / "registry.db"),
        online_store={"type": "sqlite", "path": str(root / "online.db")},
        offline_store={"type": offline} if isinstance(offline, str) else offline,
        entity_key_serialization_version=3,
    )
    config.repo_path = root
    store = FeatureStore(config=config)
    if objects:
        store.apply([user, item, *objects])
    return store
