"""What is known costs nothing; what fails may be tried again; a budget holds; two runners make each call once."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from lettingo_features.errors import LedgerError, ModelError
from lettingo_features.generation.engine import Completion, call_key
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.result_writer import ResultWriter
from lettingo_features.generation.results import ResultStore
from lettingo_features.generation.runner import Runner, RunnerConfig
from lettingo_features.generation.stop_signals import StopSignals
from lettingo_features.home import Home
from tests.generation.counting_engine import CountingEngine, answer, calls_made

PROMPTS = [f"prompt {n}" for n in range(10)]
STREAMS = list(range(10))
ANSWERS = [answer(prompt, stream) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.txt"


def runner(home: Home, url: str, engine: CountingEngine, **config) -> Runner:
    return Runner(engine, Ledger(url, timeout_s=2), home, RunnerConfig(**{"poll_s": 0.02, **config}))


def test_answers_come_in_order_and_a_second_run_makes_no_call(home, ledger_url, log):
    first = runner(home, ledger_url, CountingEngine(log), claim_size=4)
    assert first.run(PROMPTS, STREAMS) == ANSWERS
    assert (first.report.called, first.report.cached, first.report.tokens_out) == (10, 0, 30)

    second = runner(home, ledger_url, CountingEngine(log))
    assert second.run(PROMPTS, STREAMS) == ANSWERS
    assert (second.report.called, second.report.cached, second.report.tokens_out) == (0, 10, 0)
    assert set(calls_made(log).values()) == {1}


def test_one_changed_prompt_is_one_call(home, ledger_url, log):
    runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS)
    again = runner(home, ledger_url, CountingEngine(log))
    again.run(["changed", *PROMPTS[1:]], STREAMS)
    assert again.report.called == 1
    assert calls_made(log)["changed/0"] == 1


def test_equal_calls_of_one_run_are_one(home, ledger_url, log):
    one = runner(home, ledger_url, CountingEngine(log))
    assert one.run(["a", "b", "a"], [1, 1, 1]) == [answer("a", 1), answer("b", 1), answer("a", 1)]
    assert calls_made(log) == Counter({"a/1": 1, "b/1": 1})
    assert (one.report.asked, one.report.called, one.report.cached) == (3, 2, 1)


def test_another_engine_shares_nothing(home, ledger_url, log):
    runner(home, ledger_url, CountingEngine(log, identity="model 1")).run(PROMPTS, STREAMS)
    runner(home, ledger_url, CountingEngine(log, identity="model 2")).run(PROMPTS, STREAMS)
    assert set(calls_made(log).values()) == {2}


def test_no_prompts_are_no_work(home, ledger_url, log):
    assert runner(home, ledger_url, CountingEngine(log)).run([], []) == []


def test_progress_ends_at_the_number_of_calls(home, ledger_url, log):
    seen: list[tuple[int, int]] = []
    runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS, lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, 10) for n in range(10)]


def test_text_that_no_file_can_hold_is_made_writable(home, ledger_url, log):
    engine = CountingEngine(log, outcome=lambda prompt: Completion("half \ud83d of it", 3))
    (first,) = runner(home, ledger_url, engine).run(["a"], [0])
    (again,) = runner(home, ledger_url, engine).run(["a"], [0])
    assert first.text == again.text == "half ? of it"


def test_a_text_that_cannot_be_used_is_an_answer_and_not_asked_again(home, ledger_url, log):
    engine = CountingEngine(log, outcome=lambda prompt: Completion("", 96, problem="unfinished"))
    for expected in ({"unfinished": 1}, {}):
        one = runner(home, ledger_url, engine)
        assert [completion.problem for completion in one.run(["a"], [0])] == ["unfinished"]
        assert one.report.problems == expected
    assert calls_made(log) == Counter({"a/0": 1})


def test_a_call_that_fails_is_made_in_later_runs_up_to_the_limit(home, ledger_url, log):
    engine = CountingEngine(log, outcome=lambda prompt: Completion("", 0, error="timeout") if prompt == "bad" else None)
    seen = []
    for _ in range(4):
        one = runner(home, ledger_url, engine, max_attempts=3)
        good, bad = one.run(["good", "bad"], [0, 0])
        report = one.report
        seen.append((bad.error, bad.problem, report.called, report.failed, report.failed_before, report.cached))
        assert good.text == "0/doog" and report.problems == {}
        assert report.asked == report.called + report.failed_before + report.cached == 2
    assert seen == [
        ("timeout", "", 2, {"timeout": 1}, 0, 0),
        ("timeout", "", 1, {"timeout": 1}, 0, 1),
        ("timeout", "", 1, {"timeout": 1}, 0, 1),
        ("", "given_up", 0, {}, 1, 1),  # the caller falls back and need not ask again
    ]
    assert calls_made(log) == Counter({"good/0": 1, "bad/0": 3})


def test_a_call_that_failed_and_then_succeeds_stays(home, ledger_url, log):
    broken = CountingEngine(log, outcome=lambda prompt: Completion("", 0, error="http_500"))
    runner(home, ledger_url, broken).run(["a"], [0])
    assert runner(home, ledger_url, CountingEngine(log)).run(["a"], [0]) == [answer("a", 0)]
    assert Ledger(ledger_url).look_up([call_key(broken, "a", 0)]).popitem()[1].attempts == 2


@pytest.mark.parametrize(("budget", "made"), [(0.005, 32), (0.32, 32), (0.5, 50), (0.509, 50), (2.0, 100)])
def test_a_budget_stops_before_the_batch_that_would_pass_it(home, ledger_url, log, budget, made):
    prompts, streams = [f"p{n}" for n in range(100)], [0] * 100
    one = runner(home, ledger_url, CountingEngine(log, cost=0.01), budget_usd=budget, claim_size=40)
    completions = one.run(prompts, streams)
    assert [completion is not None for completion in completions] == [True] * made + [False] * (100 - made)
    assert one.report.cost_usd == pytest.approx(0.01 * made)
    assert (one.report.stopped, one.report.not_made) == (("budget" if made < 100 else ""), 100 - made)

    later = runner(home, ledger_url, CountingEngine(log, cost=0.01))
    assert None not in later.run(prompts, streams)
    assert later.report.called == 100 - made
    assert set(calls_made(log).values()) == {1}


def test_a_budget_holds_over_all_runs_of_a_runner(home, ledger_url, log):
    one = runner(home, ledger_url, CountingEngine(log, cost=0.01), budget_usd=0.5, claim_size=40)
    for start in range(0, 100, 20):
        one.run([f"p{n}" for n in range(start, start + 20)], [0] * 20)
    assert one.report.called == 50
    assert one.report.cost_usd == pytest.approx(0.5)


def test_an_engine_without_a_price_is_not_slowed_by_a_budget(home, ledger_url, log):
    engine = CountingEngine(log)
    runner(home, ledger_url, engine, budget_usd=1, claim_size=100).run([f"p{n}" for n in range(132)], [0] * 132)
    assert engine.batches == [32, 100]


def test_two_runners_at_once_make_each_call_once(home, ledger_url, log):
    prompts, streams = [f"p{n}" for n in range(200)], [0] * 200
    answers: dict[str, list] = {}
    runners = {
        name: runner(home, ledger_url, CountingEngine(log, pause_s=0.001), claim_size=10, flush_s=0.05)
        for name in ("one", "two")
    }
    threads = [
        threading.Thread(target=lambda name=name: answers.update({name: runners[name].run(prompts, streams)}))
        for name in runners
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers["one"] == answers["two"] == [answer(prompt, 0) for prompt in prompts]
    made = [one.report.called for one in runners.values()]
    assert sum(made) == 200 and min(made) > 0, made
    assert set(calls_made(log).values()) == {1}


def test_a_job_smaller_than_a_claim_is_shared(home, ledger_url, log):
    """The first runner answers nothing before the second has made a call: had it claimed all, both would wait."""
    second_calls, waited = threading.Event(), []
    first = CountingEngine(log, outcome=lambda prompt: waited.append(second_calls.wait(20)))
    second = CountingEngine(log, outcome=lambda prompt: second_calls.set())
    prompts, streams = [f"p{n}" for n in range(40)], [0] * 40
    begun = threading.Thread(target=runner(home, ledger_url, first, claim_floor=4).run, args=(prompts, streams))
    begun.start()
    while not first.batches:
        time.sleep(0.005)
    runner(home, ledger_url, second, claim_floor=4).run(prompts, streams)
    begun.join()
    assert all(waited) and set(calls_made(log).values()) == {1}
    assert first.batches[0] == 20 and second.batches[0] == 10  # half of what is left each time


@pytest.mark.parametrize(
    ("config", "batches"),
    [
        ({"claim_floor": 8}, [50, 25, 13, 8, 4]),  # 0
        ({"claim_floor": 8, "claim_size": 30}, [30, 30, 20, 10, 8, 2]),  # 1
        ({"claim_floor": 60}, [60, 40]),  # 2
        ({"claim_share": 1}, [100]),  # 3
    ],
)
def test_a_claim_takes_a_share_of_what_is_left(home, ledger_url, log, config, batches):
    engine = CountingEngine(log)
    runner(home, ledger_url, engine, **config).run([f"p{n}" for n in range(100)], [0] * 100)
    assert engine.batches == batches


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_keeps_what_was_answered_and_gives_the_rest_back(home, ledger_url, log, stop):
    def outcome(prompt: str) -> None:
        if prompt == PROMPTS[5]:  # the engine goes through a claim backwards: 9, 8, 7 and 6 are answered
            if stop is KeyboardInterrupt:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(stop):
        runner(home, ledger_url, CountingEngine(log, outcome=outcome)).run(PROMPTS, STREAMS)
    ledger = Ledger(ledger_url)
    assert ledger.counts() == {"done": 4, "planned": 6}
    assert ledger.runners() == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again = runner(home, ledger_url, CountingEngine(log))
    assert again.run(PROMPTS, STREAMS) == ANSWERS
    assert again.report.called == 6


class PaidEngine(CountingEngine):
    """Has answers that nobody took when it is told to stop, as a client of a server has."""

    def generate(self, prompts, streams):
        n_taken = 0
        try:
            for n_taken, prompt_and_stream in enumerate(zip(prompts, streams, strict=True)):
                yield n_taken, answer(*prompt_and_stream)
        except (KeyboardInterrupt, SystemExit):
            for n in range(n_taken + 1, 6):
                yield n, answer(prompts[n], streams[n])
            raise


@pytest.mark.parametrize(("owner", "step"), [(ResultWriter, "put"), (StopSignals, "held")], ids=["within", "before"])
@pytest.mark.parametrize(("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_what_is_paid_for_is_kept_whenever_a_signal_comes(
    listening, home, ledger_url, log, monkeypatch, number, stop, owner, step
):
    done, n_before = getattr(owner, step), iter(range(10))

    def interrupted(*args):
        if next(n_before) == 2:  # two are stored; the third is being stored, or in hand
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        return done(*args)

    monkeypatch.setattr(owner, step, interrupted)
    with pytest.raises(stop):
        runner(home, ledger_url, PaidEngine(log)).run(PROMPTS, STREAMS)
    assert Ledger(ledger_url).counts() == {"done": 6, "planned": 4}
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS) == ANSWERS
    assert sum(calls_made(log).values()) == 4


@pytest.mark.parametrize("n_claimed", [10, 4], ids=["in its commit", "after the first block"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, LedgerError])
def test_a_claim_that_was_made_and_interrupted_returns(home, ledger_url, log, stop, n_claimed):
    class Interrupted(Ledger):
        def claim(self, keys, runner, max_attempts):
            super().claim(keys[:n_claimed], runner, max_attempts)
            raise stop

    with pytest.raises(stop):
        Runner(CountingEngine(log), Interrupted(ledger_url), home).run(PROMPTS, STREAMS)
    ledger = Ledger(ledger_url)
    assert ledger.counts() == {"planned": 10}
    assert ledger.runners() == []


def test_claims_of_a_runner_that_is_gone_do_not_hold_a_run_up(home, ledger_url, log):
    ledger = Ledger(ledger_url)
    keys = [call_key(CountingEngine(log), prompt, stream) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]
    ledger.plan(keys)
    assert ledger.claim(keys[:7], "gone", 3) == keys[:7]
    assert runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS) == ANSWERS
    assert ledger.counts() == {"done": 10}


def test_a_runner_that_was_given_up_for_dead_claims_nothing_more(home, ledger_url, log):
    def outcome(prompt: str) -> None:
        if prompt == PROMPTS[0]:  # the last of the first claim: a long pause, in which others bury the runner
            time.sleep(0.05)
            for state in Ledger(ledger_url).runners():
                Ledger(ledger_url).leave(state.id)

    engine = CountingEngine(log, outcome=outcome)
    with pytest.raises(LedgerError, match="silent for longer than its lease"):
        runner(home, ledger_url, engine, claim_size=4, lease_s=0.04, flush_s=60).run(PROMPTS, STREAMS)
    assert engine.batches == [4]
    assert Ledger(ledger_url).counts() == {"done": 4, "planned": 6}


@pytest.mark.slow
def test_a_claim_of_hundreds_of_thousands_is_one_batch(home, ledger_url, log):
    prompts, streams = [f"p{n}" for n in range(200_000)], [0] * 200_000
    engine = CountingEngine(log)
    answers = runner(home, ledger_url, engine, claim_size=200_000, claim_share=1).run(prompts, streams)
    assert answers == [answer(prompt, 0) for prompt in prompts]
    assert engine.batches == [200_000]
    assert Ledger(ledger_url).counts() == {"done": 200_000}


def test_an_engine_that_swallows_a_call_is_told_so(home, ledger_url, log):
    class Forgetful(CountingEngine):
        def generate(self, prompts, streams):
            yield from list(super().generate(prompts, streams))[1:]

    with pytest.raises(ModelError, match="counting ended 9 of 10 calls"):
        runner(home, ledger_url, Forgetful(log)).run(PROMPTS, STREAMS)


def test_a_lost_ledger_is_rebuilt_from_the_answers(home, log):
    url = home.ledger_url
    runner(home, url, CountingEngine(log)).run(PROMPTS, STREAMS)
    for file in home.root.glob("ledger.db*"):
        file.unlink()
    again = runner(home, url, CountingEngine(log))
    assert again.run(PROMPTS, STREAMS) == ANSWERS
    assert again.report.called == 0


def test_a_lost_part_is_named_and_can_be_planned_anew(home, ledger_url, log):
    runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS)
    (part,) = ResultStore(home).names()
    (home.generation / f"{part}.parquet").unlink()
    with pytest.raises(LedgerError, match=rf"{part}.parquet cannot be read.*forget_part"):
        runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS)
    assert Ledger(ledger_url).forget_part(part) == 10
    assert runner(home, ledger_url, CountingEngine(log)).run(PROMPTS, STREAMS) == ANSWERS


def test_a_full_disk_stops_with_a_clear_error_and_the_next_run_goes_on(home, ledger_url, log, monkeypatch):
    calls = itertools.count(1)

    def fsync(descriptor: int) -> None:  # of the first part and its directory; then the disk is full
        if next(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    prompts, streams = [f"p{n}" for n in range(100)], [0] * 100
    with monkeypatch.context() as full:
        full.setattr("os.fsync", fsync)
        one = runner(home, ledger_url, CountingEngine(log, pause_s=0.002), flush_s=0.02, claim_size=20)
        with pytest.raises(LedgerError, match=r"cannot be stored in .*generation: No space left on device. Free space"):
            one.run(prompts, streams)
    assert not list(home.generation.glob(".*.tmp"))
    stored = Ledger(ledger_url).counts()["done"]
    assert stored > 0
    again = runner(home, ledger_url, CountingEngine(log))
    assert again.run(prompts, streams) == [answer(prompt, 0) for prompt in prompts]
    assert again.report.called == 100 - stored


def test_a_disk_that_is_almost_full_stops_the_run_with_nothing_lost(home, ledger_url, log, monkeypatch):
    monkeypatch.setattr(ResultStore, "free_bytes", lambda self: 5 << 20)
    engine = CountingEngine(log, pause_s=0.005)
    with pytest.raises(LedgerError, match=r"Only 5 MB are free under .*all that came are stored"):
        runner(home, ledger_url, engine, flush_s=0.02).run(PROMPTS * 10, [*range(100)])
    assert Ledger(ledger_url).counts()["done"] == calls_made(log).total() < 100


def test_a_runner_whose_lease_was_taken_stops(home, ledger_url, log):
    one = runner(home, ledger_url, CountingEngine(log, pause_s=0.01), lease_s=0.04, flush_s=0.02)
    taken = threading.Timer(0.1, lambda: [Ledger(ledger_url).leave(r.id) for r in Ledger(ledger_url).runners()])
    taken.start()
    with pytest.raises(LedgerError, match="silent for longer than its lease"):
        one.run([f"p{n}" for n in range(500)], [0] * 500)
    taken.join()
