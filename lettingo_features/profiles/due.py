"""Which users are due a text at a cutoff, and what a generator is told about them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features.columns import EVENT_TIMESTAMP, PROFILE_PROVENANCE, TIMESTAMP, USER_ID, WINDOW_DIGEST
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.errors import DataError
from lettingo_features.home import Home
from lettingo_features.profiles.generator import ProfileRequest
from lettingo_features.profiles.history import ROWS, history_rows
from lettingo_features.profiles.summary import SummaryConfig, summarise
from lettingo_features.profiles.summary import summaries as as_facts
from lettingo_features.profiles.tables import meta_table
from lettingo_features.sql import connect, literal
from lettingo_features.windows import WINDOWS, create_windows, window_digests

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    from lettingo_features.profiles.build import ProfileBuildConfig


_USERS_AT_ONCE = 8_192  # a chunk may have hundreds of thousands, whose summaries are more than a session holds
_DUE, _ITEMS = "due_windows", "items"  # tables of the session
_SEEN_ITEMS = f"(SELECT * FROM {_ITEMS} WHERE item_id IN (SELECT item_id FROM {WINDOWS}))"


class Due:
    """Users who are due a text at one cutoff, ordered by id.

    Their windows stay in a DuckDB session, which spills them to disk, and become requests range by range: of each user
    only the row stays in memory. Close it (`contextlib.closing`) when the last request was made.

    Attributes
    ----------
    rows
        ``user_id``, ``n_interactions``, ``source_max_ts``, ``window_digest`` and ``replaces`` (true where the cutoff
        has a text already).
    counts
        ``users_seen``, ``users_unchanged`` and ``users_kept`` (changed, but not due under the refresh policy).
    """

    def __init__(
        self,
        rows: pa.Table,
        counts: dict[str, int],
        windows: duckdb.DuckDBPyConnection,
        summary: SummaryConfig,
        style: str,
        reads_history: bool,
    ) -> None:
        self.rows, self.counts = rows, counts
        self._windows, self._summary, self._style, self._reads_history = windows, summary, style, reads_history

    def requests(self, start: int, end: int) -> list[ProfileRequest]:
        """The requests of ``rows[start:end]``."""
        users, at_once = self.rows[USER_ID].slice(start, end - start), _USERS_AT_ONCE
        return [one for n in range(0, len(users), at_once) for one in self._of(users.slice(n, at_once))]

    def sampled(self, indices: np.ndarray) -> list[ProfileRequest]:
        """The requests of some ``rows``, by ascending (n,) int index."""
        return self._of(self.rows[USER_ID].take(pa.array(indices)))

    def close(self) -> None:
        """Free the windows; ``rows`` and ``counts`` stay."""
        self._windows.close()

    def _of(self, users: pa.ChunkedArray) -> list[ProfileRequest]:
        if not len(users):
            return []
        first, last = (literal(user.as_py()) for user in (users[0], users[-1]))
        self._windows.register("asked", pa.table({USER_ID: users}))
        self._windows.execute(
            f"CREATE OR REPLACE VIEW {WINDOWS} AS SELECT * FROM {_DUE} "  # by range first: the table is in this order
            f"WHERE user_id BETWEEN {first} AND {last} AND user_id IN (SELECT user_id FROM asked)"
        )
        facts = summarise(self._windows, _SEEN_ITEMS, self._summary).read_all()
        histories = history_rows(self._windows, _SEEN_ITEMS, self._summary).read_all() if self._reads_history else None
        if not all(table[USER_ID].equals(users) for table in (facts, histories) if table is not None):
            raise DataError("Window summaries and digests name different users: the windows table is inconsistent.")
        rows = [None] * len(users) if histories is None else histories[ROWS]
        return [
            ProfileRequest(user_id, fact, self._style, None if row is None else row.values)
            for (user_id, fact), row in zip(as_facts(facts), rows, strict=True)
        ]

    def as_published(self, cutoff: datetime) -> pa.Table:
        """The rows as `find_due` wants its ``assumed``: as if their texts had been written."""
        return pa.table(
            {
                USER_ID: self.rows[USER_ID],
                WINDOW_DIGEST: self.rows[WINDOW_DIGEST],
                EVENT_TIMESTAMP: pa.array([cutoff] * self.rows.num_rows, TIMESTAMP),
                "source_max_ts": self.rows["source_max_ts"].cast(TIMESTAMP),
            }
        )


def find_due(
    home: Home,
    config: ProfileBuildConfig,
    summary: SummaryConfig,
    cutoff: datetime,
    reads_history: bool,
    users: pa.Table | None = None,
    assumed: pa.Table | None = None,
) -> Due:
    """Compare every window at ``cutoff`` with the newest published one of its user.

    Parameters
    ----------
    reads_history
        Whether requests carry the interactions one by one.
    users
        Column ``user_id``: only these; None: all.
    assumed
        Rows that count as published too, see `Due.as_published`.
    """
    connection = connect(home.spill, config.memory_limit)
    create_windows(connection, home.scan("interactions"), [cutoff], config.window)
    if users is not None:
        connection.register("wanted", users)
        connection.execute(f"DELETE FROM {WINDOWS} WHERE user_id NOT IN (SELECT user_id FROM wanted)")
    changed, counts = _changed(connection, home, config, cutoff, assumed)
    connection.register("changed", changed)
    connection.execute(f"""
        CREATE TABLE {_DUE} AS SELECT * FROM {WINDOWS}
        WHERE user_id IN (SELECT user_id FROM changed) ORDER BY user_id
    """)
    connection.execute(f"DROP TABLE {WINDOWS}")
    connection.execute(f"CREATE TABLE {_ITEMS} AS SELECT * FROM {latest_items_sql(home)}")
    return Due(changed, counts, connection, summary, config.style, reads_history)


def still_due(home: Home, release: str, cutoff: datetime, rows: pa.Table, new_parts: frozenset[str]) -> list[bool]:
    """Which of ``rows`` have no text of ``cutoff`` in ``new_parts``, which another run wrote since `find_due`."""
    written: set[str] = set()
    for path in home.parts(meta_table(release)):
        if path.name in new_parts:
            found = pq.read_table(path, columns=[USER_ID, EVENT_TIMESTAMP])
            same = pc.equal(found[EVENT_TIMESTAMP], pa.scalar(cutoff, TIMESTAMP))
            written.update(found.filter(same)[USER_ID].to_pylist())
    return [user_id not in written for user_id in rows[USER_ID].to_pylist()]


def _changed(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    config: ProfileBuildConfig,
    cutoff: datetime,
    assumed: pa.Table | None,
) -> tuple[pa.Table, dict[str, int]]:
    """Rows and counts of `Due`, from the session's windows."""
    connection.register("digests", window_digests(connection).to_arrow_table())
    published = _published_sql(home, config.release, cutoff)
    if assumed is not None:
        connection.register("assumed", assumed)
        published = f"""
            SELECT * FROM (SELECT * FROM ({published}) UNION ALL BY NAME SELECT * FROM assumed)
            QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
        """
    connection.execute(f"CREATE TEMP TABLE published AS {published}")
    due = config.refresh.due_sql(
        "coalesce(fresh.n, 0)", "(epoch_us(digests.cutoff) - epoch_us(published.event_timestamp)) / 86400e6"
    )
    changed = connection.sql(
        f"""
        WITH fresh AS (
            SELECT user_id, count(*) AS n FROM {WINDOWS} JOIN published USING (user_id)
            WHERE {WINDOWS}.event_timestamp > published.source_max_ts GROUP BY user_id
        )
        SELECT digests.user_id, digests.n_interactions, digests.source_max_ts, digests.window_digest,
               coalesce(published.event_timestamp = digests.cutoff, false) AS replaces,
               published.user_id IS NULL OR {due} AS due
        FROM digests LEFT JOIN published USING (user_id) LEFT JOIN fresh USING (user_id)
        WHERE published.window_digest IS DISTINCT FROM digests.window_digest
        ORDER BY digests.user_id
        """
    ).to_arrow_table()
    seen = connection.execute("SELECT count(*) FROM digests").fetchall()[0][0]
    rows = changed.filter(changed["due"]).drop_columns(["due"])
    counts = {
        "users_seen": seen,
        "users_unchanged": seen - changed.num_rows,
        "users_kept": changed.num_rows - rows.num_rows,
    }
    return rows, counts


def _published_sql(home: Home, release: str, cutoff: datetime) -> str:
    """Each user's newest row at or before ``cutoff``."""
    table = meta_table(release)
    if not home.parts(table):
        return (
            "SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR AS window_digest, "
            "NULL::TIMESTAMPTZ AS event_timestamp, NULL::TIMESTAMPTZ AS source_max_ts WHERE false"
        )
    return f"""
        SELECT user_id, window_digest, event_timestamp, {PROFILE_PROVENANCE.source_max_ts} AS source_max_ts
        FROM {home.scan(table)}
        WHERE event_timestamp <= TIMESTAMPTZ {literal(cutoff.isoformat())}
        QUALIFY row_number() OVER (
            PARTITION BY user_id ORDER BY event_timestamp DESC, created_timestamp DESC, window_digest) = 1
    """
