"""Retrieval jobs: run a query when asked, answer in Arrow, in the order of the labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage, ValidationReference

from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import write_parquet
from lettingo_features.offline_store.join import LABELS, Feature, Span, ViewJoin, label_key
from lettingo_features.offline_store.labels import Labels
from lettingo_features.offline_store.source import resolve

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""pandas types that hold nulls without turning integers into floats or booleans into objects."""


HASHED_ROWS = 20_000_000
"""Up to here the hashes of all rows of a view are sorted in memory, 8 bytes a row, beside DuckDB's own limit."""


def join_views(connection: duckdb.DuckDBPyConnection, labels: Labels, joins: Sequence[ViewJoin]) -> pa.Table:
    """``labels.rows`` with the features of every view beside them: same rows, same order, one pass per view.

    Raises
    ------
    DataError
        If a join key of the labels and of a view differ in kind, or a stored value does not fit its declared type.
    """
    keys = dict.fromkeys(label for join in joins for label in join.keys.values())
    asked = {"label": pa.array(np.arange(labels.rows.num_rows)), "instant": labels.instants}
    connection.register(LABELS, pa.table(asked | {label_key(name): labels.rows[name] for name in keys}))
    answer = labels.rows
    for join in joins:
        found = _find(connection, labels, join)
        for position, feature in enumerate(join.features):
            column = pa.nulls(len(answer), feature.type or pa.null()) if found is None else found[f"f{position}"]
            answer = answer.append_column(feature.output, _typed(column, feature, join.name))
    return answer


def _find(connection: duckdb.DuckDBPyConnection, labels: Labels, join: ViewJoin) -> pa.Table | None:
    """Columns ``f0, f1, ..`` of ``join`` in the order of the labels; None if no stored row can be an answer."""
    n_labels = labels.rows.num_rows
    times = pc.min_max(labels.instants).as_py()
    if not join.source.parts or times["min"] is None:
        return None
    span = Span(n_labels, times["min"], times["max"])
    exact = not _same_types(connection, join)
    beaten = _beaten(connection, join, span, exact)
    found = connection.sql(join.sql(span, beaten, exact)).to_arrow_table()
    if not pc.all(found["same"]).as_py():
        found = connection.sql(join.sql(span, beaten, exact=True)).to_arrow_table()
    if found.num_rows != n_labels:
        raise DataError(f"the join of '{join.name}' answered {found.num_rows} of {n_labels} labels: please report this")
    place = np.empty(n_labels, dtype=np.int64)
    place[found["label"].to_numpy()] = np.arange(n_labels)
    return _gathered(found.drop_columns(["label", "same"]).combine_chunks(), pa.array(place))


def _gathered(table: pa.Table, rows: pa.Array) -> pa.Table:
    """``table`` at ``rows``, which are known to be in bounds: checking them column by column costs half the time."""
    return pa.table({name: pc.take(table[name], rows, boundscheck=False) for name in table.column_names})


def _beaten(connection: duckdb.DuckDBPyConnection, join: ViewJoin, span: Span, exact: bool) -> str | None:
    """What ``ViewJoin.sql`` wants to know: the table of tied rows, "" if there are none, None if ties are not all.

    Most views have no ties, and the join without an anti-join is almost twice as fast, so they are looked for first:
    where no two rows share the hash of key and event, by a sort of the hashes, which is cheaper than grouping them.
    """
    if join.by_created and not connection.sql(join.order_check(span, exact)).fetchall()[0][0]:
        return None
    if connection.sql(f"SELECT count(*) FROM {join.source.scan()}").fetchall()[0][0] <= HASHED_ROWS:
        moments = np.sort(connection.sql(join.moments(span, exact)).to_arrow_table()["moment"].to_numpy())
        if (moments[1:] != moments[:-1]).all():
            return ""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE beaten AS {join.ties(span, exact)}")
    return "beaten" if connection.sql("SELECT count(*) FROM beaten").fetchall()[0][0] else ""


def _same_types(connection: duckdb.DuckDBPyConnection, join: ViewJoin) -> bool:
    """True if labels and stored rows hold each key in the same type, so that equal keys have equal hashes."""
    asked = {name: kind for name, kind, *_ in connection.sql(f"DESCRIBE {LABELS}").fetchall()}
    return all(asked[label_key(label)] == join.source.types[column] for column, label in join.keys.items())


def _typed(column: pa.ChunkedArray, feature: Feature, view: str) -> pa.ChunkedArray:
    if feature.type is None or column.type == feature.type:
        return column
    try:
        return column.cast(feature.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"'{feature.column}' of the view '{view}' is stored as {column.type} and declared as {feature.type} "
            f"({error}): correct the view's schema or write the column again"
        ) from error


class AsofRetrievalJob(RetrievalJob):
    """A query that runs each time an answer is asked for.

    Parameters
    ----------
    evaluate
        Runs the query and returns the rows without on-demand features.
    asked
        Names of the caller's own columns: they keep their pandas types in ``to_df``.
    """

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        repo_path: Path | None,
        asked: Sequence[str] = (),
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._asked = frozenset(asked)
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """The answer in pandas: integer and boolean features are nullable types, vectors are numpy arrays or None."""
        table = self.to_arrow(validation_reference=validation_reference, timeout=timeout)
        return self._to_pandas(table)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_pandas(self._evaluate())

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate()

    def _to_pandas(self, table: pa.Table) -> pd.DataFrame:
        asked = table.select([name for name in table.column_names if name in self._asked])
        found = table.select([name for name in table.column_names if name not in self._asked])
        features = found.replace_schema_metadata(None).to_pandas(types_mapper=_NULLABLE.get)
        if not asked.num_columns:
            return features
        rows = asked.to_pandas().reset_index(drop=True)
        return pd.concat([rows, features], axis=1)[table.column_names]

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the answer to a parquet file, or as the only part of a directory: whole or not at all.

        Raises
        ------
        ConfigError
            If ``storage`` is not a file storage.
        feast.errors.SavedDatasetLocationAlreadyExists
            If something is there and ``allow_overwrite`` is False.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise ConfigError(
                f"the ASOF store saves to files, not to {type(storage).__name__}: SavedDatasetFileStorage"
            )
        path = resolve(storage.file_options.uri, self._repo_path)
        if os.path.exists(path) and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=storage.file_options.uri)
        table = self.to_arrow(timeout=timeout)
        if path.suffix == ".parquet":
            write_parquet(path, table.to_batches(), table.schema)
            return
        old = list(path.glob("*.parquet"))
        write_parquet(path / f"{uuid4().hex}.parquet", table.to_batches(), table.schema)
        for part in old:
            part.unlink()
