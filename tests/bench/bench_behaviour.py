"""Behavioural features at scale: rows per second and peak memory, one child process per size.

Command: ``python -m tests.bench.bench_behaviour --rows 1000000 --rows 10000000``

Rows are interactions. Users come in the skew of a real service (a few have very many), items in a popularity law, and
a user's interactions fall into a few days, as on MovieLens. Generating them is not timed. Timed: both tables at all
cutoffs, written to parquet. Peak memory is the child's resident maximum (``ru_maxrss``), imports included.
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

from lettingo_features import columns
from lettingo_features.behaviour import build_item_behaviour, build_user_behaviour
from lettingo_features.home import write_parquet
from lettingo_features.snapshots import snapshot_cutoffs
from lettingo_features.sql import connect, literal

END = datetime(2024, 1, 1, tzinfo=UTC)
MEMORY_LIMIT = "1GB"  # DuckDB's own; the process also holds the libraries and the batches on their way
PEAK_LIMIT_MB = 2000


@click.command()
@click.option("--rows", "sizes", type=int, multiple=True, default=(1_000_000,), help="Interactions; repeatable.")
@click.option("--cutoffs", type=click.IntRange(1), default=1, show_default=True, help="Weekly cutoffs before the end.")
def main(sizes: tuple[int, ...], cutoffs: int) -> None:
    """Print one line per size, then the speed of the largest relative to the smallest (CPU: also on a busy machine)."""
    print(f"{'rows':>12} {'cutoffs':>7} {'written':>11} {'seconds':>9} {'rows/s':>10} {'CPU s':>8} {'peak RSS MB':>12}")
    speeds: dict[int, tuple[float, float]] = {}
    for rows in sorted(set(sizes)):
        with tempfile.TemporaryDirectory() as scratch:
            _generate(Path(scratch), rows)
            seen = _measure(Path(scratch), cutoffs)
        speeds[rows] = rows / seen["seconds"], rows / seen["cpu_seconds"]
        print(
            f"{rows:>12,} {cutoffs:>7} {seen['written']:>11,} {seen['seconds']:>9.1f} {speeds[rows][0]:>10,.0f} "
            f"{seen['cpu_seconds']:>8.1f} {seen['peak_mb']:>12,.0f}",
            flush=True,
        )
        if seen["peak_mb"] > PEAK_LIMIT_MB:
            raise SystemExit(f"peak memory {seen['peak_mb']:,.0f} MB is above {PEAK_LIMIT_MB:,} MB")
    if len(speeds) > 1:
        small, large = min(speeds), max(speeds)
        wall, cpu = (after / before for before, after in zip(speeds[small], speeds[large], strict=True))
        print(f"rows/s at {large:,} relative to {small:,}: {wall:.2f}; rows per CPU second: {cpu:.2f}")


def _generate(scratch: Path, rows: int) -> None:
    """Write ``interactions.parquet`` and ``items.parquet``: 50 interactions per user and 300 per item on average."""
    n_users, n_items = max(rows // 50, 10), max(rows // 300, 10)
    connection = connect(scratch / "spill", MEMORY_LIMIT)
    draw = "hash(range, {!r}) / 18446744073709551616.0"  # uniform on [0, 1), the same in every run
    connection.execute(f"""
        COPY (
            WITH drawn AS (
                SELECT (pow({draw.format("user")}, 3) * {n_users})::INT AS user_no,
                    (pow({draw.format("item")}, 3) * {n_items})::INT AS item_no,
                    {draw.format("day")} AS day, {draw.format("rating")} AS stars
                FROM range({rows})
            )
            SELECT lpad(user_no::VARCHAR, 8, '0') AS user_id, lpad(item_no::VARCHAR, 8, '0') AS item_id,
                -- One of twelve visits of this user in two years, then a moment within that day.
                TIMESTAMPTZ '{END.isoformat()}' - to_microseconds((
                    hash(user_no, (day * 12)::INT) % 730 * 86400000000 + fmod(day * 1e6, 1) * 86400000000
                )::BIGINT) AS event_timestamp,
                (1 + (stars * 8)::INT / 2)::FLOAT AS rating
            FROM drawn
        ) TO {literal(str(scratch / "interactions.parquet"))}
    """)
    connection.execute(f"""
        COPY (
            SELECT lpad(range::VARCHAR, 8, '0') AS item_id, TIMESTAMPTZ '2020-01-01' AS created_timestamp,
                ['genre ' || hash(range, 1) % 20, 'genre ' || hash(range, 2) % 20, 'genre ' || hash(range, 3) % 20]
                    AS categories
            FROM range({n_items + 1})
        ) TO {literal(str(scratch / "items.parquet"))}
    """)


def _measure(scratch: Path, cutoffs: int) -> dict[str, float]:
    """What a process of its own took: seconds, cpu_seconds, peak_mb (resident), written (rows)."""
    command = [sys.executable, "-m", "tests.bench.bench_behaviour", "--child", str(scratch), str(cutoffs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _child(scratch: Path, n_cutoffs: int) -> None:
    interactions, items = (literal(str(scratch / f"{name}.parquet")) for name in ("interactions", "items"))
    cutoffs = snapshot_cutoffs(datetime(2023, 1, 1, tzinfo=UTC), END, "1w")[-n_cutoffs:]
    connection = connect(scratch / "spill", MEMORY_LIMIT)
    start, cpu_start = time.perf_counter(), time.process_time()
    users = build_user_behaviour(connection, interactions, items, cutoffs, publish_lag_s=0)
    write_parquet(scratch / "users.parquet", users, columns.USER_BEHAVIOUR)
    popularity = build_item_behaviour(connection, interactions, cutoffs, publish_lag_s=0)
    write_parquet(scratch / "item_rows.parquet", popularity, columns.ITEM_BEHAVIOUR)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    written = sum(
        connection.execute(f"SELECT count(*) FROM {literal(str(scratch / name))}").fetchall()[0][0]
        for name in ("users.parquet", "item_rows.parquet")
    )
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb, "written": written}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
