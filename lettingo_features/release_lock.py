"""Who may promote: one promotion at a time, on one host and on several; a dead one is taken over.

On one host the kernel says at once who died: a file's lock goes with its process. Of other hosts only silence tells,
so the holder renews a row of the database while it works.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from lettingo_features.alignment.database_tables import promoters
from lettingo_features.errors import DatabaseError, ReleaseError
from lettingo_features.generation.database import Database

LEASE_S = 120.0
"""Silence after which a promotion on another host counts as dead."""
_SIGNS_S = 3.0  # in which whoever has just locked the file has entered its row


@contextmanager
def promotion_lock(
    database: Database, lock_file: Path, release: str, who: str, lease_s: float = LEASE_S
) -> Iterator[str]:
    """Hold the right to promote until the block ends; yields the id that the registry asks for.

    Raises
    ------
    ReleaseError
        Another holds it; the message says who.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReleaseError(_taken(database)) from None
        promoter = uuid4().hex
        _enter(database, promoter, release, who, str(lock_file.resolve()), lease_s)
        over = threading.Event()
        beating = threading.Thread(target=_beat, args=(database, promoter, over, lease_s / 4), daemon=True)
        beating.start()
        try:
            yield promoter
        finally:
            over.set()
            beating.join()
            with suppress(DatabaseError), database.writing() as connection:  # what stays behind is found dead
                connection.execute(sa.delete(promoters).where(promoters.c.id == promoter))


def require_promoter(connection: sa.Connection, promoter: str) -> None:
    """Raise a ReleaseError unless ``promoter`` still holds the right to promote; its row is locked until the commit."""
    if not _renew(connection, promoter):
        raise ReleaseError(
            "This promotion was silent for longer than its lease and another took over: nothing more is changed from "
            "here. See who with: lettingo release list"
        )


def current_promoter(database: Database) -> str | None:
    """Who promotes what, for people; None where nobody does. The holder may have died."""
    columns = (promoters, sa.func.now().label("now"))
    with database.reading() as connection:
        row = connection.execute(sa.select(*columns)).one_or_none()
    if row is None:
        return None
    silent = (row.now - row.heartbeat_at).total_seconds()
    return (
        f"{row.release} by {row.who} (process {row.pid} on {row.host}, since {row.started_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"last sign {silent:.0f} s ago)"
    )


def _enter(database: Database, promoter: str, release: str, who: str, lock_file: str, lease_s: float) -> None:
    host = socket.gethostname()
    row = {"slot": 1, "id": promoter, "release": release, "who": who, "lock_file": lock_file}
    with database.writing() as connection:
        found = connection.execute(sa.select(promoters, sa.func.now().label("now"))).one_or_none()
        # Whoever held this very file is dead, or it would not be ours.
        if found is not None and (
            (found.host, found.lock_file) == (host, lock_file)
            or (found.now - found.heartbeat_at).total_seconds() > lease_s
        ):
            connection.execute(sa.delete(promoters).where(promoters.c.id == found.id))
        insert = database.insert(promoters).values(**row, host=host, pid=os.getpid())
        entered = connection.execute(insert.on_conflict_do_nothing().returning(promoters.c.id)).scalar() is not None
    if not entered:
        raise ReleaseError(_taken(database))


def _beat(database: Database, promoter: str, over: threading.Event, every_s: float) -> None:
    while not over.wait(every_s):
        with suppress(DatabaseError), database.writing() as connection:  # the next step notices what lasts
            _renew(connection, promoter)


def _renew(connection: sa.Connection, promoter: str) -> bool:
    mine = sa.update(promoters).where(promoters.c.id == promoter).values(heartbeat_at=sa.func.now())
    return connection.execute(mine).rowcount == 1


def _taken(database: Database) -> str:
    until = time.monotonic() + _SIGNS_S
    while (holder := current_promoter(database)) is None and time.monotonic() < until:
        time.sleep(0.05)
    holder = holder or "a process that started this moment"
    return f"Another promotion is under way: {holder}. One runs at a time: wait until it ends, then run this again."
