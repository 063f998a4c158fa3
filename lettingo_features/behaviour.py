"""Behavioural features of users and items as of a cutoff: how much, how good, how lately, of what kind.

A row at a cutoff knows the interactions strictly before it. All cutoffs share one pass over the interactions, which
sums them up per (entity, span). A span is the time between two neighbouring instants that matter to some cutoff: the
cutoff itself and the starts of its 7, 30 and 90 days. Each cutoff then adds whole spans, so that its cost follows the
(entity, span) pairs and not the interactions.

Every interaction counts as an event: an item rated twice adds two to the counts, and both ratings to the means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from lettingo_features import behaviour_sql as sql
from lettingo_features import columns
from lettingo_features.snapshots import distinct_cutoffs


def build_user_behaviour(
    connection: duckdb.DuckDBPyConnection,
    interactions_sql: str,
    items_sql: str,
    cutoffs: Iterable[datetime],
    publish_lag_s: int,
) -> pa.RecordBatchReader:
    """One row per (cutoff, user with an interaction before it), ordered by cutoff and user.

    Counts run over ``[cutoff - 7d, cutoff)`` and so on; a rate is a count per day, for ``all`` per day since the user's
    first interaction and at least one day. Mean and spread (population standard deviation, rounded to 6 decimals) are
    over all rated interactions, null when there is none. The five categories with the most interactions (ties by
    name) come with their share of the user's interactions (an item of two categories counts for both, so shares may
    add up to more than 1) and their mean rating. The ten newest distinct items come newest first, ties by item id.

    ``event_timestamp`` is the cutoff, ``created_timestamp`` and ``user_behaviour_published_at`` the cutoff plus
    ``publish_lag_s``. Categories are taken as timeless: an item's newest row in ``items_sql`` counts at every cutoff.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Session of :func:`lettingo_features.sql.connect`; busy until the reader is exhausted.
    interactions_sql : str
        What stands after FROM: rows with ``user_id``, ``item_id``, ``event_timestamp`` (with zone), ``rating``.
    items_sql : str
        What stands after FROM: rows with ``item_id``, ``categories``, ``created_timestamp``.
    cutoffs : iterable of datetime
        Aware instants; one given twice counts once.
    publish_lag_s : int
        Seconds from a cutoff until its rows count as available.

    Returns
    -------
    pyarrow.RecordBatchReader
        Schema ``columns.USER_BEHAVIOUR``; rows are computed while it is read, one cutoff at a time.

    Raises
    ------
    ConfigError
        A cutoff has no time zone.
    """
    instants = distinct_cutoffs(cutoffs)
    bounds = sql.bounds(instants)
    if instants:
        connection.execute(sql.sum_activity("user", interactions_sql, bounds))
        connection.execute(sql.sum_categories(interactions_sql, items_sql, instants))
        connection.execute(sql.sum_recent(interactions_sql, instants))

    def query(cutoff: datetime) -> str:
        # Categories and recent items have no 7, 30 or 90 days, so the bounds of their spans are the cutoffs alone.
        return sql.user_rows(sql.statistics("user", cutoff, bounds), instants.index(cutoff))

    return _reader(
        connection, query, instants, publish_lag_s, columns.USER_BEHAVIOUR, columns.USER_BEHAVIOUR_PROVENANCE
    )


def build_item_behaviour(
    connection: duckdb.DuckDBPyConnection, interactions_sql: str, cutoffs: Iterable[datetime], publish_lag_s: int
) -> pa.RecordBatchReader:
    """One row per (cutoff, item with an interaction before it), ordered by cutoff and item.

    Counts (popularity), mean and spread of ratings as in :func:`build_user_behaviour`. ``item_age_days`` counts from
    the item's first interaction, since catalogues seldom say when an item appeared.

    Parameters and exceptions are those of :func:`build_user_behaviour`.

    Returns
    -------
    pyarrow.RecordBatchReader
        Schema ``columns.ITEM_BEHAVIOUR``; rows are computed while it is read, one cutoff at a time.
    """
    instants = distinct_cutoffs(cutoffs)
    bounds = sql.bounds(instants)
    if instants:
        connection.execute(sql.sum_activity("item", interactions_sql, bounds))

    def query(cutoff: datetime) -> str:
        return sql.item_rows(sql.statistics("item", cutoff, bounds))

    return _reader(
        connection, query, instants, publish_lag_s, columns.ITEM_BEHAVIOUR, columns.ITEM_BEHAVIOUR_PROVENANCE
    )


def _reader(
    connection: duckdb.DuckDBPyConnection,
    query: Callable[[datetime], str],
    cutoffs: Sequence[datetime],
    publish_lag_s: int,
    schema: pa.Schema,
    provenance: columns.Provenance,
) -> pa.RecordBatchReader:
    """The rows of ``query`` for one cutoff after the other, with their times, cast to ``schema``."""

    def batches() -> Iterator[pa.RecordBatch]:
        for cutoff in cutoffs:
            seen, published = sql.instant(cutoff), sql.instant(cutoff + timedelta(seconds=publish_lag_s))
            rows = connection.sql(f"""
                SELECT *, {seen} AS {columns.EVENT_TIMESTAMP}, {published} AS {columns.CREATED_TIMESTAMP},
                    {seen} AS {provenance.cutoff_at}, {published} AS {provenance.published_at}
                FROM ({query(cutoff)})
                ORDER BY {schema.names[0]}
            """)
            for batch in pa.RecordBatchReader.from_stream(rows):
                yield batch.select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
