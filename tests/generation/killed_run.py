"""``python -m tests.generation.killed_run HOME URL LOG N [die-before-ledger]``: a run for others to kill.

Makes N calls of 1 ms each on a `CountingEngine`. With the last argument it kills itself between the second part and its
entry in the ledger.
"""

from __future__ import annotations

import os
import signal
import sys
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


def main(home: str, url: str, log: str, n: str, die: str = "") -> None:
    ledger = DiesBeforeTheLedger(url) if die else Ledger(url)
    runner = Runner(CountingEngine(Path(log), pause_s=0.001), ledger, Home(home), CONFIG)
    print("running", flush=True)
    runner.run([f"p{number}" for number in range(int(n))], [0] * int(n))
    print(f"called {runner.report.called}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
