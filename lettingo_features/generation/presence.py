"""Who is at work on a home: each runner holds a locked file and renews a lease, so that a dead one's claims return.

On one host the kernel says at once who died: a file's lock goes with its process. Of other hosts only silence tells.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from uuid import uuid4

from lettingo_features.errors import LedgerError
from lettingo_features.generation.ledger import Ledger, RunnerState


class Presence:
    """A runner's stay, from ``with`` to its end.

    ::

        with Presence(ledger, home.runners, lease_s=300) as me:
            me.held.update(keys)  # first: a claim that is interrupted may have been made
            mine = ledger.claim(keys, me.id, max_attempts=3)

    Parameters
    ----------
    ledger
        Where it is entered.
    locks
        Directory of the lock files; all runners of one host share it.
    lease_s
        Silence after which a runner of another host counts as dead.
    """

    def __init__(self, ledger: Ledger, locks: Path, lease_s: float) -> None:
        self.id = uuid4().hex
        self.held: set[str] = set()
        """Keys that may have been claimed and that the ledger does not know as done or failed yet: note them before
        the claim. Others among them do no harm, for only this runner's claims are given back."""
        self.orderly = True
        """False once a part may be stored that the ledger does not know: then the claims must not simply return. They
        come back as those of a dead runner, whose parts are read first."""
        self._ledger = ledger
        self._locks = locks
        self._lease_s = lease_s
        self._lock = -1
        self._beaten_at = 0.0

    def __enter__(self) -> Presence:
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._lock_path(self.id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(
                f"No lock can be taken in {self._locks} ({error.strerror}), so a second runner could not tell that "
                "this one is alive. Free space or make the directory writable; on a network disk, turn on locks."
            ) from error
        try:
            self._ledger.enter(self.id, socket.gethostname(), os.getpid())
        except BaseException:
            self._unlock(forget=True)
            raise
        self._beaten_at = monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.orderly:
                self._ledger.leave(self.id, list(self.held))
        except LedgerError:
            self.orderly = False
            if error is None:  # else what stopped the run says more
                raise
        finally:
            self._unlock(forget=self.orderly)

    def beat(self) -> None:
        """Renew the lease if a quarter of it is over.

        Raises
        ------
        LedgerError
            Others gave this runner up for dead.
        """
        if monotonic() - self._beaten_at < self._lease_s / 4:
            return
        if not self._ledger.beat(self.id):
            raise LedgerError(
                f"This runner was silent for longer than its lease of {self._lease_s:g} s and others took its calls: "
                "its host or the database stood still. Run again; with a slow database, raise lease_s."
            )
        self._beaten_at = monotonic()

    def bury(self, dead: Sequence[RunnerState]) -> None:
        """Give the claims of dead runners back. NOTE: only after their unknown parts were adopted."""
        for runner in dead:
            self._ledger.leave(runner.id)
            with suppress(OSError):
                self._lock_path(runner.id).unlink()

    def dead(self) -> list[RunnerState]:
        """The runners that died."""
        return [runner for runner in self._ledger.runners() if runner.id != self.id and self._is_dead(runner)]

    def _is_dead(self, runner: RunnerState) -> bool:
        if runner.host == socket.gethostname():
            with suppress(FileNotFoundError):
                return _is_unlocked(self._lock_path(runner.id))
        return runner.silent_s > self._lease_s  # of another host, or of a namesake with other lock files

    def _lock_path(self, runner: str) -> Path:
        return self._locks / f"{runner}.lock"

    def _unlock(self, forget: bool) -> None:
        if forget:
            with suppress(OSError):
                self._lock_path(self.id).unlink()
        os.close(self._lock)


def _is_unlocked(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
