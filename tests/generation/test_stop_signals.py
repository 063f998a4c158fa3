"""A signal waits for the end of what is held; a second one does not; a program's own handler stays."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from lettingo_features.generation.stop_signals import StopSignals

pytestmark = pytest.mark.usefixtures("listening")
RAISED = [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]


@pytest.mark.parametrize(("number", "raised"), RAISED)
def test_a_signal_raises_at_once_or_at_the_end_of_what_is_held(number, raised):
    done = []
    with pytest.raises(raised), StopSignals():
        os.kill(os.getpid(), number)
        done.append("after")
    with pytest.raises(raised), StopSignals() as signals:
        with signals.held():
            os.kill(os.getpid(), number)
            done.append("held")
        done.append("after")
    assert done == ["held"]
    with StopSignals() as signals, signals.held():
        done.append("again")
    assert done == ["held", "again"]


@pytest.mark.parametrize(("number", "raised"), RAISED)
def test_a_second_signal_waits_for_nothing(number, raised):
    done = []
    with pytest.raises(raised), StopSignals() as signals, signals.held():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("one")
        os.kill(os.getpid(), number)
        done.append("two")
    assert done == ["one"]


def test_handlers_are_as_before_and_a_programs_own_is_kept():
    heard = []

    def own(number, frame):
        heard.append(number)

    signal.signal(signal.SIGTERM, own)
    try:
        with StopSignals() as signals, signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def look():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a shell put in the background
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
