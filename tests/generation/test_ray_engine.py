"""Ray on this machine with two actors: the same texts and keys, dead actors, broken blocks, a driver that is slow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lettingo_features.errors import ConfigError, ModelError
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.ray_engine import RayConfig, RayEngine, Worker, blocks, through_actors
from lettingo_features.generation.runner import Runner
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.home import Home
from lettingo_features.profiles.corpus import STYLES, held_out_summaries
from lettingo_features.profiles.local_model import embedded_model
from lettingo_features.profiles.prompt import render
from tests.generation import ray_actors

MODEL = TransformersConfig(model=str(embedded_model()), temperature=1.0, threads=1)
PROMPTS = [render(summary, STYLES[i % 4]) for i, summary in enumerate(held_out_summaries(96, 77))]
STREAMS = list(range(96))


@pytest.fixture(scope="module")
def ray() -> Iterator:
    """A Ray of two CPUs, started once for the tests that need one."""
    ray = pytest.importorskip("ray", reason="extra 'scale' is not installed")
    pytest.importorskip("ray.data", reason="extra 'scale' is not installed")
    before = signal.getsignal(signal.SIGTERM)
    engine = RayEngine(MODEL, RayConfig(workers=2))
    assert not ray.is_initialized()  # who only counts starts no Ray
    engine.connect()
    assert signal.getsignal(signal.SIGTERM) == before  # Ray's own would end a run before it can store its answers
    yield ray
    engine.close()
    assert not ray.is_initialized()  # who started it stops it


def numbered(n: int) -> list[pa.Table]:
    return [pa.table({"block": [number]}) for number in range(n)]


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.parametrize(("n", "size", "sizes"), [(96, 40, [40, 40, 16]), (96, 500, [96]), (1, 1, [1])])
def test_blocks_hold_each_prompt_once_with_its_stream_and_the_longest_first(n: int, size: int, sizes: list[int]):
    made = blocks(PROMPTS[:n], STREAMS[:n], size)
    assert [table.num_rows for table in made] == sizes
    whole = pa.concat_tables(made).to_pylist()
    assert sorted(row["index"] for row in whole) == list(range(n))
    assert all(row["prompt"] == PROMPTS[row["index"]] and row["stream"] == STREAMS[row["index"]] for row in whole)
    lengths = [len(row["prompt"]) for row in whole]
    assert lengths == sorted(lengths, reverse=True)


def test_an_actor_answers_its_block_and_hands_over_what_stops_all_calls():
    worker = Worker(MODEL, cpus=1)
    (block,) = blocks(PROMPTS[:3], STREAMS[:3], 8)
    alone = dict(TransformersEngine(MODEL).generate(PROMPTS[:3], STREAMS[:3]))
    assert {row["index"]: row["text"] for row in worker(block).to_pylist()} == {i: c.text for i, c in alone.items()}
    (too_long,) = blocks(["word " * 600], [0], 8)
    (row,) = worker(too_long).to_pylist()
    assert row["index"] == -1
    assert "exceed the 512 positions" in row["text"]


@pytest.mark.slow
def test_a_killed_actor_loses_nothing_and_one_machine_knows_the_same_keys(ray, tmp_path: Path):
    engine = RayEngine(MODEL, RayConfig(workers=2, block_rows=8))
    alone = TransformersEngine(MODEL)
    assert (engine.identity, engine.prompt_budget) == (alone.identity, alone.prompt_budget)
    assert engine.n_tokens(PROMPTS) == alone.n_tokens(PROMPTS)
    home, killed = Home(tmp_path), []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            killed.append(ray_actors.pids(os.getpid())[0])
            os.kill(killed[0], 9)

    ledger = Ledger(home.ledger_url)
    runner = Runner(engine, ledger, home)
    answers = runner.run(PROMPTS, STREAMS, kill_one)
    assert killed and not Path(f"/proc/{killed[0]}").exists()
    wanted = dict(alone.generate(PROMPTS, STREAMS))
    assert [answer.text for answer in answers] == [wanted[index].text for index in range(len(PROMPTS))]
    assert (runner.report.called, runner.report.failed) == (len(PROMPTS), {})
    again = Runner(alone, ledger, home)
    assert [answer.text for answer in again.run(PROMPTS, STREAMS)] == [answer.text for answer in answers]
    assert (again.report.called, again.report.cached) == (0, len(PROMPTS))


@pytest.mark.slow
def test_a_block_that_kills_its_actor_is_done_again_and_read_once(ray, tmp_path: Path):
    done = through_actors(numbered(8), ray_actors.DiesOnce, (tmp_path / "log",), RayConfig(workers=2))
    assert sorted(table["block"][0].as_py() for table in done) == list(range(8))
    assert (tmp_path / "log.died").exists()


@pytest.mark.slow
def test_an_engine_that_broke_is_loaded_anew_and_costs_one_block(ray, tmp_path: Path):
    log, prompts = tmp_path / "log", [f"p{number}" for number in range(6)]
    prompts[2] = "bad"
    done = list(through_actors(blocks(prompts, [0] * 6, 1), ray_actors.Breaks, (log,), RayConfig(workers=1)))
    assert sorted(table["index"][0].as_py() for table in done) == [0, 1, 3, 4, 5]
    assert {table["text"][0].as_py() for table in done} == {"P0", "P1", "P3", "P4", "P5"}
    assert lines(log) == ["loaded", "loaded"]


@pytest.mark.slow
def test_no_more_is_begun_than_the_buffer_holds_while_the_driver_reads_nothing(ray, tmp_path: Path):
    log, megabyte, n = tmp_path / "log", 2**20, 60
    done = through_actors(numbered(n), ray_actors.Logs, (log, megabyte), RayConfig(workers=2, buffer_mb=4))
    next(done)
    time.sleep(5)
    assert len(lines(log)) < n / 4
    assert sum(1 for _ in done) == n - 1
    assert sorted(map(int, lines(log))) == list(range(n))


@pytest.mark.slow
def test_engines_that_cannot_start_and_calls_that_cannot_be_made_end_the_run(ray):
    with pytest.raises(ModelError, match=r"None of 2 actors .* no such directory: models/lost"):
        list(through_actors(numbered(2), ray_actors.CannotStart, (), RayConfig(workers=2)))
    with pytest.raises(ModelError, match="exceed the 512 positions"):
        list(RayEngine(MODEL, RayConfig(workers=1)).generate(["word " * 600], [0]))


@pytest.mark.slow  # the import of ray.data
def test_an_absent_cluster_is_named():
    pytest.importorskip("ray.data", reason="extra 'scale' is not installed")
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at '127.0.0.1:1'"):
        list(RayEngine(MODEL, RayConfig(workers=1, address="127.0.0.1:1")).generate(["history:"], [0]))
