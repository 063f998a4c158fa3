"""Staging of one ingest run: screened rows, rejected rows, and what becomes of each.

The tables live in an in-memory DuckDB that moves what exceeds its memory limit to a directory of the run, under the
home's spill directory (measured: filling a database file instead takes 2.5 times the CPU). The directory is removed at
the end; what a killed run left of it, the next run of the same files removes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import duckdb
import pyarrow as pa

from lettingo_features.data.clock import Unit, microseconds_sql
from lettingo_features.data.formats import ITEMS_TABLE, Layout
from lettingo_features.data.readers import UNREADABLE
from lettingo_features.data.schemas import (
    CONFLICT,
    EXACT_DUPLICATE,
    SUPERSEDED,
    Rule,
    flags_sql,
    interaction_rules,
    interactions_schema,
    item_rules,
    items_schema,
    reasons_sql,
    validate,
)
from lettingo_features.home import Home
from lettingo_features.sql import connect, literal

ALREADY_THERE = "already_there"
MEMORY_LIMIT = "700MB"  # of DuckDB; with readers, Arrow and imports the process stays below 2 GB at 20 million rows
BATCH_ROWS = 250_000
_FILE_BITS = 40  # seq = file index << 40 | record number: one integer that orders all rows of the run

# Length prefixes make the text unambiguous whatever the ids contain; 128 bits make a chance collision unthinkable.
KEY_SQL = """md5_number(concat(length(user_id), ':', user_id, length(item_id), ':', item_id,
    epoch_us(event_timestamp), ':', event_type))"""
CONTENT_SQL = """md5_number(to_json([title, categories::VARCHAR, description])::VARCHAR)"""

_TABLES = """
CREATE TABLE interactions (seq BIGINT, key UHUGEINT, value FLOAT, user_id VARCHAR, item_id VARCHAR,
    event_timestamp TIMESTAMPTZ, rating FLOAT, event_type VARCHAR, review_text VARCHAR);
CREATE TABLE items (seq BIGINT, key VARCHAR, value UHUGEINT, item_id VARCHAR, title VARCHAR, categories VARCHAR[],
    description VARCHAR);
CREATE TABLE rejected ("table" VARCHAR, seq BIGINT, raw VARCHAR, reasons VARCHAR[]);
CREATE TABLE fates ("table" VARCHAR, seq BIGINT, fate VARCHAR);
"""


class Staging:
    """The tables of one run. ``key`` tells rows apart, ``value`` what they say: rating, or content of an item."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, now: datetime, latest: datetime) -> None:
        self.connection = connection
        self.now = now
        self.latest = latest
        connection.execute(_TABLES)

    def add(self, chunk: pa.Table, layout: Layout, file_index: int, unit: Unit | None) -> None:
        """Screen one chunk of a file."""
        connection = self.connection
        is_items = layout.table == ITEMS_TABLE
        rules = item_rules() if is_items else interaction_rules(layout.rating_scale, self.latest)
        connection.register("chunk", chunk)
        seq = f"{file_index << _FILE_BITS} + row AS seq"
        typed = "*" if is_items else f"*, {microseconds_sql(unit or 's', 'timestamp_text')} AS us, {_RATING}"
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE screened AS SELECT {seq}, *, {flags_sql(rules)} AS flags
            FROM (SELECT {typed} FROM ({layout.select_sql("chunk")}))""")
        connection.unregister("chunk")
        self._pass_items() if is_items else self._pass_interactions(layout)
        self._reject(layout.table, rules)

    def settle(self, table: str, existing_sql: str | None) -> None:
        """Decide the fate of every staged row of ``table`` that will not be appended.

        Parameters
        ----------
        existing_sql : str or None
            SQL for ``key`` and ``value`` of the rows that the home holds; None when there are none.
        """
        # Only rows whose key occurs twice are ranked: few, where ranking all would sort the whole run.
        self.connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE repeated AS SELECT key FROM {table} GROUP BY key HAVING count(*) > 1;
            INSERT INTO fates
            SELECT '{table}', seq, CASE WHEN same > 1 THEN '{EXACT_DUPLICATE}' ELSE '{SUPERSEDED}' END
            FROM (SELECT seq, row_number() OVER (PARTITION BY key ORDER BY seq DESC) AS place,
                         row_number() OVER (PARTITION BY key, value ORDER BY seq DESC) AS same
                  FROM {table} SEMI JOIN repeated USING (key))
            WHERE place > 1""")
        if existing_sql is None:
            return
        self.connection.execute(f"CREATE OR REPLACE TABLE existing AS {existing_sql}")
        same = "existing.value IS NOT DISTINCT FROM rest.value"
        fates = [(ALREADY_THERE, f"existing.key = rest.key AND {same}")]
        if table != ITEMS_TABLE:  # an item that says something else is an update, not a conflict
            fates.append((CONFLICT, "existing.key = rest.key"))
        for fate, match in fates:
            self.connection.execute(f"""
                INSERT INTO fates
                SELECT '{table}', seq, '{fate}' FROM {self.remaining(table)} AS rest SEMI JOIN existing ON {match}""")
        self.connection.execute("DROP TABLE existing")

    def remaining(self, table: str) -> str:
        """SQL for the staged rows of ``table`` that are to be appended."""
        return f"(FROM {table} ANTI JOIN ({self._fated(table)}) USING (seq))"

    def fates(self, table: str) -> dict[str, int]:
        """How many staged rows met each fate."""
        rows = self.connection.execute(f"SELECT fate, count(*) FROM ({self._fated(table)}) GROUP BY fate").fetchall()
        return dict(rows)

    def reject_superseded(self, table: str) -> None:
        """Move superseded and conflicting rows to the rejected ones."""
        raw = _raw(("item_id", "title", "categories", "description")) if table == ITEMS_TABLE else _raw(_STAGED)
        self.connection.execute(f"""
            INSERT INTO rejected SELECT '{table}', seq, {raw}, [fate]
            FROM {table} JOIN ({self._fated(table)}) USING (seq) WHERE fate IN ('{SUPERSEDED}', '{CONFLICT}')""")

    def reasons(self, table: str) -> dict[str, int]:
        """Rejected rows by reason, most frequent first; a row counts once under each of its reasons."""
        rows = self.connection.execute(f"""
            SELECT unnest(reasons) AS reason, count(*) AS n FROM rejected WHERE "table" = '{table}'
            GROUP BY reason ORDER BY n DESC, reason""").fetchall()
        return dict(rows)

    def rejected(self, files: list[str]) -> pa.RecordBatchReader:
        """Rejected rows in file order with the columns of ``schemas.QUARANTINE``."""
        names = ", ".join(literal(name) for name in files)
        return self.reader(f"""
            SELECT "table", ([{names}])[(seq >> {_FILE_BITS}) + 1] AS source_file,
                   seq & {(1 << _FILE_BITS) - 1} AS "row", raw, reasons FROM rejected ORDER BY seq""")

    def reader(self, query: str) -> pa.RecordBatchReader:
        return self.connection.sql(query).to_arrow_reader(BATCH_ROWS)

    def _fated(self, table: str) -> str:
        return f"SELECT seq, fate FROM fates WHERE \"table\" = '{table}'"

    def _pass_interactions(self, layout: Layout) -> None:
        self.connection.execute(f"""
            INSERT INTO interactions SELECT seq, {KEY_SQL}, rating, * EXCLUDE (seq) FROM (
                SELECT seq, {_PASSED}, review_text FROM screened WHERE flags = 0)""")
        rows = self.connection.sql(f"SELECT {_PASSED} FROM screened WHERE flags = 0")
        validate(interactions_schema(layout.rating_scale, self.latest), rows.to_arrow_table(), "validated interactions")

    def _pass_items(self) -> None:
        self.connection.execute(f"""
            INSERT INTO items SELECT seq, item_id, {CONTENT_SQL}, * EXCLUDE (seq) FROM (
                SELECT seq, {_PASSED_ITEM}, description FROM screened WHERE flags = 0)""")
        rows = self.connection.sql(f"SELECT {_PASSED_ITEM} FROM screened WHERE flags = 0")
        validate(items_schema(), rows.to_arrow_table(), "validated items")

    def _reject(self, table: str, rules: list[Rule]) -> None:
        fields = ("item_id", "title", "categories", "description") if table == ITEMS_TABLE else _AS_READ
        self.connection.execute(f"""
            INSERT INTO rejected SELECT '{table}', seq,
                CASE WHEN {UNREADABLE} IS NULL THEN {_raw(fields)} ELSE to_json({{'line': {UNREADABLE}}})::VARCHAR END,
                {reasons_sql(rules, "flags")}
            FROM screened WHERE flags <> 0""")


_RATING = "try_cast(rating_text AS DOUBLE) AS rating_number"
_PASSED = """user_id, item_id, make_timestamptz(us) AS event_timestamp, rating_number::FLOAT AS rating, event_type"""
_PASSED_ITEM = "item_id, title, coalesce(categories, []) AS categories"
_AS_READ = ("user_id", "item_id", "timestamp_text", "rating_text", "event_type", "review_text")
_STAGED = ("user_id", "item_id", "event_timestamp", "rating", "event_type", "review_text")


def _raw(fields: tuple[str, ...]) -> str:
    pairs = ", ".join(f"'{name.removesuffix('_text') if name != 'review_text' else name}': {name}" for name in fields)
    return f"to_json({{{pairs}}})::VARCHAR"


@contextmanager
def open_staging(home: Home, run: str, now: datetime, latest: datetime) -> Iterator[Staging]:
    """Staging tables of the run, removed afterwards whatever happens."""
    directory = home.spill / f"ingest-{run}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    connection = connect(spill_dir=directory, memory_limit=MEMORY_LIMIT)
    try:
        yield Staging(connection, now, latest)
    finally:
        connection.close()
        shutil.rmtree(directory, ignore_errors=True)
