"""Write a seeded synthetic world as files that ``lettingo ingest`` reads:  lettingo world --out DIR --users 2000"""

from __future__ import annotations

import click

from pipelines.console import json_option, show


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Directory for the two files.")
@click.option("--users", default=2_000, show_default=True, type=click.IntRange(1))
@click.option("--items", default=1_500, show_default=True, type=click.IntRange(10))
@click.option("--days", default=240, show_default=True, type=click.IntRange(30))
@click.option("--seed", default=0, show_default=True)
@json_option
def world(out: str, users: int, items: int, days: int, seed: int, as_json: bool) -> None:
    """Write interactions and items of a synthetic world with known interests."""
    from pathlib import Path

    from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world

    made = SyntheticWorld(WorldConfig(n_users=users, n_items=items, n_days=days, seed=seed))
    write_world(made, Path(out))
    facts = {"out": out, "interactions": made.interactions().num_rows, "items": made.items().num_rows}
    show(as_json, facts, f"{facts['interactions']:,} interactions with {facts['items']:,} items in {out}")
