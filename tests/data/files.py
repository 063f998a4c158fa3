"""Small files of each public format, written by hand, and a home to put them in."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from lettingo_features.data.ingest import ingest, latest_items_sql
from lettingo_features.data.report import IngestReport
from lettingo_features.home import Home

NOW = datetime(2025, 1, 1, tzinfo=UTC)
T0 = 1_362_062_307  # 2013-02-28T14:38:27Z


def write(directory: Path, name: str, text: str | bytes) -> Path:
    """Write ``text`` as ``directory/name``, gzipped where the name says so."""
    directory.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path = directory / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def ratings(*rows: str, header: str = "userId,movieId,rating,timestamp") -> str:
    return "\n".join([header, *rows, ""])


def run(source, root: Path, **options) -> tuple[IngestReport, Home]:
    home = Home(root)
    return ingest(source, home, **{"now": NOW, **options}), home


def query(sql: str) -> list[tuple]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(sql).fetchall()


def interactions(home: Home, columns: str = "user_id, item_id, rating, epoch_us(event_timestamp)") -> list[tuple]:
    """Rows of the home in the order of their values."""
    return query(f"SELECT {columns} FROM {home.scan('interactions')} ORDER BY ALL")


def items(home: Home) -> list[tuple]:
    return query(f"SELECT item_id, title, categories, description FROM {latest_items_sql(home)} ORDER BY item_id")


def quarantined(report: IngestReport) -> list[tuple[int, list[str], str]]:
    """(row, reasons, raw) of the quarantine file, in file order."""
    return query(f'SELECT "row", reasons, raw FROM read_parquet(\'{report.quarantine}\') ORDER BY source_file, "row"')
