"""Stores answers in a thread of its own, so that the engine never waits for a disk or a database."""

from __future__ import annotations

from threading import Event, Lock, Thread

from lettingo_features.errors import LedgerError
from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.presence import Presence
from lettingo_features.generation.results import ResultStore

_RESERVE_BYTES = 32 << 20  # left free on the disk, for the answers that are on their way when it fills


class ResultWriter:
    """Takes answers one by one, writes them as parts every few seconds or rows, and renews the runner's lease.

    Parameters
    ----------
    flush_s, flush_rows
        After so many seconds or rows a part is written: what a kill may cost at most.
    """

    def __init__(
        self, ledger: Ledger, results: ResultStore, presence: Presence, flush_s: float, flush_rows: int
    ) -> None:
        self._ledger = ledger
        self._results = results
        self._presence = presence
        self._flush_s = flush_s
        self._flush_rows = flush_rows
        self._waiting: list[tuple[str, Completion]] = []
        self._lock = Lock()  # of _waiting
        self._wake = Event()
        self._closed = False
        self._error: Exception | None = None
        self._thread = Thread(target=self._work, name="result-writer", daemon=True)
        self._thread.start()

    def put(self, key: str, completion: Completion) -> None:
        """Take the end of one call.

        Raises
        ------
        LedgerError
            Earlier answers could not be stored, or the disk is about to fill: stop asking for more.
        """
        with self._lock:
            self._waiting.append((key, completion))
            full = len(self._waiting) >= self._flush_rows
        if full:
            self._wake.set()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Store what is left; the thread ends.

        Raises
        ------
        LedgerError
            Something could not be stored.
        """
        self._closed = True
        self._wake.set()
        self._thread.join()
        try:
            self._flush()  # again if the thread failed: answers that are paid for get a second chance
        except Exception as error:
            self._presence.orderly = False
            self._error = self._error or error
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while not self._closed:
                self._wake.wait(self._flush_s)
                self._wake.clear()
                self._flush()
                self._presence.beat()
                self._check_room()
        except Exception as error:  # whatever it is, `put` raises it where the run is
            self._presence.orderly = False
            self._error = error

    def _flush(self) -> None:
        with self._lock:
            taken = list(self._waiting)
        answered = [row for row in taken if not row[1].error]
        failed = [row for row in taken if row[1].error]
        part = self._results.write(answered) if answered else None
        with self._lock:
            del self._waiting[: len(taken)]  # on disk now: even without the ledger the next start finds them
        if part is not None:
            self._ledger.add_part(part, answered)
        if failed:
            self._ledger.add_failures(self._presence.id, failed)
        self._presence.held.difference_update([key for key, _ in taken])

    def _check_room(self) -> None:
        free = self._results.free_bytes()
        if free < _RESERVE_BYTES:
            raise LedgerError(
                f"Only {free >> 20} MB are free under {self._results.directory}, too little to go on asking for "
                "answers; all that came are stored. Free space, then run again."
            )
