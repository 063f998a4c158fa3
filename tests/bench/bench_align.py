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
from collections.abc import Iterable
from pathlib import Path

import click
import pandas as pd
import pyarrow.parquet as pq

from lettingo_features.alignment.gate_scores import MATCHED, RANKED, REWARD, SHELVES
from lettingo_features.evaluation.statistics import Bootstrap, paired_p_value
from lettingo_features.home import Home
from lettingo_features.text_table import aligned

ARMS = ("statistical", "base", "sft", "aligned", "aligned, shuffled")


@click.command()
@click.option("--data", type=click.Path(exists=True), help="Interactions; left out: a synthetic world.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--home", type=click.Path(), help="Keeps the runs; left out: a temporary directory.")
@click.option("--reader", type=click.Choice(["encoder", "words"]), help="As of lettingo align run.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="JSON, as of lettingo align run.")
def main(data: str | None, seeds: str, home: str | None, reader: str | None, config: str | None) -> None:
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


def _run(root: Path, seed: int, data: str | None, reader: str | None, config: str | None) -> tuple[dict, float]:
    told = ["--home", str(root), "--name", f"seed{seed}", "--seed", str(seed), "--json"]
    told += ["--reader", reader] if reader else []
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
    lines += [_over_seeds(root, runs, metric, arm) for arm in ("sft", "aligned") if len(runs) > 1]
    return aligned(lines)


def _over_seeds(root: Path, seeds: Iterable[int], metric: str, arm: str) -> tuple[str, ...]:
    """Each user's difference from base, averaged over the seeds whose gate the user was in; users are resampled."""
    tables = []
    for seed in seeds:
        scores = pq.read_table(Home(root).alignment / f"seed{seed}" / "gate" / "scores.parquet").to_pandas()
        by_arm = scores[scores["metric"] == metric].pivot(index="user_id", columns="arm", values="value")
        if arm in by_arm:
            tables.append(by_arm[arm] - by_arm["base"])
    differences = pd.concat(tables).groupby(level=0).mean().to_numpy()
    low, high = Bootstrap(len(differences), 10_000, 0.95, 0).interval(differences[None])
    p = paired_p_value(differences, 9_999, 0)
    named = f"all {len(tables)}, {arm} ({len(differences):,} users)"
    return named, "", f"{differences.mean():+.4f}", f"[{low:+.4f}, {high:+.4f}]", f"{p:.4f}"


if __name__ == "__main__":
    main()
