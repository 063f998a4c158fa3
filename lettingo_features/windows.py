"""Windows: the interactions that a text about a user may see, and the digest that tells when they changed.

A window is half-open, ``[cutoff - days, cutoff)`` in UTC, so an interaction at exactly the cutoff is the future.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import duckdb
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.snapshots import distinct_cutoffs

WINDOWS = "windows"
"""Name of the DuckDB table that :func:`create_windows` makes."""


class WindowConfig(Config):
    """Which interactions a text about a user is written from."""

    days: int = Field(default=365, gt=0, le=36_525)
    """Days before the cutoff, at most a century. Ours: LettinGo bounds a history by its length only, but tastes age."""

    recent_k: int = Field(default=10, ge=0)
    """Items in the recent segment, newest first. LettinGo section 3: K = 10, kept raw for the predictor."""

    long_k: int = Field(default=50, gt=0)
    """Items in the long segment, those after the recent ones. LettinGo section 4.1 explores 30, 50 and 70."""

    reads: Literal["window", "long"] = "window"
    """What the generator reads: ``window`` = both segments, so that users with few interactions get a text too;
    ``long`` = the long segment only, which is LettinGo's rule, since its predictor sees the recent items raw."""

    publish_lag_s: int = Field(default=6 * 3600, ge=0)
    """Seconds from the cutoff until a backfilled row counts as available. Ours: six hours, a nightly batch."""


_CREATE = f"""
CREATE OR REPLACE TABLE {WINDOWS} (
    cutoff TIMESTAMPTZ, user_id VARCHAR, item_id VARCHAR, event_timestamp TIMESTAMPTZ, rating FLOAT,
    position INTEGER, segment VARCHAR
)
"""

# One row per (user, item): the newest interaction says when, the newest rating says how good. arg_max passes over
# null ratings; the rating in its key settles two ratings at one instant.
_FILL = f"""
INSERT INTO {WINDOWS}
WITH latest AS (
    SELECT user_id, item_id, max(event_timestamp) AS event_timestamp,
        arg_max(rating, (event_timestamp, rating))::FLOAT AS rating
    FROM {{interactions}}
    WHERE event_timestamp >= $start AND event_timestamp < $cutoff
    GROUP BY user_id, item_id
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC, item_id) AS position
    FROM latest
    QUALIFY position <= $recent_k + $long_k
)
SELECT $cutoff, user_id, item_id, event_timestamp, rating, position,
    CASE WHEN position <= $recent_k THEN 'recent' ELSE 'long' END AS segment
FROM ranked
WHERE position > $skip
"""

# The byte length in front of the item id keeps ids that contain separators apart. concat leaves a null rating empty.
_DIGESTS = f"""
SELECT cutoff, user_id, count(*) AS n_interactions, max(event_timestamp) AS source_max_ts,
    sha256(string_agg(
        concat(strlen(item_id), ':', item_id, '|', epoch_us(event_timestamp), '|', rating), chr(10) ORDER BY position
    )) AS window_digest
FROM {WINDOWS}
GROUP BY cutoff, user_id
"""


def create_windows(
    connection: duckdb.DuckDBPyConnection, interactions_sql: str, cutoffs: Iterable[datetime], config: WindowConfig
) -> None:
    """Make (or replace) the DuckDB table ``windows``: what each user's text may see at each cutoff.

    Columns: ``cutoff``, ``user_id``, ``item_id``, ``event_timestamp``, ``rating`` (float32), ``position`` (1 = newest
    in the whole window, ties by ``item_id``), ``segment`` (``recent`` | ``long``). At most ``recent_k + long_k`` rows
    per (cutoff, user); with ``reads = "long"`` only the long segment's rows, at positions ``recent_k + 1`` and on,
    so a user with at most ``recent_k`` items has none.

    An item that a user met several times in the window counts once, at its newest interaction and with its newest
    rating, each before the cutoff; of two ratings at the same instant the higher counts.

    Cutoffs are filled one after the other, so memory is bounded by one window, and DuckDB spills above its limit.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Session of :func:`lettingo_features.sql.connect`.
    interactions_sql : str
        What stands after FROM: rows with ``user_id``, ``item_id``, ``event_timestamp`` (with zone), ``rating``.
    cutoffs : iterable of datetime
        Aware instants; one given twice counts once.
    config : WindowConfig
        Lengths of the window and of its segments.

    Raises
    ------
    ConfigError
        A cutoff has no time zone.

    Source: LettinGo (arXiv 2506.18309) section 3, the split into recent and long history; the age limit is ours.
    """
    instants = distinct_cutoffs(cutoffs)
    fill = _FILL.format(interactions=interactions_sql)
    connection.execute(_CREATE)
    for cutoff in instants:
        connection.execute(
            fill,
            {
                "start": cutoff - timedelta(days=config.days),
                "cutoff": cutoff,
                "recent_k": config.recent_k,
                "long_k": config.long_k,
                "skip": config.recent_k if config.reads == "long" else 0,
            },
        )


def window_digests(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """One row per (cutoff, user) of the table ``windows``, in no particular order.

    Columns: ``cutoff``, ``user_id``, ``n_interactions`` (rows of the window as kept), ``source_max_ts`` (newest of
    them, always before the cutoff), ``window_digest``: SHA-256 in hex over the rows newest first, each as
    ``<bytes of item id>:<item id>|<microseconds since 1970>|<rating or nothing>`` and joined by line feeds.

    Equal digests mean that a generator would read the same rows, so a text can be kept. The digest changes when any
    row that the generator reads changes: also when old interactions merely age out of ``days``, or when new items
    push others from one segment into the next. It does not depend on the cutoff itself, on the order of input
    rows, on files, or on rows outside the window.

    The relation is lazy: each use computes it again; ``.to_table(name)`` keeps it.
    """
    return connection.sql(_DIGESTS)
