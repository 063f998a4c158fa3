"""What exactly-once costs: the ledger at a million calls, and a run through it against the bare engine.

Command: ``python -m tests.bench.bench_ledger`` (``--quick``: 100,000 calls and 2,000 prompts)

First ``plan`` of all keys and ``claim`` of all in batches of 4,096, in a child process per database; peak
memory is the child's resident maximum (``ru_maxrss``), imports included. PostgreSQL is what ``scripts/services`` runs,
or ``--postgres URL``; without either its row is left out.

Then what a call costs the runner on an engine that answers at once. Last the embedded model on synthetic prompts, once
through `Runner` on a fresh home (keys, plan, claims, answers on disk) and once bare, as one ``generate``; in pairs,
each in the other order, after a warm-up. The limit is on wall seconds; CPU seconds, of the whole process, tell whether
others on the machine have spoilt them.
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import click
import sqlalchemy as sa

from lettingo_features.errors import LettingoError
from lettingo_features.generation.engine import Completion, content_id
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.runner import Runner, RunnerConfig
from lettingo_features.home import Home

EMBEDDED = Path(str(files("lettingo_features.profiles"))) / "embedded"
SERVICES = Path(__file__).resolve().parents[2] / "scripts" / "services"
BATCH = 4096
LIMIT_S, LIMIT_MB, LIMIT_OVERHEAD = 60, 1500, 1.05


@click.command()
@click.option("--calls", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--prompts", type=click.IntRange(1), default=2_048, show_default=True)
@click.option("--pairs", type=click.IntRange(1), default=3, show_default=True, help="Runs of each kind.")
@click.option("--postgres", help="URL of a server on which a database may be made.")
@click.option("--quick", is_flag=True, help="100,000 calls, 2,000 prompts.")
@click.option("--child", hidden=True, help="URL of the ledger to measure in this process.")
def main(calls: int, prompts: int, pairs: int, postgres: str | None, quick: bool, child: str | None) -> None:
    """Print all; exit status 1 where a limit is passed."""
    calls, prompts = (100_000, 2_000) if quick else (calls, prompts)
    if child:
        print(json.dumps(measure_ledger(child, calls)))
        return
    passed = [measured(url, calls) for url in urls(postgres)]
    own_cost()
    passed.append(overhead(prompts, pairs))
    if not all(passed):
        raise SystemExit(1)


@contextmanager
def sqlite_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        yield f"sqlite:///{directory}/ledger.db"


@contextmanager
def postgres_url(server: str) -> Iterator[str]:
    """URL of a fresh database on ``server``."""
    name = f"lettingo_bench_{uuid4().hex[:8]}"
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def urls(postgres: str | None) -> Iterator[Callable]:
    """Contexts that give a URL each."""
    yield sqlite_url
    if postgres is None:
        done = subprocess.run([SERVICES, "url", "postgres"], capture_output=True, text=True, check=False)
        postgres = done.stdout.strip()
    try:
        if postgres:
            sa.create_engine(sa.make_url(postgres).set(drivername="postgresql+psycopg")).connect().close()
            yield lambda: postgres_url(postgres)
            return
    except sa.exc.OperationalError:
        pass
    print("no PostgreSQL ('make services' starts one): its row is left out")


def measured(url: Callable, calls: int) -> bool:
    """Print the row of one database; whether it is within the limits."""
    with url() as name:
        command = [sys.executable, "-m", "tests.bench.bench_ledger", "--calls", str(calls), "--child", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LettingoError(done.stderr)
    seen = json.loads(done.stdout)
    total = seen["plan"] + seen["claim"]
    print(
        f"{name.partition(':')[0]:<20} {calls:>9,} calls: plan {seen['plan']:6.1f} s, claim {seen['claim']:6.1f} s, "
        f"both {total:6.1f} s (limit {LIMIT_S} for a million), peak {seen['peak_mb']:,.0f} MB (limit {LIMIT_MB:,})",
        flush=True,
    )
    return total <= LIMIT_S * max(1, calls / 1e6) and seen["peak_mb"] <= LIMIT_MB


def measure_ledger(url: str, calls: int) -> dict[str, float]:
    """Seconds of plan and claim, and this process's peak memory in MB."""
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(calls)]
    ledger = Ledger(url)
    ledger.enter("bench", "host", 1)
    started = time.perf_counter()
    ledger.plan(keys)
    planned = time.perf_counter()
    claimed = sum(len(ledger.claim(keys[start : start + BATCH], "bench", 3)) for start in range(0, calls, BATCH))
    ended = time.perf_counter()
    if claimed != calls:
        raise LettingoError(f"{claimed} of {calls} calls were claimed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"plan": planned - started, "claim": ended - planned, "peak_mb": peak}


def overhead(n_prompts: int, pairs: int) -> bool:
    """Print the ratio of the run through the ledger to the bare engine; whether it is within the limit."""
    from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
    from lettingo_features.profiles.corpus import held_out_summaries
    from lettingo_features.profiles.prompt import render

    engine = TransformersEngine(TransformersConfig(model=str(EMBEDDED), threads=1))
    prompts = [render(summary, "narrative") for summary in held_out_summaries(n_prompts, seed=5)]
    streams = [0] * len(prompts)

    def bare(n: int) -> None:
        list(engine.generate(prompts[:n], streams[:n]))

    def through_the_ledger(n: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            home = Home(directory)
            runner = Runner(engine, Ledger(home.ledger_url), home, RunnerConfig())
            runner.run(prompts[:n], streams[:n])

    seconds: dict[Callable[[int], None], list[tuple[float, float]]] = {bare: [], through_the_ledger: []}
    for kind in seconds:
        kind(128)  # warm: imports, first allocations
    for pair in range(pairs):
        for kind in (bare, through_the_ledger) if pair % 2 else (through_the_ledger, bare):
            wall, cpu = time.perf_counter(), time.process_time()
            kind(n_prompts)
            seconds[kind].append((time.perf_counter() - wall, time.process_time() - cpu))
    ratios = {
        clock: [ours[n] / theirs[n] for ours, theirs in zip(seconds[through_the_ledger], seconds[bare], strict=True)]
        for n, clock in enumerate(("wall", "CPU"))
    }
    for n, clock in enumerate(ratios):
        print(
            f"{n_prompts:,} prompts, embedded model, {clock} seconds: bare "
            f"{statistics.median(row[n] for row in seconds[bare]):.1f}, through the ledger "
            f"{statistics.median(row[n] for row in seconds[through_the_ledger]):.1f}, ratio "
            f"{statistics.median(ratios[clock]):.3f} (pairs: {', '.join(f'{one:.3f}' for one in ratios[clock])})"
        )
    return statistics.median(ratios["wall"]) <= LIMIT_OVERHEAD


class NullEngine:
    """Answers at once: what is left is the runner."""

    name = "null"
    identity = content_id("null")
    samples = False

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        for index in range(len(prompts)):
            yield index, Completion("x" * 400, n_tokens=80, n_prompt_tokens=90)


def own_cost(calls: int = 20_000) -> None:
    """Print what a call costs on an engine that costs nothing."""
    prompts = [f"{number} {'x' * 300}" for number in range(calls)]
    with tempfile.TemporaryDirectory() as directory:
        home = Home(directory)
        runner = Runner(NullEngine(), Ledger(home.ledger_url), home)
        wall, cpu = time.perf_counter(), time.process_time()
        runner.run(prompts, [0] * calls)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    each = f"{1e6 * cpu / calls:.0f} µs CPU and {1e6 * wall / calls:.0f} µs wall each"
    print(f"{calls:,} calls on an engine that answers at once: {each}", flush=True)


if __name__ == "__main__":
    main()
