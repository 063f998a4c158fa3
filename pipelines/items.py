"""Encode the catalogue's text:  lettingo items encode"""

from __future__ import annotations

import click

from pipelines.console import home_option, json_option, open_home, progress_bar, show


def run_items(home, encoder) -> dict[str, int]:
    """Encode the items that have interactions and no vector yet, under a run record."""
    from lettingo_features.item_text import build_item_text
    from lettingo_features.runs import run_record

    with (
        run_record(home, "items encode", {"encoder": encoder.encoder_id}) as run,
        progress_bar("items", "items") as bar,
    ):
        counts = build_item_text(home, encoder, bar)
        run.record(counts=counts)
    return counts


@click.group()
def items() -> None:
    """The catalogue's text as features."""


@items.command()
@click.option(
    "--encoder", default="minilm_l6_v2", show_default=True, help="Shipped encoder, or a model directory or id."
)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@home_option
@json_option
def encode(encoder: str, precision: str, home_dir: str, as_json: bool) -> None:
    """Encode title and categories of every item that has interactions and no vector yet."""
    from pipelines.profiles import make_encoder

    home = open_home(home_dir)
    counts = run_items(home, make_encoder(home, encoder, precision))
    show(as_json, counts, ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
