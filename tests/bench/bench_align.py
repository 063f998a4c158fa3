"""What alignment gains, seed by seed:  python -m tests.bench.bench_align [--data DIR] [--seeds 0,1,2] [--home DIR]

Each seed draws its own users, candidates, pairs and training order, runs the whole loop, and compares base, SFT and
aligned generator on users and times that neither reward nor training has seen. Seconds and peak memory are those of the
whole command of one seed, ingestion and item vectors included in the first.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from lettingo_features.alignment.gate_scores import MATCHED, RANKED, REWARD, SHELVES
from lettingo_features.home import Home
from lettingo_features.text_table import aligned

ARMS = ("statistical", "base", "sft", "aligned", "aligned, shuffled")


@click.command()
@click.option("--data", type=click.Path(exists=True), help="Interactions; left out: a synthetic world.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--home", type=click.Path(), help="Keeps the runs; left out: a temporary directory.")
@click.option("--reader", type=click.Choice(["encoder", "words"]), default="words", show_default=True)
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="JSON, as of lettingo align run.")
def main(data: str | None, seeds: str, home: str | None, reader: str, config: str | None) -> None:
    """Print one table per metric."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(home or temporary)
        runs = {int(seed): _run(root, int(seed), data, reader, config) for seed in seeds.split(",")}
        for metric in (MATCHED, RANKED, REWARD, SHELVES):
            click.echo(f"\n{metric}\n{_table(root, runs, metric)}")
        click.echo()
        for seed, (facts, seconds) in runs.items():
            click.echo(f"seed {seed}: {facts['decision']}, {seconds:.0f} s; {' '.join(facts['reasons'])}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        click.echo(f"largest process: {peak:.2f} GB")


def _run(root: Path, seed: int, data: str | None, reader: str, config: str | None) -> tuple[dict, float]:
    told = ["--home", str(root), "--name", f"seed{seed}", "--seed", str(seed), "--reader", reader, "--json"]
    told += ["--data", data] if data else ["--world"]
    told += ["--config", config] if config else []
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "align", "run", *told], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1]), time.monotonic() - start


def _table(root: Path, runs: dict[int, tuple[dict, float]], metric: str) -> str:
    lines = [("seed, arm", "mean", "difference from base", "95 %", "p")]
    for seed in runs:
        rows = json.loads((Home(root).alignment / f"seed{seed}" / "gate" / "table.json").read_text())
        by_arm = {row["arm"]: row for row in rows if row["metric"] == metric}
        for arm in (arm for arm in ARMS if arm in by_arm):
            row = by_arm[arm]
            compared = ("", "", "")
            if row["difference"] is not None:
                low, high = row["difference_interval"]
                compared = (f"{row['difference']:+.4f}", f"[{low:+.4f}, {high:+.4f}]", f"{row['p']:.4f}")
            lines.append((f"{seed}, {arm}", f"{row['mean']:.4f}", *compared))
    return aligned(lines)


if __name__ == "__main__":
    main()
