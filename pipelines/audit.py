"""Checks that exit 1 when they find something:  lettingo audit leakage FILE | consistency --url URL --as-of T"""

from __future__ import annotations

import sys

import click

from pipelines.console import Instant, home_option, json_option, open_home, show


@click.group()
def audit() -> None:
    """Checks that exit 1 when they find something."""


@audit.command()
@click.argument("file", type=click.Path())
@json_option
def leakage(file: str, as_json: bool) -> None:
    """Check every row of a training set against source_max_ts < cutoff <= published <= label."""
    from lettingo_features.certificate import check_families
    from lettingo_features.errors import LeakageError
    from lettingo_features.training_set import read_labels

    table = read_labels(file)
    try:
        families = check_families(table)
    except LeakageError as error:
        show(as_json, {"file": file, "rows": table.num_rows, "leakage": str(error)}, str(error))
        sys.exit(1)
    facts = {"file": file, "rows": table.num_rows, "families": [check.model_dump() for check in families]}
    show(as_json, facts, f"{table.num_rows:,} rows, {len(families)} families of provenance columns, 0 violations")


@audit.command()
@click.option("--url", required=True, help="Base URL of a running feast serve, such as http://127.0.0.1:6566")
@click.option("--as-of", type=Instant(), required=True, help="The end of the last materialize-incremental.")
@click.option("--entities", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@home_option
@json_option
def consistency(url: str, as_of, entities: int, seed: int, home_dir: str, as_json: bool) -> None:
    """Compare what the feature server answers with the offline join at the same instant."""
    from pipelines.online import run_consistency
    from pipelines.store import open_store

    home = open_home(home_dir)
    found = run_consistency(home, open_store(home), url, as_of, entities, seed)
    lines = [
        f"{service:<22} {facts['rows']:>5} rows {facts['values']:>8,} values  "
        + ("equal" if facts["equal"] else f"DIFFER: {facts['mismatches'] or facts['missing_columns']}")
        for service, facts in found.items()
    ]
    show(as_json, found, "\n".join(lines))
    if not all(facts["equal"] for facts in found.values()):
        sys.exit(1)
