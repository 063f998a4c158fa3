"""Feast offline store with a true as-of join in DuckDB, for append-only parquet on a local disk.

``feature_store.yaml``::

    offline_store:
      type: lettingo_features.offline_store.asof.AsofOfflineStore
      memory_limit: 1GB

A label gets, per view, the newest row of its key at or before its instant (inclusive, as Feast defines it), never
older than the view's ttl; with ``filter_by_created_timestamp`` only rows created at or before it count. Every label
comes back exactly once, in its place, with nulls where nothing was known. ``join.py`` has the rule for ties.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from pydantic import field_validator

from lettingo_features.columns import TIMESTAMP
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import write_parquet
from lettingo_features.offline_store.labels import read_labels
from lettingo_features.offline_store.retrieval import AsofRetrievalJob, join_views
from lettingo_features.offline_store.source import Source, refuse_unexpanded, resolve
from lettingo_features.offline_store.views import plan_joins, source_of
from lettingo_features.sql import connect, quote


class AsofOfflineStoreConfig(Config):
    """Settings of the ASOF store; Feast finds this class by its name."""

    type: Literal["lettingo_features.offline_store.asof.AsofOfflineStore"] = (
        "lettingo_features.offline_store.asof.AsofOfflineStore"
    )
    """Import path of the store, as Feast wants it."""

    memory_limit: str = "1GB"
    """Memory of one query before DuckDB spills to disk; labels and answer, held in Arrow, come on top."""

    spill_directory: str | None = None
    """Where a query spills, relative to the feature repository; None: the system's temporary directory."""

    threads: int | None = None
    """Threads of one query; None: one per core."""

    @field_validator("memory_limit", "spill_directory")
    @classmethod
    def _expanded(cls, value: str | None) -> str | None:
        if value is not None:
            refuse_unexpanded(value, "a setting of offline_store")
        return value


class AsofOfflineStore(OfflineStore):
    """Reads parquet parts of FileSources; see the module's docstring for what a label gets."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Features as of each row of ``entity_df``: pandas, an Arrow table, or a query in DuckDB's SQL.

        Everything that can be wrong with labels, views and files is raised here; the join runs when the job is asked.
        A range of dates instead of labels is refused with ConfigError.
        """
        with _session(config) as connection:
            labels = read_labels(entity_df, connection)
            joins = plan_joins(
                connection,
                feature_views,
                feature_refs,
                labels,
                config.repo_path,
                full_feature_names,
                filter_by_created_timestamp,
            )

        def evaluate() -> pa.Table:
            with _session(config) as connection:
                return join_views(connection, labels, joins)

        span = pc.min_max(labels.instants).as_py()
        return AsofRetrievalJob(
            evaluate,
            config.repo_path,
            asked=labels.rows.column_names,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in labels.rows.column_names if name != labels.time_column],
                min_event_timestamp=span["min"],
                max_event_timestamp=span["max"],
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """What the online store must hold at ``end_date`` for each key that something became visible for in the range.

        A row is visible from its event time and its created time on, whichever is later. Of each key with a row that
        became visible in ``[start_date, end_date]`` the newest visible one is returned, ties as in the as-of join. So a
        row that is published after its event time goes online when it is published, not before, and one that arrives
        late, behind the end of the last incremental run, is not skipped for ever.
        """
        keys = ", ".join(map(quote, join_key_columns))
        partition = f"PARTITION BY {keys} " if keys else ""
        newest = [f"{quote(timestamp_field)}::TIMESTAMPTZ DESC"]
        visible = f"{quote(timestamp_field)}::TIMESTAMPTZ"
        if created_timestamp_column:
            newest.append(f"{quote(created_timestamp_column)}::TIMESTAMPTZ DESC NULLS LAST")
            visible = f"greatest({visible}, {quote(created_timestamp_column)}::TIMESTAMPTZ)"  # greatest skips nulls
        newest += ["file_index DESC", "file_row_number DESC"]
        latest = f"QUALIFY row_number() OVER ({partition}ORDER BY {', '.join(newest)}) = 1"
        if start_date is not None:
            latest += f" AND max({visible}) OVER ({partition}) >= {_instant(start_date)}"
        until = f"WHERE {visible} <= {_instant(end_date)}" if end_date is not None else ""
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        return _pull(config, data_source, join_key_columns, feature_name_columns, times, f"{until} {latest}")

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with their time in ``[start_date, end_date]``, in the order in which they were written."""
        instant, bounds = f"{quote(timestamp_field)}::TIMESTAMPTZ", ((">=", start_date), ("<=", end_date))
        within = [f"{instant} {sign} {_instant(bound)}" for sign, bound in bounds if bound is not None]
        clauses = f"WHERE {' AND '.join(within) or 'true'} ORDER BY file_index, file_row_number"
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        return _pull(config, data_source, join_key_columns, feature_name_columns, times, clauses)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append ``table`` as a part of its own, or rewrite the one file of a single-file source: whole or not at all.

        Raises
        ------
        DataError
            If the columns differ from the stored ones.
        """
        with _session(config) as connection:
            source = source_of(connection, feature_view.batch_source, config.repo_path)
        mapping = feature_view.batch_source.field_mapping or {}
        stored = {mapped: column for column, mapped in mapping.items()}
        table = table.rename_columns([stored.get(name, name) for name in table.column_names])
        schema = pq.read_schema(source.parts[-1]).remove_metadata() if source.parts else table.schema
        if set(schema.names) != set(table.column_names):
            raise DataError(
                f"rows for '{feature_view.name}' have the columns {', '.join(table.column_names)}, but {source.path} "
                f"has {', '.join(schema.names)}: write the same columns"
            )
        if source.path.suffix == ".parquet":
            old = pq.ParquetFile(source.path).iter_batches() if source.parts else ()
            write_parquet(source.path, chain(old, table.to_batches()), schema)
        else:
            # Parts are read in the order of their names, and the last written wins a full tie.
            write_parquet(
                source.path / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex}.parquet", table.to_batches(), schema
            )
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append logged features as one part of the destination's directory."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination) or destination.partition_by:
            raise ConfigError(
                "the ASOF store logs to a FileLoggingDestination without partition_by: change logging_config"
            )
        rows = pq.read_table(data) if isinstance(data, Path) else data
        part = resolve(destination.path, config.repo_path) / f"{uuid4().hex}.parquet"
        write_parquet(part, rows.to_batches(), rows.schema)


@contextlib.contextmanager
def _session(config: RepoConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session within the memory limit; what it spills goes away with it."""
    settings = config.offline_store
    if not isinstance(settings, AsofOfflineStoreConfig):
        raise ConfigError(f"offline_store is {type(settings).__name__}: AsofOfflineStore needs its own configuration")
    root = resolve(settings.spill_directory, config.repo_path) if settings.spill_directory else None
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="asof-", dir=root) as spill:
        connection = connect(spill, settings.memory_limit, settings.threads)
        try:
            # Few labels take the same plan as many, so tests on few speak for many.
            connection.execute("SET asof_loop_join_threshold = 0")
            yield connection
        finally:
            connection.close()


def _pull(
    config: RepoConfig,
    data_source: DataSource,
    join_keys: list[str],
    features: list[str],
    times: list[str],
    clauses: str,
) -> AsofRetrievalJob:
    """Rows of one source, as far as ``clauses``, the end of the query, selects them."""
    columns = list(dict.fromkeys([*join_keys, *features]))

    def evaluate() -> pa.Table:
        with _session(config) as connection:
            source = source_of(connection, data_source, config.repo_path)
            source.require([*columns, *times], "Feast")
            table = _select(connection, source) if source.parts else _nothing()
        # Feast's online writer without a batch size takes the first chunk of a table and drops the rest.
        table = table.combine_chunks()
        if not join_keys:
            table = table.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * table.num_rows, pa.string()))
        return table

    def _select(connection: duckdb.DuckDBPyConnection, source: Source) -> pa.Table:
        wanted = [quote(name) for name in columns if name not in times]
        wanted += [f"{quote(name)}::TIMESTAMPTZ AS {quote(name)}" for name in times]
        return connection.sql(f"SELECT {', '.join(wanted)} FROM {source.scan()} {clauses}").to_arrow_table()

    def _nothing() -> pa.Table:
        fields = [
            pa.field(name, pa.string() if name in join_keys else pa.null()) for name in columns if name not in times
        ]
        return pa.schema([*fields, *(pa.field(name, TIMESTAMP) for name in times)]).empty_table()

    return AsofRetrievalJob(evaluate, config.repo_path)


def _instant(instant: datetime) -> str:
    """``instant`` in SQL; UTC when it has no zone."""
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return f"'{aware.isoformat()}'::TIMESTAMPTZ"
