"""The home directory: append-only parquet tables, quarantine, runs and reports under one root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.errors import DataError
from lettingo_features.sql import literal


class Home:
    """State of one deployment.

    ``offline/<table>/*.parquet`` holds a table, one file per part: a part is written under a temporary name that
    no reader matches and then renamed, so a run killed at any point leaves every table readable. A part's name
    comes from its content's key, so writing it again after a crash replaces it instead of doubling its rows.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.offline = self.root / "offline"
        self.quarantine = self.root / "quarantine"
        self.runs = self.root / "runs"
        self.reports = self.root / "reports"
        self.cache = self.root / "cache"
        self.spill = self.root / "spill"
        self.generation = self.root / "generation"
        self.runners = self.root / "runners"
        self.alignment = self.root / "alignment"

    @property
    def ledger_url(self) -> str:
        """Where the ledger of model calls is unless somebody names a server."""
        return f"sqlite:///{self.root / 'ledger.db'}"

    @property
    def alignment_url(self) -> str:
        """Where preference pairs and releases are recorded unless somebody names a server."""
        return f"sqlite:///{self.root / 'alignment.db'}"

    def create(self) -> Home:
        """Make the directories that are missing; return self."""
        for directory in (self.offline, self.quarantine, self.runs, self.reports, self.cache, self.spill):
            directory.mkdir(parents=True, exist_ok=True)
        return self

    def table_dir(self, table: str) -> Path:
        return self.offline / table

    def parts(self, table: str) -> list[Path]:
        """The finished parts of ``table``, by name."""
        return sorted(self.table_dir(table).glob("*.parquet"))

    def scan(self, table: str) -> str:
        """SQL text that reads every part of ``table``: for ``FROM`` in a DuckDB query.

        Raises
        ------
        DataError
            The table has no part yet.
        """
        if not self.parts(table):
            raise DataError(
                f"There is no table {table} in {self.root} yet. Make it first: 'lettingo doctor' names the "
                "command. Or name another home with --home."
            )
        return f"read_parquet({literal(str(self.table_dir(table) / '*.parquet'))}, union_by_name = true)"

    def write_part(self, table: str, part: str, rows: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema) -> Path:
        """Write ``rows`` (cast to ``schema``) as part ``part`` of ``table``, whole or not at all."""
        target = self.table_dir(table) / f"{part}.parquet"
        batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
        return write_parquet(target, batches, schema)


def write_parquet(target: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Path:
    """Write ``batches`` to ``target`` through a temporary name, flushed to disk before the rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid4().hex}.tmp"
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_batches([batch]).select(schema.names).cast(schema))
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
        _flush_names(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def write_text(target: Path, text: str) -> Path:
    """Write ``text`` to ``target`` as `write_parquet` does: whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid4().hex}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _flush_names(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _flush_names(directory: Path) -> None:
    """After this a rename in ``directory`` outlives a power cut, not only a killed process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
