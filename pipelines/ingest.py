"""Validate and append interactions and items:  lettingo ingest DIR_OR_FILES [--format NAME]"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from pipelines.console import home_option, json_option, open_home, progress_bar, show


def run_ingest(home, paths: list[str], *, format: str | None = None, mapping=None):
    """Ingest ``paths`` into ``home`` under a run record; return the ``IngestReport``."""
    from lettingo_features.data.ingest import ingest as ingest_files
    from lettingo_features.runs import run_record

    with run_record(home, "ingest", {"paths": paths, "format": format}) as run, progress_bar("ingest") as progress:
        report = ingest_files(paths, home, format=format, mapping=mapping, now=datetime.now(UTC), progress=progress)
        run.record(report=report.model_dump(mode="json"))
    return report


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--format", help="Name of the format; detected when left out.")
@click.option("--map", "columns", multiple=True, help="For generic Parquet or CSV: ours=theirs, e.g. user_id=uid.")
@home_option
@json_option
def ingest(paths: tuple[str, ...], format: str | None, columns: tuple[str, ...], home_dir: str, as_json: bool) -> None:
    """Validate interactions and items and append what is new; bad rows go to a quarantine file."""
    from lettingo_features.data.mapping import ColumnMapping

    pairs = [pair.partition("=") for pair in columns]
    if any(not theirs for _, _, theirs in pairs):
        raise click.BadParameter("--map takes ours=theirs, e.g. --map user_id=uid")
    mapping = ColumnMapping(**{ours: theirs for ours, _, theirs in pairs}) if pairs else None
    report = run_ingest(open_home(home_dir), list(paths), format=format, mapping=mapping)
    show(as_json, report.model_dump(mode="json"), report.to_text())
