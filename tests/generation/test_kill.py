"""``kill -9`` at any point: what was stored is never called again, and the next run ends where one run would have."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import sqlalchemy as sa

from lettingo_features.errors import LedgerError
from lettingo_features.generation.engine import call_key
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.results import ResultStore
from lettingo_features.generation.runner import Runner
from lettingo_features.home import Home
from tests.generation.counting_engine import CountingEngine, answer, calls_made
from tests.generation.killed_run import CONFIG, main

N = 400
PROMPTS, STREAMS = [f"p{number}" for number in range(N)], [0] * N
ANSWERS = [answer(prompt, 0) for prompt in PROMPTS]
SEEDS = [seed if seed < 3 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(20)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.txt"


def start(home: Home, url: str, log: Path, dies_before_the_ledger: bool = False) -> BaseProcess:
    processes = get_context("forkserver")  # a fork of a process that has imported all and opened nothing
    processes.set_forkserver_preload(["tests.generation.killed_run", "alembic.command"])
    running = processes.Event()
    process = processes.Process(target=main, args=(home.root, url, log, N, running, dies_before_the_ledger))
    process.start()
    assert running.wait(timeout=60)
    return process


def finish(home: Home, url: str, log: Path) -> Runner:
    runner = Runner(CountingEngine(log), Ledger(url), home, CONFIG)
    assert runner.run(PROMPTS, STREAMS) == ANSWERS
    return runner


def stored(home: Home, engine: CountingEngine) -> set[str]:
    """The "prompt/stream" whose answer lies in a part, whatever the ledger thinks."""
    store = ResultStore(home)
    keys = {key for part in store.names() for key in store.keys(part)}
    return {f"{prompt}/0" for prompt in PROMPTS if call_key(engine, prompt, 0) in keys}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_run_repeats_nothing_that_was_stored(home, ledger_url, log, seed):
    process = start(home, ledger_url, log)
    time.sleep(random.Random(seed).uniform(0, 0.7))  # 400 calls take about 0.6 s
    process.kill()
    process.join()
    kept, before = stored(home, CountingEngine(log)), calls_made(log)
    runner = finish(home, ledger_url, log)
    again = calls_made(log) - before
    assert not kept & set(again)
    assert set(again.values()) <= {1}
    assert runner.report.called == again.total() == N - len(kept)
    ledger = Ledger(ledger_url)
    assert ledger.counts() == {"done": N}
    assert ledger.runners() == [] and not list(home.runners.iterdir())


def test_killed_between_a_part_and_the_ledger_the_part_counts(home, ledger_url, log):
    process = start(home, ledger_url, log, dies_before_the_ledger=True)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept, before = stored(home, CountingEngine(log)), calls_made(log)
    assert Ledger(ledger_url).counts()["done"] < len(kept)
    finish(home, ledger_url, log)
    assert not kept & set(calls_made(log) - before)


def test_a_living_runner_takes_over_from_a_killed_one_at_once(home, ledger_url, log):
    first, second = start(home, ledger_url, log), start(home, ledger_url, log)
    time.sleep(0.2)
    first.kill()
    first.join()
    kept = stored(home, CountingEngine(log))
    before = calls_made(log)
    second.join(timeout=60)
    assert second.exitcode == 0
    assert not kept & set(calls_made(log) - before)
    assert finish(home, ledger_url, log).report.called == 0


def test_a_database_that_dies_amid_a_run_loses_nothing(home, postgres_database, log):
    url = sa.make_url(postgres_database)
    server = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def admit(connections: str) -> None:
        with server.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {connections}")
            victims = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(victims, {"name": url.database})

    def outcome(prompt: str) -> None:
        if prompt == PROMPTS[120]:
            admit("false")

    ledger = Ledger(postgres_database)
    runner = Runner(CountingEngine(log, pause_s=0.001, outcome=outcome), ledger, home, CONFIG)
    with pytest.raises(
        LedgerError, match=r"The ledger postgresql.*:\*\*\*@.* does not answer: .* Then run again"
    ) as error:
        runner.run(PROMPTS, STREAMS)
    assert url.password is None or url.password not in str(error.value)
    admit("true")
    before = calls_made(log)
    assert stored(home, CountingEngine(log)) == set(before)  # all that was answered is on disk, the ledger dead or not
    finish(home, postgres_database, log)
    assert set(calls_made(log).values()) == {1}


def test_a_database_file_that_is_damaged_amid_a_run_loses_nothing(home, log, tmp_path):
    url = home.ledger_url
    ledger = Ledger(url, timeout_s=1)

    def outcome(prompt: str) -> None:
        if prompt == PROMPTS[120]:
            ledger.close()
            for file in home.root.glob("ledger.db*"):  # the write-ahead log too: it may still have every page
                (damaged := tmp_path / "damaged").write_bytes(b"no database" * 1000)
                damaged.replace(file)

    runner = Runner(CountingEngine(log, pause_s=0.001, outcome=outcome), ledger, home, CONFIG)
    with pytest.raises(LedgerError, match=r"ledger.db does not answer: .*Move the file away"):
        runner.run(PROMPTS, STREAMS)
    for damaged in home.root.glob("ledger.db*"):
        damaged.unlink()
    assert stored(home, CountingEngine(log)) == set(calls_made(log))
    finish(home, url, log)
    assert set(calls_made(log).values()) == {1}
