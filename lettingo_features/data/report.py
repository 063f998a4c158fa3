"""What an ingest did: counts per table, reasons, files, parts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lettingo_features.config import Config
from lettingo_features.data.clock import Unit


class FileReport(Config):
    """One file that was read."""

    path: str
    """As given."""
    sha256: str
    """Of its bytes."""
    table: str
    """Which table its rows belong to."""
    rows_in: int
    """Records, without the header and blank lines."""
    timestamp_unit: Unit | None
    """The clock of its timestamps; None for items."""
    cells_replaced: int
    """Cells or lines with bytes that are no text (invalid UTF-8, NUL), kept with U+FFFD in their place."""


class TableReport(Config):
    """What became of the rows of one table: rows_in is the sum of the next four."""

    rows_in: int = 0
    """Records read."""
    appended: int = 0
    """New rows written."""
    already_there: int = 0
    """Rows that the home held."""
    exact_duplicates: int = 0
    """Rows that a later row of the run repeats."""
    quarantined: int = 0
    """Rows put aside."""
    quarantine_reasons: dict[str, int] = {}
    """Rows by reason; a row with two reasons counts under both."""


class IngestReport(Config):
    """What one ingest did."""

    format: str
    """One of ``formats.FORMATS``."""
    run: str
    """Content key: the same files, format and mapping give the same run."""
    files: list[FileReport]
    """Files read, in order."""
    ignored_files: list[str]
    """Files that belong to no table."""
    interactions: TableReport
    """Rows of the interactions table."""
    items: TableReport
    """Rows of the items table."""
    parts: list[str]
    """Parquet files written; empty when there was nothing new."""
    quarantine: str | None
    """Parquet file of the quarantined rows; None when there are none."""
    first_event: datetime | None
    """Oldest valid interaction of the run, UTC."""
    last_event: datetime | None
    """Newest valid interaction of the run, UTC."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """A line per table, and where bad rows went."""
        lines = [f"{self.format}: {len(self.files)} files, {self.first_event} .. {self.last_event}"]
        for name, table in (("interactions", self.interactions), ("items", self.items)):
            lines.append(
                f"{name}: {table.rows_in:,} rows in = {table.appended:,} appended + {table.already_there:,} "
                f"already there + {table.exact_duplicates:,} exact duplicates + {table.quarantined:,} quarantined"
            )
            lines += [f"  {count:,} {reason}" for reason, count in table.quarantine_reasons.items()]
        return "\n".join([*lines, f"quarantined rows: {self.quarantine}"] if self.quarantine else lines)
