"""Training sets: labels in, features joined as of each label, every row certified."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features.certificate import Certificate, check_families, content_sha256
from lettingo_features.champion import ALIAS_TAG
from lettingo_features.columns import EVENT_TIMESTAMP, PROVENANCES, TIMESTAMP
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import write_parquet
from lettingo_features.runs import installed_versions

if TYPE_CHECKING:
    from feast import FeatureStore


class TrainingSet(NamedTuple):
    """A certified training set: ``table`` has the rows of the labels, in their order, with features beside them."""

    table: pa.Table
    certificate: Certificate

    def write(self, path: Path | str) -> Path:
        """Write ``path`` (parquet) and ``path`` + ``.certificate.json``; return the certificate's path."""
        path = Path(path)
        write_parquet(path, self.table.to_batches(), self.table.schema)
        beside = path.with_name(path.name + ".certificate.json")
        beside.write_text(json.dumps(self.certificate.model_dump(), indent=2) + "\n")
        return beside


def build_training_set(store: FeatureStore, labels: pa.Table, service: str) -> TrainingSet:
    """Join the features of ``service`` to ``labels`` as of each label's instant and certify every row.

    Parameters
    ----------
    store
        A Feast store whose offline store can filter by created timestamp; another is refused, since rows that were
        backfilled after a label would otherwise leak into it.
    labels
        One row per training example: the service's entity keys, ``event_timestamp`` (an instant; UTC when it has
        no zone) and any further columns (label, query id, weight), which pass through unchanged.
    service
        Name of a FeatureService.

    Raises
    ------
    DataError
        Labels lack a column, hold null timestamps, or the join changed the number of rows.
    ConfigError
        The service is unknown or an alias that moves with the champion, or the store cannot filter.
    LeakageError
        A row saw the future.
    """
    feature_service = _feature_service(store, service)
    if ALIAS_TAG in feature_service.tags:
        raise ConfigError(
            f"{service} answers as whichever release is champion, and vectors of two releases do not compare: train on "
            f"the service of one release, today ranker_profile_{feature_service.tags[ALIAS_TAG]}, and store its name."
        )
    views = [projection.name_to_use() for projection in feature_service.feature_view_projections]
    keys = {projection.join_key_map.get(key, key) for projection, key in _join_keys(store, feature_service)}
    labels = _checked_labels(labels, keys, service)
    table = _join(store, labels, feature_service)
    certificate = Certificate(
        rows=table.num_rows,
        violations=0,
        families=check_families(table),
        unchecked_views=_unchecked(feature_service),
        service=service,
        views=tuple(views),
        labels_sha256=content_sha256(labels),
        table_sha256=content_sha256(table),
        versions=installed_versions(),
        created_at=datetime.now(UTC).isoformat(),
    )
    return TrainingSet(table, certificate)


def read_labels(path: Path | str) -> pa.Table:
    """Labels from a parquet or CSV file; ids are read as text."""
    import pyarrow.csv as csv

    path = Path(path)
    if not path.is_file():
        raise DataError(f"No labels at {path}: give a parquet or CSV file with user_id, item_id and event_timestamp.")
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        as_text = csv.ConvertOptions(column_types={"user_id": pa.string(), "item_id": pa.string()})
        return csv.read_csv(path, convert_options=as_text)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as {path.suffix or 'CSV'}: {error}. Write it again, whole.") from error


def join_views(store: FeatureStore, rows: pa.Table, views: Sequence[str]) -> pa.Table:
    """Join every feature of ``views`` to ``rows`` as of each row's ``event_timestamp``: checked, no certificate.

    For entity rows that are not training examples: the users or the candidates of one ranking instant. ``rows`` needs
    only the entity keys of ``views``; order and number of rows are kept.

    Raises
    ------
    DataError, ConfigError, LeakageError
        As :func:`build_training_set`.
    """
    _refuse_without_filter(store)
    known = [store.get_feature_view(view) for view in views]
    keys = {key for view in known for key in view.join_keys}
    rows = _checked_labels(rows, keys, ", ".join(views))
    features = [f"{view.name}:{feature.name}" for view in known for feature in view.features]
    table = _join(store, rows, features)
    check_families(table)
    return table


def _join(store: FeatureStore, rows: pa.Table, features) -> pa.Table:
    job = store.get_historical_features(entity_df=rows.to_pandas(), features=features, filter_by_created_timestamp=True)
    table = job.to_arrow()
    if table.num_rows != rows.num_rows:
        raise DataError(
            f"{rows.num_rows:,} rows went in and {table.num_rows:,} came out: the offline store "
            f"{type(_offline_store(store)).__name__} lost or doubled rows. Use "
            "lettingo_features.offline_store.asof.AsofOfflineStore in feature_store.yaml."
        )
    return _with_labels_as_given(store, rows, table)


def _with_labels_as_given(store: FeatureStore, rows: pa.Table, table: pa.Table) -> pa.Table:
    """``table`` with the columns of ``rows`` put back: pandas, on the way, turns integers with nulls into floats."""
    for name in rows.column_names:
        given, found = rows[name], table[name]
        if pa.types.is_string(given.type) or pa.types.is_timestamp(given.type):
            same = pc.equal(given, found.cast(given.type))
            if pc.any(pc.invert(pc.fill_null(same, True))).as_py():
                raise DataError(
                    f"The offline store {type(_offline_store(store)).__name__} changed the order of the rows ({name} "
                    "differs). Use lettingo_features.offline_store.asof.AsofOfflineStore in feature_store.yaml."
                )
        table = table.set_column(table.schema.get_field_index(name), rows.schema.field(name), given)
    return table


def _join_keys(store: FeatureStore, service):
    for projection in service.feature_view_projections:
        for key in store.get_feature_view(projection.name).join_keys:
            yield projection, key


def _checked_labels(labels: pa.Table, keys: set[str], wanted_by: str) -> pa.Table:
    missing = sorted((keys | {EVENT_TIMESTAMP}) - set(labels.column_names))
    if missing:
        raise DataError(
            f"The labels lack {', '.join(missing)}; they have {', '.join(labels.column_names)}. {wanted_by} needs its "
            f"entity keys and {EVENT_TIMESTAMP} in every row."
        )
    index = labels.schema.get_field_index(EVENT_TIMESTAMP)
    column = labels[EVENT_TIMESTAMP]
    try:
        if not pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", tz="UTC"))
        elif column.type.tz is None:
            column = column.cast(pa.timestamp("us")).cast(TIMESTAMP)
        else:
            column = column.cast(TIMESTAMP)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"The labels' {EVENT_TIMESTAMP} ({column.type}) is not a time at microsecond precision: {error}. "
            "Give ISO 8601 text with a zone, or a timestamp column."
        ) from error
    if column.null_count:
        raise DataError(
            f"{column.null_count:,} of {labels.num_rows:,} labels have no {EVENT_TIMESTAMP}: a feature as of no "
            "instant is undefined. Drop or repair those rows."
        )
    return labels.set_column(index, pa.field(EVENT_TIMESTAMP, TIMESTAMP), column)


def _feature_service(store: FeatureStore, name: str):
    from feast.errors import FeatureServiceNotFoundException

    _refuse_without_filter(store)
    try:
        return store.get_feature_service(name)
    except FeatureServiceNotFoundException as error:
        known = ", ".join(sorted(service.name for service in store.list_feature_services())) or "none"
        raise ConfigError(
            f"No feature service {name} in the registry (it knows: {known}). Run 'feast -c feature_repo apply'."
        ) from error


def _refuse_without_filter(store: FeatureStore) -> None:
    if not getattr(_offline_store(store), "supports_filter_by_created_timestamp", False):
        raise ConfigError(
            f"The offline store {type(_offline_store(store)).__name__} cannot filter by created timestamp, so rows "
            "backfilled after a label would leak into it. Use "
            "lettingo_features.offline_store.asof.AsofOfflineStore in feature_store.yaml."
        )


def _offline_store(store: FeatureStore):
    return store._get_provider().offline_store


def _unchecked(service) -> tuple[str, ...]:
    """Views of the service that bring no full family of provenance columns."""
    unchecked = []
    for projection in service.feature_view_projections:
        names = {feature.name for feature in projection.features}
        if not any(set(provenance) <= names for provenance in PROVENANCES):
            unchecked.append(projection.name_to_use())
    return tuple(unchecked)
