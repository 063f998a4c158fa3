"""Ingest at scale: rows per second and peak memory, one child process per size.

Command: ``python -m tests.bench.bench_ingest --rows 1000000 --rows 10000000``

The data are DuckDB's random ratings as a CSV file in a temporary directory; generating them is not timed. Peak memory
is the child's resident maximum (``ru_maxrss``), imports included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import duckdb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY_LIMIT_MB = 2000


@click.command()
@click.option("--rows", "sizes", type=int, multiple=True, default=(1_000_000,), help="Rows of a run; repeatable.")
@click.option("--twice", is_flag=True, help="Ingest each file a second time and time that too.")
@click.option("--directory", type=click.Path(path_type=Path), default=None, help="Where the temporary files lie.")
def main(sizes: tuple[int, ...], twice: bool, directory: Path | None) -> None:
    """Print a table: rows, seconds, rows/s, CPU time, peak RSS; then the largest run relative to the smallest."""
    print(f"{'rows':>12} {'run':>7} {'seconds':>9} {'rows/s':>10} {'CPU us/row':>11} {'peak RSS MB':>12}")
    speeds: dict[int, float] = {}
    for rows in sorted(sizes):
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            file = Path(scratch) / "ratings.csv"
            _generate(file, rows)
            for run in ("first", "again") if twice else ("first",):
                seconds, cpu, peak = _measure(file, Path(scratch) / "home", rows if run == "first" else 0)
                if run == "first":
                    speeds[rows] = rows / seconds
                speed = f"{seconds:>9.1f} {rows / seconds:>10,.0f} {cpu / rows * 1e6:>11.2f}"
                print(f"{rows:>12,} {run:>7} {speed} {peak:>12,.0f}", flush=True)
                if peak > MEMORY_LIMIT_MB:
                    raise SystemExit(f"peak memory {peak:,.0f} MB is above {MEMORY_LIMIT_MB:,} MB")
    if len(speeds) > 1:
        small, large = min(speeds), max(speeds)
        print(f"rows/s at {large:,} relative to {small:,}: {speeds[large] / speeds[small]:.2f}")


def _generate(file: Path, rows: int) -> None:
    with duckdb.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"""
            COPY (SELECT (random() * {max(rows // 50, 10)})::INT AS "userId", (random() * 60000)::INT AS "movieId",
                         1 + (random() * 8)::INT / 2.0 AS rating, 1262304000 + (random() * 4e8)::INT AS timestamp
                  FROM range({rows})) TO '{file}' (HEADER)""")


def _measure(file: Path, home: Path, appended: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak resident megabytes of one ingest in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_ingest", "--child", str(file), str(home)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    # A few random rows meet at the same user, item and second: duplicates, not losses.
    if not appended * 0.999 <= result["appended"] <= appended:
        raise SystemExit(f"{result['appended']:,} rows were appended where {appended:,} were expected")
    return result["seconds"], result["cpu"], result["peak_mb"]


def _child(file: str, home: str) -> None:
    from lettingo_features.data.ingest import ingest
    from lettingo_features.home import Home

    started = time.perf_counter()
    report = ingest(file, Home(home), format="ml-csv", now=NOW)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    print(json.dumps(facts | {"appended": report.interactions.appended}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        main()
