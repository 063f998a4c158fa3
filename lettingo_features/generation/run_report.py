"""What a runner did, in numbers."""

from __future__ import annotations

from collections import Counter

from lettingo_features.config import Config
from lettingo_features.generation.engine import Completion


class RunReport(Config):
    """Numbers of all runs of one `runner.Runner`: asked = cached + called + failed_before + not_made."""

    asked: int = 0
    """Prompts that were handed in."""
    cached: int = 0
    """Answered without a call: known before, equal to another prompt of the run, or called by another runner."""
    called: int = 0
    """Calls that were made, failed ones included."""
    failed_before: int = 0
    """Given up: not called, because all their attempts had failed in earlier runs or in another runner. They come back
    with the problem "given_up", which `problems` does not count."""
    not_made: int = 0
    """Left out when the run stopped."""
    failed: dict[str, int] = {}
    """Calls of ours that failed, by class of error."""
    problems: dict[str, int] = {}
    """Calls of ours that were answered with a text that cannot be used, by class."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    """Wall time in `run`, waiting for other runners included."""
    stopped: str = ""
    """Why the latest run left calls out: "" or "budget"."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated per second of wall time."""
        return self.tokens_out / self.seconds if self.seconds else 0.0


class Tally:
    """Counts towards a `RunReport`."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.cost = 0.0
        self.seconds = 0.0
        self.stopped = ""

    def add_call(self, completion: Completion) -> None:
        """Count a call of ours."""
        self.sums["called"] += 1
        self.sums["tokens_in"] += completion.n_prompt_tokens
        self.sums["tokens_out"] += completion.n_tokens
        self.cost += completion.cost
        if completion.error:
            self.failed[completion.error] += 1
        elif completion.problem:
            self.problems[completion.problem] += 1

    @property
    def mean_cost(self) -> float | None:
        """USD per answered call; None before the first."""
        answered = self.sums["called"] - self.failed.total()
        return self.cost / answered if answered else None

    def report(self) -> RunReport:
        """All so far."""
        return RunReport(
            **self.sums,
            failed=dict(self.failed),
            problems=dict(self.problems),
            cost_usd=self.cost,
            seconds=self.seconds,
            stopped=self.stopped,
        )
