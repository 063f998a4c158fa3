"""SIGTERM and Ctrl-C end a run between two answers, never in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_DEFAULTS = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


class StopSignals:
    """In the block SIGTERM raises SystemExit(143) and SIGINT KeyboardInterrupt; `held` puts that off to its end.

    A signal for which the program has a handler of its own keeps it, and outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._holds = False
        self._told: int | None = None

    def __enter__(self) -> StopSignals:
        self._told = None
        if threading.current_thread() is threading.main_thread():
            for number, default in _DEFAULTS.items():
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal waits until the block has ended; a second one does not."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
        if self._told is not None:
            raise _exception(self._told)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holds and self._told is None:
            self._told = number
            return
        raise _exception(number)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
