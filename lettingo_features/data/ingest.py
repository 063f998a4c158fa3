"""Ingest: read public data sets, put bad rows aside, append what is new to the home.

What becomes of a row, in this order:

1. It breaks a row rule (``schemas.interaction_rules``): quarantined, with all its reasons.
2. Same user, item, timestamp, event type *and* rating as a later row of the run: an exact duplicate, dropped, counted.
3. Same user, item, timestamp and event type as a later row, with another rating: the last in file order wins; this one
   is quarantined as superseded.
4. The home holds it already: nothing happens. The home holds it with another rating: the log is append-only, so
   the earlier one stays and this one is quarantined as conflicting.
5. Otherwise it is appended. The same user and item at another time is a re-rating, an event of its own: windows use
   the newest before their cutoff.

So rows in = appended + already there + exact duplicates + quarantined, which is checked for each table. Nothing is
appended before every file has been read to its end, and each table's new rows become visible in one rename, so a run
killed at any point can be repeated.

An interaction is visible strictly after its instant: ``created_timestamp = event_timestamp + 1 us``. A join that
filters on created_timestamp <= label time therefore never returns the label's own row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from lettingo_features.columns import INTERACTIONS, ITEMS
from lettingo_features.data.clock import Unit, detect_unit
from lettingo_features.data.detection import detect, list_files
from lettingo_features.data.formats import INTERACTIONS_TABLE, ITEMS_TABLE, Layout
from lettingo_features.data.mapping import ColumnMapping
from lettingo_features.data.readers import count_replaced
from lettingo_features.data.report import FileReport, IngestReport, TableReport
from lettingo_features.data.schemas import EXACT_DUPLICATE, QUARANTINE, latest_allowed
from lettingo_features.data.staging import ALREADY_THERE, CONTENT_SQL, KEY_SQL, Staging, open_staging
from lettingo_features.errors import ConfigError, DataError, FormatError
from lettingo_features.home import Home, write_parquet
from lettingo_features.sql import literal

Progress = Callable[[int], Any]


def ingest(
    paths: Path | str | Iterable[Path | str],
    home: Home,
    *,
    format: str | None = None,
    mapping: ColumnMapping | None = None,
    now: datetime,
    progress: Progress | None = None,
) -> IngestReport:
    """Validate files of interactions and items and append what is new to ``home``.

    Parameters
    ----------
    paths : path or paths
        A directory (its files, not those of its directories) or files, in the order that decides which rating is last.
    home : Home
        Where the tables are.
    format : str, optional
        One of ``formats.FORMATS``; recognised when left out.
    mapping : ColumnMapping, optional
        Columns of the format ``table`` (Parquet or delimited text).
    now : datetime
        With a time zone. Interactions more than ten minutes later are quarantined; new items are created at it.
    progress : callable, optional
        Called with the number of rows read since its last call (``tqdm.update`` fits).

    Returns
    -------
    IngestReport
        Counts, reasons, parts written.

    Raises
    ------
    FormatError
        A path is absent, a file is empty, damaged, of unknown format, lacks a column or holds the wrong type.
    DataError
        Not one interaction is valid: the columns are wrong, not the rows. The quarantine file says why.
    ConfigError
        ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ConfigError(f"now={now.isoformat()} has no time zone; pass an aware datetime such as datetime.now(UTC).")
    now = now.astimezone(UTC)
    layouts, ignored = detect(list_files(paths), format, mapping)
    digests = {path: _sha256(path) for path in layouts}
    name = next(iter(layouts.values())).format
    run = _run_key(name, mapping, list(digests.values()))
    home.create()
    with open_staging(home, run, now, latest_allowed(now)) as staging:
        files = [
            _stage_file(staging, path, layout, index, digests[path], progress)
            for index, (path, layout) in enumerate(layouts.items())
        ]
        staging.settle(INTERACTIONS_TABLE, _existing_interactions(staging, home))
        staging.settle(ITEMS_TABLE, _existing_items(home))
        for table in (INTERACTIONS_TABLE, ITEMS_TABLE):
            staging.reject_superseded(table)
        tables = {table: _count(staging, table, files) for table in (INTERACTIONS_TABLE, ITEMS_TABLE)}
        quarantine = _write_quarantine(staging, home, run, layouts, tables)
        _refuse_all_bad(tables[INTERACTIONS_TABLE], quarantine)
        parts = [
            _append(staging, home, INTERACTIONS_TABLE, INTERACTIONS, _INTERACTIONS_OUT),
            _append(staging, home, ITEMS_TABLE, ITEMS, _items_out(staging, home, now)),
        ]
        first, last = staging.connection.execute(
            "SELECT min(event_timestamp), max(event_timestamp) FROM interactions"
        ).fetchall()[0]
    return IngestReport(
        format=name,
        run=run,
        files=files,
        ignored_files=[str(path) for path in ignored],
        interactions=tables[INTERACTIONS_TABLE],
        items=tables[ITEMS_TABLE],
        parts=[str(part) for part in parts if part is not None],
        quarantine=None if quarantine is None else str(quarantine),
        first_event=first,
        last_event=last,
    )


def latest_items_sql(home: Home) -> str:
    """SQL text, for ``FROM``, with one row per item: the one with the newest created_timestamp."""
    if not home.parts(ITEMS_TABLE):
        return "(SELECT NULL::VARCHAR AS item_id, NULL::VARCHAR AS title, NULL::VARCHAR[] AS categories, " + (
            "NULL::VARCHAR AS description, NULL::TIMESTAMPTZ AS created_timestamp WHERE false)"
        )
    newest = "row_number() OVER (PARTITION BY item_id ORDER BY created_timestamp DESC) = 1"
    return f"(SELECT * FROM {home.scan(ITEMS_TABLE)} QUALIFY {newest})"


def _stage_file(
    staging: Staging, path: Path, layout: Layout, index: int, sha256: str, progress: Progress | None
) -> FileReport:
    rows_in = replaced = 0
    unit = layout.timestamp_unit
    for chunk in layout.chunks(path):
        if layout.table == INTERACTIONS_TABLE and unit is None:
            unit = _detect_unit(staging, chunk, layout, path)
        staging.add(chunk, layout, index, unit)
        rows_in += chunk.num_rows
        replaced += count_replaced(chunk)
        if progress is not None:
            progress(chunk.num_rows)
    if not rows_in:
        raise FormatError(f"{path} is empty: a header without rows. Export it again; nothing was ingested.")
    return FileReport(
        path=str(path),
        sha256=sha256,
        table=layout.table,
        rows_in=rows_in,
        timestamp_unit=unit if layout.table == INTERACTIONS_TABLE else None,
        cells_replaced=replaced,
    )


def _detect_unit(staging: Staging, chunk: pa.Table, layout: Layout, path: Path) -> Unit:
    staging.connection.register("first_chunk", chunk)
    texts = f"SELECT nullif(trim(timestamp_text), '') AS timestamp_text FROM ({layout.select_sql('first_chunk')})"
    try:
        return detect_unit(staging.connection, texts, f"{path}: the column {layout.fields['timestamp_text']}")
    finally:
        staging.connection.unregister("first_chunk")


def _existing_interactions(staging: Staging, home: Home) -> str | None:
    """Key and rating of what the home holds between the first and last instant of this run."""
    first, last = staging.connection.execute(
        "SELECT epoch_us(min(event_timestamp)), epoch_us(max(event_timestamp)) FROM interactions"
    ).fetchall()[0]
    if first is None or not home.parts(INTERACTIONS_TABLE):
        return None
    return f"""SELECT {KEY_SQL} AS key, rating AS value FROM {home.scan(INTERACTIONS_TABLE)}
        WHERE event_timestamp BETWEEN make_timestamptz({first}) AND make_timestamptz({last})"""


def _existing_items(home: Home) -> str | None:
    if not home.parts(ITEMS_TABLE):
        return None
    return f"SELECT item_id AS key, {CONTENT_SQL} AS value FROM {latest_items_sql(home)}"


def _count(staging: Staging, table: str, files: list[FileReport]) -> TableReport:
    connection = staging.connection
    fates = staging.fates(table)
    appended = connection.execute(f"SELECT count(*) FROM {staging.remaining(table)}").fetchall()[0][0]
    quarantined = connection.execute(f"SELECT count(*) FROM rejected WHERE \"table\" = '{table}'").fetchall()[0][0]
    report = TableReport(
        rows_in=sum(file.rows_in for file in files if file.table == table),
        appended=appended,
        already_there=fates.get(ALREADY_THERE, 0),
        exact_duplicates=fates.get(EXACT_DUPLICATE, 0),
        quarantined=quarantined,
        quarantine_reasons=staging.reasons(table),
    )
    known = report.appended + report.already_there + report.exact_duplicates + report.quarantined
    if known != report.rows_in:
        raise DataError(
            f"{table}: {report.rows_in:,} rows were read but {known:,} are accounted for ({report.to_dict()}). "
            "This is a fault of ingest; nothing was appended. Please report it with the files' format."
        )
    return report


def _write_quarantine(
    staging: Staging, home: Home, run: str, layouts: dict[Path, Layout], tables: dict[str, TableReport]
) -> Path | None:
    if not any(report.quarantined for report in tables.values()):
        return None
    rows = staging.rejected([str(path) for path in layouts])
    return write_parquet(home.quarantine / f"{run}.parquet", rows, QUARANTINE)


def _refuse_all_bad(report: TableReport, quarantine: Path | None) -> None:
    if not report.rows_in or report.quarantined < report.rows_in:
        return
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in report.quarantine_reasons.items())
    raise DataError(
        f"Not one of {report.rows_in:,} interactions is valid ({reasons}): a column is of the wrong type or the wrong "
        f"column, and nothing was appended. The rows and their reasons are in {quarantine}; map the columns."
    )


_INTERACTIONS_OUT = """user_id, item_id, event_timestamp,
    event_timestamp + INTERVAL 1 MICROSECOND AS created_timestamp, rating, event_type, review_text"""


def _items_out(staging: Staging, home: Home, now: datetime) -> str:
    """An update is created after the row that it replaces, even when both runs were given the same ``now``."""
    created = now
    if home.parts(ITEMS_TABLE):
        newest = f"SELECT max(created_timestamp) FROM {home.scan(ITEMS_TABLE)}"
        created = max(now, staging.connection.execute(newest).fetchall()[0][0] + timedelta(microseconds=1))
    return f"item_id, title, categories, description, TIMESTAMPTZ {literal(created.isoformat())} AS created_timestamp"


def _append(staging: Staging, home: Home, table: str, schema: pa.Schema, columns: str) -> Path | None:
    """Write the new rows of ``table`` as one part, named after what it holds; None when there are none.

    Not named after the run: a part must never replace another one that holds other rows of the same files.
    """
    rows = staging.remaining(table)
    digest_sql = "count(*), bit_xor(hash(key, value)), sum(hash(value, key))"  # whatever the order of the rows
    n, *digest = staging.connection.execute(f"SELECT {digest_sql} FROM {rows}").fetchall()[0]
    if not n:
        return None
    part = hashlib.sha256(f"{n} {digest} {columns}".encode()).hexdigest()[:32]
    return home.write_part(table, part, staging.reader(f"SELECT {columns} FROM {rows}"), schema)


def _run_key(name: str, mapping: ColumnMapping | None, digests: list[str]) -> str:
    text = "\n".join([name, "" if mapping is None else mapping.model_dump_json(), *digests])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
