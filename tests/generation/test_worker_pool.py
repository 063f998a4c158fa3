"""Worker processes: the same texts as one engine, and none outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lettingo_features.generation import worker_pool
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.generation.worker_pool import WorkerPool
from lettingo_features.profiles.corpus import STYLES, held_out_summaries
from lettingo_features.profiles.local_model import embedded_model
from lettingo_features.profiles.prompt import render

pytestmark = pytest.mark.slow  # processes that import torch each
CONFIG = TransformersConfig(model=str(embedded_model()), threads=1, temperature=1.0, batch_size=16)
PROMPTS = [render(summary, STYLES[i % 4]) for i, summary in enumerate(held_out_summaries(48, 77))]


def test_workers_write_the_same_texts(monkeypatch) -> None:
    monkeypatch.setattr(worker_pool, "POOL_FROM", 1)
    pool, streams = WorkerPool(CONFIG, processes=2), list(range(100, 148))
    alone = TransformersEngine(CONFIG)
    pooled, single = (dict(engine.generate(PROMPTS, streams)) for engine in (pool, alone))
    assert {index: answer.text for index, answer in pooled.items()} == {
        index: answer.text for index, answer in single.items()
    }
    assert len(pool._executor._processes) == 2
    pool.close()


SCRIPT = """
import os, sys, time
from lettingo_features.generation import worker_pool
from tests.generation.test_worker_pool import CONFIG, PROMPTS

if __name__ == "__main__":
    worker_pool.POOL_FROM = 1
    pool = worker_pool.WorkerPool(CONFIG, processes=2)
    answers = pool.generate(PROMPTS * 20, list(range(len(PROMPTS) * 20)))
    next(answers)
    print(*pool._executor._processes, flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes are there")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(is_running(pid) for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if is_running(pid)]
