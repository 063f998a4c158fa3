"""A run in a process of its own, for others to kill."""

from __future__ import annotations

import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.runner import Runner, RunnerConfig
from lettingo_features.home import Home
from tests.generation.counting_engine import CountingEngine

CONFIG = RunnerConfig(claim_size=50, flush_s=0.02, flush_rows=30, poll_s=0.02)


class DiesBeforeTheLedger(Ledger):
    n_parts = 0

    def add_part(self, part, answers):
        self.n_parts += 1
        if self.n_parts == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        super().add_part(part, answers)


def main(home: Path, url: str, log: Path, n: int, running: Event, dies_before_the_ledger: bool) -> None:
    """Make ``n`` calls of 1 ms each; kill itself between the second part and its entry in the ledger if told so."""
    ledger = DiesBeforeTheLedger(url) if dies_before_the_ledger else Ledger(url)
    runner = Runner(CountingEngine(log, pause_s=0.001), ledger, Home(home), CONFIG)
    running.set()
    runner.run([f"p{number}" for number in range(n)], [0] * n)
