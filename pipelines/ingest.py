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


def column_mapping(pairs: tuple[str, ...]):
    """``("user_id=uid", "rating_scale=1,5")`` as a ColumnMapping; None without pairs.

    Raises
    ------
    ConfigError
        A pair has no ``=``, or names no field of the mapping.
    """
    from pydantic import ValidationError

    from lettingo_features.data.mapping import ColumnMapping
    from lettingo_features.errors import ConfigError

    if not pairs:
        return None
    fields = {ours: theirs for ours, _, theirs in (pair.partition("=") for pair in pairs)}
    if scale := fields.get("rating_scale"):
        fields["rating_scale"] = scale.split(",")
    try:
        return ColumnMapping(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        known = ", ".join(ColumnMapping.model_fields)
        raise ConfigError(
            f"--map takes ours=theirs, e.g. --map user_id=uid ({wrong}). Ours is one of {known}."
        ) from error


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--format", help="Name of the format; detected when left out.")
@click.option("--map", "columns", multiple=True, help="For generic Parquet or CSV: ours=theirs, e.g. user_id=uid.")
@home_option
@json_option
def ingest(paths: tuple[str, ...], format: str | None, columns: tuple[str, ...], home_dir: str, as_json: bool) -> None:
    """Validate interactions and items and append what is new; bad rows go to a quarantine file."""
    report = run_ingest(open_home(home_dir), list(paths), format=format, mapping=column_mapping(columns))
    show(as_json, report.model_dump(mode="json"), report.to_text())
