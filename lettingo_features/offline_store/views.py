"""From Feast's feature views and references to the joins that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.file_source import FileSource
from feast.types import FeastType, from_feast_to_pyarrow_type

from lettingo_features.errors import ConfigError, DataError
from lettingo_features.offline_store.join import Feature, ViewJoin
from lettingo_features.offline_store.labels import Labels
from lettingo_features.offline_store.source import Source, open_source, resolve

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_NUMBERS = (*_INTEGERS, "FLOAT", "DOUBLE")  # pandas turns integer ids with nulls into floats


def source_of(connection: duckdb.DuckDBPyConnection, data_source: DataSource | None, repo_path: Path | None) -> Source:
    """Open the parquet parts of ``data_source``.

    Raises
    ------
    ConfigError
        If it is not a parquet FileSource on a local path.
    """
    if not isinstance(data_source, FileSource):
        found = type(data_source).__name__
        raise ConfigError(f"the ASOF store reads a FileSource with parquet, not {found}: change the view's source")
    return open_source(connection, resolve(data_source.path, repo_path))


def plan_joins(
    connection: duckdb.DuckDBPyConnection,
    feature_views: Sequence[FeatureView],
    feature_refs: Sequence[str],
    labels: Labels,
    repo_path: Path | None,
    full_feature_names: bool,
    by_created: bool,
) -> list[ViewJoin]:
    """One join per view, checked against the stored columns and the labels.

    Raises
    ------
    ConfigError
        If a feature's output name is taken by another feature or by a column of the labels.
    DataError
        If a column is missing on either side, or a key is text on one side and a number on the other.
    """
    taken = dict.fromkeys(labels.rows.column_names, "the labels")
    joins = []
    for view in feature_views:
        join = _plan(connection, view, feature_refs, repo_path, full_feature_names, by_created)
        for feature in join.features:
            if feature.output in taken:
                raise ConfigError(
                    f"the column '{feature.output}' of the view '{join.name}' is also one of {taken[feature.output]}: "
                    "rename that, or retrieve with full_feature_names=True"
                )
            taken[feature.output] = f"the view '{join.name}'"
        join.source.require(join.required_columns(), f"the view '{join.name}'")
        labels.require(list(join.keys.values()), join.name)
        _check_keys(join, labels)
        joins.append(join)
    return joins


def _plan(connection, view, feature_refs, repo_path, full_feature_names, by_created) -> ViewJoin:
    data_source = view.batch_source
    source = source_of(connection, data_source, repo_path)
    stored = {mapped: column for column, mapped in (data_source.field_mapping or {}).items()}
    declared = {field.name: field.dtype for field in view.features}
    asked = view.projection.name_to_use()
    names = dict.fromkeys(ref.split(":", 1)[1] for ref in feature_refs if ref.split(":", 1)[0] == asked)
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    keys = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    created = data_source.created_timestamp_column
    return ViewJoin(
        name=asked,
        source=source,
        keys={stored.get(key, key): view.projection.join_key_map.get(key, key) for key in keys},
        event=stored.get(data_source.timestamp_field, data_source.timestamp_field),
        created=stored.get(created, created) or None,
        features=[Feature(prefix + name, stored.get(name, name), _arrow_type(declared.get(name))) for name in names],
        ttl=view.ttl,
        by_created=by_created and bool(created),
    )


def _arrow_type(feast_type: FeastType | None) -> pa.DataType | None:
    try:
        return from_feast_to_pyarrow_type(feast_type) if feast_type is not None else None
    except ValueError:
        return None


def _check_keys(join: ViewJoin, labels: Labels) -> None:
    """Refuse keys of different kinds: SQL would compare '007' and 7 by converting one, silently or with a crash."""
    for column, label in join.keys.items() if join.source.parts else ():
        stored, given = join.source.types[column], labels.rows[label].type
        if not pa.types.is_null(given) and _stored_kind(stored) != _given_kind(given):
            raise DataError(
                f"the key '{column}' of the view '{join.name}' is stored as {stored} and the labels' '{label}' is "
                f"{given}: convert the labels' column (ids are text everywhere in this project)"
            )


def _stored_kind(name: str) -> str:
    if name == "VARCHAR" or name.startswith("ENUM"):
        return "text"
    return "number" if name in _NUMBERS or name.startswith("DECIMAL") else name


def _given_kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _given_kind(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return {pa.bool_(): "BOOLEAN", pa.date32(): "DATE"}.get(kind, str(kind))
