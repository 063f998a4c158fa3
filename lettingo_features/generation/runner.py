"""Runs calls on an engine through the ledger: what is known costs nothing, what is paid for is kept.

A claim of some thousand calls goes to the engine as a whole, which may answer in its own best order; a thread stores
the answers meanwhile. Any number of runners, on any number of machines, may be given the same prompts at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import ModelError
from lettingo_features.generation.engine import Completion, Engine, call_key
from lettingo_features.generation.ledger import Call, Ledger
from lettingo_features.generation.ledger_tables import CLAIMED, DONE, FAILED
from lettingo_features.generation.presence import Presence
from lettingo_features.generation.result_writer import ResultWriter
from lettingo_features.generation.results import ResultStore
from lettingo_features.generation.run_report import RunReport, Tally
from lettingo_features.generation.stop_signals import StopSignals
from lettingo_features.home import Home

_FIRST_BATCH = 32  # calls that find out what a call costs, before a budget can say how many it has room for
_GIVEN_UP = Completion("", 0, problem="given_up")


class RunnerConfig(Config):
    """How calls are claimed and kept."""

    budget_usd: float | None = Field(default=None, gt=0)
    """All calls of this runner may cost so much; None for no limit. It may be passed by one batch at most: batches
    shrink to what is left by the mean cost so far."""
    claim_size: int = Field(default=4096, ge=1)
    """Calls handed to the engine at once, at most. An engine that sorts by length wants thousands, one that keeps a
    fixed number of requests open wants many times that number: at the end of each claim it runs empty once."""
    claim_share: float = Field(default=0.5, gt=0, le=1)
    """Share of what is left that one claim takes at most, so that two runners share a small job and end together. 1
    where a claim costs much and a second runner is rare."""
    claim_floor: int = Field(default=512, ge=1)
    """Calls that a claim takes whatever the share: what fills the engine once."""
    flush_s: float = Field(default=5.0, gt=0)
    """Seconds after which answers are written, at the latest; a kill loses what came since."""
    flush_rows: int = Field(default=2048, ge=1)
    """Answers after which they are written, at the latest."""
    lease_s: float = Field(default=300.0, gt=0)
    """Silence after which the claims of another host's runner come back; on one host they come back at once."""
    max_attempts: int = Field(default=3, ge=1)
    """Runs in which one call may fail before it is given up. An engine's own retries within a run count for nothing."""
    poll_s: float = Field(default=1.0, gt=0)
    """Between two looks at calls that another runner has claimed."""


class Runner:
    """Answers prompts, each distinct call once and for ever.

    ::

        ledger = Ledger(home.ledger_url)
        runner = Runner(engine, ledger, home, RunnerConfig(budget_usd=20))
        completions = runner.run(prompts, streams)
        print(runner.report.cost_usd)

    Parameters
    ----------
    home
        Where answers and lock files are; all runners of one ledger share it.
    """

    def __init__(self, engine: Engine, ledger: Ledger, home: Home, config: RunnerConfig | None = None) -> None:
        self.config = config or RunnerConfig()
        self._engine = engine
        self._ledger = ledger
        self._home = home
        self._results = ResultStore(home)
        self._tally = Tally()
        self._signals = StopSignals()

    @property
    def report(self) -> RunReport:
        """What all runs so far did."""
        return self._tally.report()

    def run(
        self, prompts: Sequence[str], streams: Sequence[int], progress: Callable[[int, int], None] | None = None
    ) -> list[Completion | None]:
        """Answer each prompt, in their order.

        Equal calls are made once. Waits for calls that another live runner has claimed, and takes over those of a dead
        one. SIGTERM and Ctrl-C store what was answered and give claims back before they end the run.

        Parameters
        ----------
        streams
            Seed of each prompt's random numbers, see `Engine.generate`.
        progress
            Is given (calls settled, calls in all), equal ones counted once.

        Returns
        -------
        list of (Completion or None)
            None where the run stopped before the call (`RunReport.stopped`). A call that failed in this run is a
            completion with an ``error``; a later run makes it again, up to `RunnerConfig.max_attempts`. After that it
            is given up: a completion with the problem "given_up" and no ``error``.

        Raises
        ------
        LedgerError
            Ledger or disk failed. All that was answered is stored, or the message says how much is not.
        ModelError, ConfigError
            The engine cannot answer any call.
        """
        started = time.monotonic()
        keys = [call_key(self._engine, prompt, stream) for prompt, stream in zip(prompts, streams, strict=True)]
        job = _Job({key: call for key, call in zip(keys, zip(prompts, streams, strict=True), strict=True)}, progress)
        called_before, self._tally.stopped = self._tally.sums["called"], ""
        try:
            with self._signals, Presence(self._ledger, self._home.runners, self.config.lease_s) as me:
                self._settle_all(job, me)
        finally:
            self._tally.seconds += time.monotonic() - started
            called = self._tally.sums["called"] - called_before
            self._count(keys, job, called)
        return [job.settled.get(key) for key in keys]

    def _settle_all(self, job: _Job, me: Presence) -> None:
        while True:
            self._take_over(me)
            free, held_by_others = self._look_up(job)
            if self._tally.stopped or not (free or held_by_others):
                return
            if free:
                self._make(free, job, me)
            else:
                me.beat()
                time.sleep(self.config.poll_s)

    def _take_over(self, me: Presence) -> None:
        """Adopt parts that a killed runner left unknown, then give its claims back: in this order, for what it had
        stored must not be called again."""
        dead = me.dead()
        self._results.adopt_into(self._ledger)
        me.bury(dead)

    def _look_up(self, job: _Job) -> tuple[list[str], int]:
        """Settle what the ledger knows; return the keys that may be claimed and the number that others have."""
        known = self._ledger.look_up(job.open_keys())
        done = {key: call.part for key, call in known.items() if call.status == DONE}
        job.settle(self._results.get(done))
        given_up = {key: _GIVEN_UP for key, call in known.items() if self._is_given_up(call)}
        job.settle(given_up)
        job.n_given_up += len(given_up)
        claimed = {key for key, call in known.items() if call.status == CLAIMED}
        return [key for key in job.open_keys() if key not in claimed], len(claimed)

    def _is_given_up(self, call: Call) -> bool:
        return call.status == FAILED and call.attempts >= self.config.max_attempts

    def _make(self, free: list[str], job: _Job, me: Presence) -> None:
        """Call what can be claimed of ``free``, batch by batch."""
        self._ledger.plan(free)
        writer = ResultWriter(self._ledger, self._results, me, self.config.flush_s, self.config.flush_rows)
        with closing(writer):
            position = 0
            while position < len(free):
                size = self._affordable(len(free) - position)
                if not size:
                    self._tally.stopped = "budget"
                    return
                some = free[position : position + size]
                position += size
                me.beat()  # who stood still for longer than its lease must not claim again
                me.held.update(some)  # before the claim: it may be made and yet interrupted
                mine = self._ledger.claim(some, me.id, self.config.max_attempts)
                me.held.difference_update(set(some).difference(mine))
                if mine:
                    self._call(mine, job, writer)

    def _affordable(self, n_left: int) -> int:
        """Calls of the next claim, of ``n_left`` that may be free: a share of them, and no more than what is left of
        the budget has room for."""
        c = self.config
        budget, size = c.budget_usd, min(c.claim_size, max(c.claim_floor, math.ceil(c.claim_share * n_left)))
        if budget is None:
            return size
        left, mean = budget - self._tally.cost, self._tally.mean_cost
        if left <= 0:
            return 0
        if mean is None:
            return min(size, _FIRST_BATCH)
        return min(size, int(left / mean + 1e-6)) if mean > 0 else size

    def _call(self, keys: list[str], job: _Job, writer: ResultWriter) -> None:
        prompts, streams = zip(*(job.calls[key] for key in keys), strict=True)
        answers = self._engine.generate(list(prompts), list(streams))
        n_answered = 0
        in_hand: tuple[int, Completion] | None = None  # came, and not stored: a signal may be heard before `held` is in

        def store(index: int, answer: Completion) -> None:
            completion = _storable(answer)
            self._tally.add_call(completion)
            writer.put(keys[index], completion)
            job.settle({keys[index]: completion})

        try:
            for in_hand in answers:
                with self._signals.held():
                    (index, answer), in_hand = in_hand, None
                    store(index, answer)
                n_answered += 1
        except (KeyboardInterrupt, SystemExit) as told:
            if in_hand is not None:
                store(*in_hand)
            for index, answer in _last_answers(answers, told):
                store(index, answer)
            raise
        finally:
            if isinstance(answers, Generator):
                answers.close()  # at once: requests that are still open would go on costing
        if n_answered != len(keys):
            raise ModelError(
                f"{self._engine.name} ended {n_answered} of {len(keys)} calls: an engine must end each once, with an "
                "error if need be."
            )

    def _count(self, keys: Sequence[str], job: _Job, called: int) -> None:
        sums = self._tally.sums
        not_made = sum(key not in job.settled for key in keys)
        sums["asked"] += len(keys)
        sums["not_made"] += not_made
        sums["failed_before"] += job.n_given_up
        sums["cached"] += len(keys) - called - not_made - job.n_given_up


class _Job:
    """The calls of one run and those that are settled."""

    def __init__(self, calls: dict[str, tuple[str, int]], progress: Callable[[int, int], None] | None) -> None:
        self.calls = calls
        """(prompt, stream) by key."""
        self.settled: dict[str, Completion] = {}
        self.n_given_up = 0
        self._progress = progress

    def open_keys(self) -> list[str]:
        return [key for key in self.calls if key not in self.settled]

    def settle(self, completions: dict[str, Completion]) -> None:
        before = len(self.settled)
        self.settled.update(completions)
        if self._progress and len(self.settled) > before:
            self._progress(len(self.settled), len(self.calls))


def _last_answers(answers: Iterator[tuple[int, Completion]], told: BaseException) -> Iterator[tuple[int, Completion]]:
    """What an engine that is told to stop has, and has not handed over yet (`Engine.generate`)."""
    if not isinstance(answers, Generator):
        return
    try:
        yield answers.throw(told)
        yield from answers
    except (type(told), StopIteration):
        return


def _storable(completion: Completion) -> Completion:
    """``completion`` with a text that UTF-8 can write: half a surrogate pair, cut by a server, becomes "?"."""
    try:
        completion.text.encode()
    except UnicodeEncodeError:
        return replace(completion, text=completion.text.encode(errors="replace").decode())
    return completion
