"""The ledger: one row per call of a model, so that no answer is paid for twice and none is lost.

A call is *planned*, *claimed* by one runner, then *done* (its answer lies in a part of `results.ResultStore`) or
*failed* (it may be claimed again). A claim lasts as long as its runner is entered: those of a runner that left or was
given up for dead count for nothing. A part is on disk before its calls are done here, and parts that the ledger does
not know are read back at the next start. So a kill loses only calls in flight, and a lost ledger loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from lettingo_features.generation.database import Database
from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ledger_tables import CLAIMED, DONE, FAILED, PLANNED, SCHEMA, calls, parts, runners

_AT_ONCE = 50_000  # keys per transaction: locks of a second at most, some MB of parameters
_RUNNER_GONE = (calls.c.status == CLAIMED) & ~sa.exists().where(runners.c.id == calls.c.runner)
_COUNTED = {"preserve_rowcount": True}  # of an INSERT, which else counts nothing


class Call(NamedTuple):
    """What the ledger knows of a call."""

    key: str
    status: str
    attempts: int
    part: str | None


@dataclass(frozen=True, slots=True)
class RunnerState:
    """A runner that runs, or that died."""

    id: str
    host: str
    pid: int
    silent_s: float
    """Since its latest heartbeat, by the database's clock."""


class Ledger:
    """The calls of all runners of one home.

    ::

        ledger = Ledger(home.ledger_url)
        ledger.plan(keys)
        mine = ledger.claim(keys[:4096], runner, max_attempts=3)

    Every method is one or a few short transactions and may be called from any thread.

    Parameters
    ----------
    url
        See `database.Database`. A ledger on a server belongs to one home that all runners reach: answers are files.
    timeout_s
        How long to wait for a connection and for another process's lock.

    Raises
    ------
    ConfigError
        The URL names no database that is known here.
    LedgerError
        By every method: the database is dead, locked, full or of a newer version; the message says which.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self._database = Database(url, SCHEMA, timeout_s)

    @classmethod
    def existing(cls, url: str, timeout_s: float = 30.0) -> Ledger | None:
        """The ledger at ``url`` if one was ever made there, for who only looks; None otherwise, and none is made."""
        database = Database(url, SCHEMA, timeout_s, create=False)
        found = database.exists()
        database.close()
        return cls(url, timeout_s) if found else None

    @property
    def name(self) -> str:
        """The URL without its secrets."""
        return self._database.name

    def plan(self, keys: Iterable[str]) -> int:
        """Add the calls that are not there yet; return how many."""
        added = 0
        for some in _blocks(keys):
            new = self._given(some)
            rows = sa.select(new.c.key).where(sa.true())  # without a WHERE, SQLite takes ON CONFLICT for a join's ON
            statement = self._database.insert(calls).from_select(["key"], rows, include_defaults=False)
            with self._database.writing() as connection:
                added += connection.execute(statement.on_conflict_do_nothing(), execution_options=_COUNTED).rowcount
        return added

    def look_up(self, keys: Iterable[str]) -> dict[str, Call]:
        """The calls among ``keys`` that the ledger has; one whose runner is gone is planned."""
        status = sa.case((_RUNNER_GONE, PLANNED), else_=calls.c.status)
        columns = [status if name == "status" else calls.c[name] for name in Call._fields]
        found: dict[str, Call] = {}
        for some in _blocks(keys):
            with self._database.reading() as connection:
                rows = connection.execute(sa.select(*columns).where(self._among(some)))
                found.update((row.key, Call(*row)) for row in rows)
        return found

    def claim(self, keys: Sequence[str], runner: str, max_attempts: int) -> list[str]:
        """Give ``runner``, which has entered, those of ``keys`` that are planned, that failed fewer than
        ``max_attempts`` times, or whose runner is gone.

        No call is ever given to two: SQLite admits one writer at a time, PostgreSQL skips rows that another locks. Each
        50,000 keys are a transaction: who is interrupted may have claims that it was not told of.
        """
        free = (calls.c.status == PLANNED) | ((calls.c.status == FAILED) & (calls.c.attempts < max_attempts))
        mine: set[str] = set()
        for some in _blocks(keys):
            with self._database.writing() as connection:
                mine.update(self._take(connection, some, free, runner))
                rest = [key for key in some if key not in mine]
                if rest:
                    # Who is gone, by a statement of its own: PostgreSQL would check a row that has just changed against
                    # its newest claim but the runners of an older snapshot, where one that entered since is not yet.
                    who = sa.select(calls.c.runner).distinct().where(self._among(rest), _RUNNER_GONE)
                    gone = connection.execute(who).scalars().all()  # for good: nobody enters twice
                    mine.update(self._take(connection, rest, calls.c.runner.in_(gone), runner) if gone else ())
        return [key for key in keys if key in mine]

    def add_part(self, part: str, answers: Iterable[tuple[str, Completion]]) -> None:
        """Mark the calls of ``part``, a stored part, as done; a call that is done already keeps its first part.

        The call may be anybody's or nobody's: an answer that is there is never asked for again.
        """
        rows = sorted((key, a.n_prompt_tokens, a.n_tokens, a.seconds, a.cost) for key, a in answers)
        names = ("key", "tokens_in", "tokens_out", "seconds", "cost")
        given = self._database.given(rows, **{name: calls.c[name].type for name in names})
        constants = {"status": sa.literal(DONE), "part": sa.literal(part), "attempts": sa.literal(1)}
        statement = self._database.insert(calls).from_select(
            [*names, *constants], sa.select(*given.c, *constants.values()).where(sa.true()), include_defaults=False
        )
        changed = {name: statement.excluded[name] for name in (*names[1:], "status", "part")}
        changed |= {"attempts": calls.c.attempts + 1, "runner": None, "error": None, "updated_at": sa.func.now()}
        statement = statement.on_conflict_do_update(
            index_elements=[calls.c.key], set_=changed, where=calls.c.status != DONE
        )
        known = self._database.insert(parts).values(name=part, n_rows=len(rows)).on_conflict_do_nothing()
        with self._database.writing() as connection:
            connection.execute(statement)
            connection.execute(known)

    def add_failures(self, runner: str, failures: Iterable[tuple[str, Completion]]) -> None:
        """Mark calls that ``runner`` has claimed as failed, with the class of error."""
        statement = (
            sa.update(calls)
            .where(calls.c.key == sa.bindparam("of"), calls.c.runner == runner, calls.c.status == CLAIMED)
            .values(
                status=FAILED,
                attempts=calls.c.attempts + 1,
                runner=None,
                error=sa.bindparam("why"),
                seconds=sa.bindparam("took"),
                updated_at=sa.func.now(),
            )
        )
        rows = [{"of": key, "why": failed.error, "took": failed.seconds} for key, failed in sorted(failures)]
        if rows:
            with self._database.writing() as connection:
                connection.execute(statement, rows)

    def part_names(self) -> set[str]:
        """The parts whose calls are done here."""
        with self._database.reading() as connection:
            return set(connection.execute(sa.select(parts.c.name)).scalars())

    def forget_part(self, part: str) -> int:
        """Plan the calls of a part anew, for one whose file is lost; return how many."""
        statement = (
            sa.update(calls)
            .where(calls.c.part == part)
            .values(status=PLANNED, part=None, attempts=0, updated_at=sa.func.now())
        )
        with self._database.writing() as connection:
            connection.execute(sa.delete(parts).where(parts.c.name == part))
            return connection.execute(statement).rowcount

    def counts(self) -> dict[str, int]:
        """Calls by status."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(calls.c.status, sa.func.count()).group_by(calls.c.status))
            return {status: n for status, n in rows}

    def enter(self, runner: str, host: str, pid: int) -> None:
        """Let others know of ``runner``."""
        with self._database.writing() as connection:
            connection.execute(sa.insert(runners).values(id=runner, host=host, pid=pid))

    def beat(self, runner: str) -> bool:
        """Renew the lease of ``runner``; False if others gave it up for dead and took its claims."""
        statement = sa.update(runners).where(runners.c.id == runner).values(heartbeat_at=sa.func.now())
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def leave(self, runner: str, claims: Sequence[str] | None = None) -> int:
        """Give the claims of ``runner`` back and forget it; return how many there were.

        ``claims`` has the keys that it may still hold; None, for one found dead, looks through the whole table.
        """
        held = (calls.c.status == CLAIMED) & (calls.c.runner == runner)
        returned = 0
        with self._database.writing() as connection:
            for some in [None] if claims is None else _blocks(claims):
                among = sa.true() if some is None else self._among(some)
                statement = sa.update(calls).where(held, among)
                statement = statement.values(status=PLANNED, runner=None, updated_at=sa.func.now())
                returned += connection.execute(statement).rowcount
            connection.execute(sa.delete(runners).where(runners.c.id == runner))
        return returned

    def runners(self) -> list[RunnerState]:
        """All that entered and did not leave."""
        columns = (runners.c.id, runners.c.host, runners.c.pid, runners.c.heartbeat_at)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*columns, sa.func.now().label("now"))).all()
        return [RunnerState(row.id, row.host, row.pid, (row.now - row.heartbeat_at).total_seconds()) for row in rows]

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _take(
        self, connection: sa.Connection, keys: list[str], free: sa.ColumnElement[bool], runner: str
    ) -> Iterable[str]:
        open_keys = sa.select(calls.c.key).where(self._among(keys), free).with_for_update(skip_locked=True)
        statement = (
            sa.update(calls)
            .where(calls.c.key.in_(open_keys))
            .values(status=CLAIMED, runner=runner, updated_at=sa.func.now())
            .returning(calls.c.key)
        )
        return connection.execute(statement).scalars()

    def _given(self, keys: list[str]) -> sa.Subquery:
        return self._database.given([(key,) for key in keys], key=calls.c.key.type)

    def _among(self, keys: list[str]) -> sa.ColumnElement[bool]:
        return calls.c.key.in_(sa.select(self._given(keys).c.key))


def _blocks(keys: Iterable[str]) -> Iterator[list[str]]:
    """``keys`` in blocks as they come, so that what is planned together lies together on disk, and sorted inside of a
    block: who locks rows in one order never waits in a circle."""
    ordered = list(keys)
    for start in range(0, len(ordered), _AT_ONCE):
        yield sorted(ordered[start : start + _AT_ONCE])
