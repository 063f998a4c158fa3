"""The ASOF offline store beside hand-written joins and Feast's stock stores, on the same rows.

    python -m tests.bench.bench_asof            # 1,000,000 labels x 1,000,000 stored rows: ten minutes on two cores
    python -m tests.bench.bench_asof --quick    # 100,000 x 100,000

Each measurement is a process of its own. Timed: from labels in memory (an Arrow table; pandas where Feast's stock
stores need it) and stored rows in one parquet file, to the answer in memory, in the order of the labels where the
method keeps it; the best of three runs, two where one takes more than ten seconds. Not timed: imports and the
registry. ``cpu`` is the process's CPU time, which a busy machine disturbs less; ``peak`` is the whole process, imports
and labels included. The hand-written joins do less: no ties, no creation, no ttl, no declared types. The stock DuckDB
store joins a label with all earlier rows of its key before it ranks them, so how far it falls behind grows with the
rows per key. ``checksum`` comes from values and row numbers: equal ones mean the same values in the same order.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = ("count_7d", "count_all", "mean_rating", "std_rating")
PAIR = ["user_id", "item_id"]
CASES = {"user": ["user_id"], "user, item": PAIR, "user, item, a month of days": PAIR, "hot users": ["user_id"]}
ROWS_PER_PAIR = {"user, item": 10, "user, item, a month of days": 30}
YEAR_S = 365 * 86_400
START_S = 1_600_000_000


def write_world(root: Path, case: str, n_labels: int, n_rows: int, seed: int = 0) -> None:
    """Stored rows and labels of ``case``; labels ask for keys that exist, at any instant of the year.

    Ten rows per user on average; with hot users, 10 % of the users own 90 % of the rows. A pair of user and item has
    `ROWS_PER_PAIR` (ten items per user): the view holds a statistic that is written again and again, as every day.
    """
    draw = np.random.default_rng(seed)
    n_users = max(n_rows // 10, 10)
    users = draw.integers(0, n_users, n_rows)
    if case == "hot users":
        users = np.where(draw.random(n_rows) < 0.9, draw.integers(0, n_users // 10, n_rows), users)
    items = draw.integers(0, 1_000, n_rows)
    if case in ROWS_PER_PAIR:
        users = draw.integers(0, max(n_rows // (10 * ROWS_PER_PAIR[case]), 1), n_rows)
        items = (users * 7 + draw.integers(0, 10, n_rows)) % 1_000
    events = (START_S + draw.integers(0, YEAR_S, n_rows)) * 1_000_000
    created = events + draw.integers(1, 6 * 3600 * 1_000_000, n_rows)
    asked = draw.integers(0, n_rows, n_labels)
    instants = (START_S + draw.integers(0, YEAR_S, n_labels)) * 1_000_000
    kind = pa.timestamp("us", "UTC")
    rows = {
        "user_id": _ids("u", users),
        "item_id": _ids("i", items),
        "event_timestamp": pa.array(events, kind),
        "created_timestamp": pa.array(created, kind),
        "count_7d": draw.integers(0, 50, n_rows),
        "count_all": draw.integers(50, 5_000, n_rows),
        "mean_rating": draw.random(n_rows, dtype=np.float32),
        "std_rating": draw.random(n_rows, dtype=np.float32),
    }
    pq.write_table(pa.table(rows), root / "rows.parquet")
    labels = {"user_id": _ids("u", users[asked]), "item_id": _ids("i", items[asked])}
    pq.write_table(pa.table(labels | {"event_timestamp": pa.array(instants, kind)}), root / "labels.parquet")


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(prefix, numbers.astype("U9")))


def feast_job(root: Path, keys: list[str], offline: str, pandas: bool, by_created: bool = False):
    """A function that joins through Feast's ``get_historical_features``."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.repo_config import RepoConfig
    from feast.types import Float32, Int64

    entities = [Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for key in keys]
    source = FileSource(
        name="rows",
        path=str(root / "rows.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    schema = [Field(name=name, dtype=Int64 if "count" in name else Float32) for name in FEATURES]
    view = FeatureView(name="stats", entities=entities, schema=schema, source=source)
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(root / f"{offline}.registry.db"),
        online_store=None,
        offline_store={"type": offline},
        entity_key_serialization_version=3,
    )
    config.repo_path = root
    store = FeatureStore(config=config)
    store.apply([*entities, view])
    labels = read_labels(root, keys)
    labels = labels.to_pandas() if pandas else labels
    names = [f"stats:{name}" for name in FEATURES]

    def join():
        job = store.get_historical_features(
            labels.copy() if pandas else labels, names, filter_by_created_timestamp=by_created
        )
        return job.to_df() if pandas else job.to_arrow()

    return join


def read_labels(root: Path, keys: list[str]) -> pa.Table:
    return pq.read_table(root / "labels.parquet", columns=[*keys, "event_timestamp"])


def duckdb_job(root: Path, keys: list[str]):
    """A hand-written ASOF JOIN that keeps the order of the labels."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    labels = read_labels(root, keys)
    connection.register("labels", labels.append_column("position", pa.array(np.arange(len(labels)))))
    wanted = ", ".join(f"f.{name}" for name in FEATURES)
    on = " AND ".join(f"l.{key} = f.{key}" for key in keys)
    sql = (
        f"SELECT l.* EXCLUDE (position), {wanted} FROM labels l ASOF LEFT JOIN '{root / 'rows.parquet'}' f "
        f"ON {on} AND l.event_timestamp >= f.event_timestamp ORDER BY position"
    )
    return lambda: connection.sql(sql).to_arrow_table()


def polars_job(root: Path, keys: list[str]):
    """A hand-written ``join_asof`` that keeps the order of the labels."""
    import polars as pl

    labels = pl.from_arrow(read_labels(root, keys))

    def join():
        rows = pl.read_parquet(root / "rows.parquet", columns=[*keys, "event_timestamp", *FEATURES])
        left = labels.with_row_index("position").sort("event_timestamp")
        right = rows.sort("event_timestamp")
        joined = left.join_asof(right, on="event_timestamp", by=keys, check_sortedness=False)
        return joined.sort("position").drop("position").to_arrow()

    return join


ASOF = "lettingo_features.offline_store.asof.AsofOfflineStore"
METHODS: dict[str, Callable] = {
    "ours": lambda root, keys: feast_job(root, keys, ASOF, pandas=False),
    "ours, pandas in and out": lambda root, keys: feast_job(root, keys, ASOF, pandas=True),
    "ours, created filter": lambda root, keys: feast_job(root, keys, ASOF, pandas=False, by_created=True),
    "hand-written DuckDB": duckdb_job,
    "hand-written Polars": polars_job,
    "stock duckdb": lambda root, keys: feast_job(root, keys, "duckdb", pandas=True),
    "stock file": lambda root, keys: feast_job(root, keys, "file", pandas=True),
}


def measure(root: Path, case: str, method: str) -> dict[str, float]:
    """Run one method in this process."""
    import pandas as pd

    join = METHODS[method](root, CASES[case])
    n_labels = pq.read_metadata(root / "labels.parquet").num_rows
    best, runs = None, 0
    while runs < 3 and not (best and runs > 1 and best["wall"] > 10) and not (best and best["wall"] > 30):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = join()
        run = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        best = run if best is None else {key: min(best[key], run[key]) for key in run}
        runs += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    values = answer["count_all"]
    values = (
        values.to_numpy(np.float64, na_value=0) if isinstance(values, pd.Series) else values.fill_null(0).to_numpy()
    )
    checksum = int(np.dot(np.nan_to_num(values), np.arange(len(values)) % 1_009))
    return best | {"peak_gb": peak, "labels": n_labels, "rows": len(values), "checksum": checksum}


def in_child(root: Path, case: str, method: str, limit_s: float, limit_gb: int) -> dict[str, float] | str:
    """Measure in a process of its own; what happened instead if it does not survive its limits.

    ``limit_s`` is CPU time, which does not depend on what else the machine does.
    """
    command = [sys.executable, "-m", "tests.bench.bench_asof", "--child", str(root), case, method]

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s),) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (limit_gb * 2**30,) * 2)

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limits, check=False)
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"killed at {limit_s:.0f} s of CPU time"
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1][:80] if done.stderr.strip() else f"exit {done.returncode}"
        return f"failed under {limit_gb} GB of address space: {reason}"
    return json.loads(done.stdout.splitlines()[-1])


def line(method: str, result: dict | str, hand: dict | None) -> str:
    if isinstance(result, str):
        return f"  {method:26s} {result}"
    ratio = f"{result['wall'] / hand['wall']:8.2f} {result['cpu'] / hand['cpu']:8.2f}" if hand else " " * 17
    return (
        f"  {method:26s} {result['wall']:7.2f} {result['cpu']:7.2f} {result['peak_gb']:7.2f} {ratio} "
        f"{result['rows']:>10,}/{result['labels']:,} {result['checksum']}"
    )


def compare(case: str, n_labels: int, n_rows: int, stock_limit_s: float) -> None:
    print(f"\n{case} key: {n_labels:,} labels x {n_rows:,} rows" if case != "hot users" else f"\n{case} (user key)")
    heads = "".join(f"{head:>{width}s}" for head, width in (("wall s", 8), ("cpu s", 8), ("peak GB", 8), ("x wall", 9)))
    print(f"  {'method':26s}{heads}{'x cpu':>9s}   rows/labels, checksum")
    methods = [method for method in METHODS if method != "stock file"]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_world(root, case, n_labels, n_rows)
        results = {method: in_child(root, case, method, stock_limit_s, 15) for method in methods}
    by_hand = [result for name, result in results.items() if name.startswith("hand") and not isinstance(result, str)]
    hand = min(by_hand, key=lambda result: result["wall"], default=None)
    for method, result in results.items():
        print(line(method, result, hand), flush=True)
    print("  x: relative to the faster hand-written join")


def lost_rows(n_labels: int) -> None:
    print(f"\nrows that the stock file store returns, (user, item) key, {n_labels:,} labels")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_world(root, "user, item", n_labels, n_labels)
        for method in ("ours", "stock file"):
            print(line(method, in_child(root, "user, item", method, 120, 15), None), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 labels and rows")
    parser.add_argument("--stock-limit", type=float, default=120, help="CPU seconds after which a method is killed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        root, case, method = arguments.child
        print(json.dumps(measure(Path(root), case, method)))
        return
    n_labels, n_rows = (100_000, 100_000) if arguments.quick else (arguments.labels, arguments.rows)
    for case in CASES:
        compare(case, n_labels, n_rows, arguments.stock_limit)
    lost_rows(min(n_labels, 20_000))


if __name__ == "__main__":
    main()
