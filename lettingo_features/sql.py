"""DuckDB sessions: one place for the settings that every set-based step shares."""

from __future__ import annotations

from pathlib import Path

import duckdb


def connect(spill_dir: Path | str | None = None, memory_limit: str = "1GB", threads: int | None = None):
    """An in-memory DuckDB session in UTC that spills to ``spill_dir`` above ``memory_limit``.

    ``preserve_insertion_order`` is off, so that large scans stream: a caller that needs an order says ORDER BY.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"SET memory_limit = '{memory_limit}'")
    if threads is not None:
        connection.execute(f"SET threads = {int(threads)}")
    if spill_dir is not None:
        connection.execute("SET temp_directory = ?", [str(spill_dir)])
    return connection


def quote(identifier: str) -> str:
    """``identifier`` as a quoted SQL name."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` as a quoted SQL string."""
    return "'" + str(text).replace("'", "''") + "'"
