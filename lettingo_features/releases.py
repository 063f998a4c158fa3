"""The registry of generator releases: their states, the champion, and every flip from one to the next.

::

    candidate ──promote──► promoting ──flip──► champion ──next flip, rollback──► retired ──promote──► promoting
        │                      └─abandon─► abandoned (retired, if it was champion before)
        └─gate says reject─► rejected

One database, SQLite or PostgreSQL, holds the truth; `champion` publishes it for the feature repository.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from lettingo_features.alignment.database_tables import (
    ABANDONED,
    CANDIDATE,
    CHAMPION,
    PROMOTING,
    REJECTED,
    RETIRED,
    SCHEMA,
    release_flips,
    release_steps,
    releases,
)
from lettingo_features.champion import ALIAS, FIRST_CHAMPION, Served
from lettingo_features.errors import ReleaseError
from lettingo_features.generation.database import Database
from lettingo_features.release_lock import require_promoter
from lettingo_features.release_records import (
    ADOPTED,
    HOLD,
    PROMOTE,
    PROMOTED,
    REJECT,
    ROLLED_BACK,
    Flip,
    GeneratorRelease,
    Plan,
    as_flip,
    as_release,
)

IDENTITY = ("revision", "adapter", "prompt", "settings")
"""Columns that may not change once they are known: a version is a name. They hold contents; where those lie is the
column ``model`` and, of ``settings``, `FILES`: a directory may move."""
FILES = "files"
"""Field of ``settings`` that names directories; no part of the identity."""


class ReleaseRegistry:
    """Every method is one transaction; what changes a state is conditional on the state it was decided on."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, SCHEMA)

    def close(self) -> None:
        self.database.close()

    def all(self) -> list[GeneratorRelease]:
        """Every release, oldest first."""
        with self.database.reading() as connection:
            return [
                as_release(row)
                for row in connection.execute(sa.select(releases).order_by(releases.c.created_at, releases.c.name))
            ]

    def get(self, name: str) -> GeneratorRelease:
        """Raises ReleaseError for an unknown name."""
        with self.database.reading() as connection:
            return _get(connection, name)

    def champion(self) -> GeneratorRelease | None:
        with self.database.reading() as connection:
            return _champion(connection)

    def history(self) -> list[Flip]:
        """Every flip, oldest first."""
        with self.database.reading() as connection:
            return [as_flip(row) for row in connection.execute(sa.select(release_flips).order_by(release_flips.c.id))]

    def steps(self, name: str) -> dict[str, dict[str, Any]]:
        """The finished steps of the promotion under way or done last, with their facts."""
        query = sa.select(release_steps).where(release_steps.c.release == name)
        with self.database.reading() as connection:
            return {row.step: json.loads(row.facts) for row in connection.execute(query)}

    def register(
        self,
        name: str,
        identity: dict[str, Any],
        writer: dict[str, Any],
        who: str,
        parent: str | None = None,
        verdict: dict[str, Any] | None = None,
    ) -> GeneratorRelease:
        """Add a candidate, or require that the name stands for the same generator; keep ``verdict`` where one is given.

        Parameters
        ----------
        identity
            Values of `IDENTITY` and of the column ``model``.
        writer
            How to write with it from here on: may change, as a server may move.
        verdict
            Of the gate, with ``decision``: promote, hold or reject. A later one replaces it while the release is
            neither champion nor on its way.

        Raises
        ------
        ReleaseError
            The name is taken by another generator or reserved, or the verdict says none of the three.
        """
        _require_usable(name, verdict)
        told = {key: _dumped(identity.get(key)) for key in ("model", *IDENTITY)}
        with self.database.writing() as connection:
            known = connection.execute(sa.select(releases).where(releases.c.name == name)).one_or_none()
            if known is None:
                values = {"name": name, "state": CANDIDATE, "parent": parent, "created_by": who}
                connection.execute(sa.insert(releases).values(**values))
            elif known.settings is not None:  # else it was adopted: what it is has not been told yet
                changed = sorted(key for key in IDENTITY if _differs(key, getattr(known, key), told[key]))
                if changed:
                    raise ReleaseError(
                        f"The release {name} is registered as another generator: {', '.join(changed)} differ. A "
                        "version is a name: choose a new one."
                    )
            told_now = sa.update(releases).where(releases.c.name == name).values(**told, writer=_dumped(writer))
            connection.execute(told_now)
            if known is not None and known.state == ABANDONED:
                _set(connection, name, ABANDONED, state=CANDIDATE)
            if verdict is not None:
                _judge(connection, name, verdict)
            return _get(connection, name)

    def adopt(self, name: str, generator_id: str | None, who: str) -> GeneratorRelease:
        """Make ``name`` the first champion, unless there is one already; return the champion."""
        with self.database.writing() as connection:
            found = _champion(connection)
            if found is not None:
                return found
            row = {"name": name, "state": CHAMPION, "generator_id": generator_id, "created_by": who}
            on = self.database.insert(releases).values(**row)
            connection.execute(on.on_conflict_do_update(index_elements=["name"], set_={"state": CHAMPION}))
            flip = _add_flip(connection, ADOPTED, None, name, "what the home served before its first promotion", who)
            followed = sa.update(release_flips).where(release_flips.c.id == flip.id)
            connection.execute(followed.values(published_at=sa.func.now()))  # the aliases name it from the start
            return _get(connection, name)

    def know_generator(self, name: str, generator_id: str) -> None:
        """Note who writes the release, known since its first profile.

        Raises
        ------
        ReleaseError
            Another generator wrote it before.
        """
        with self.database.writing() as connection:
            known = _get(connection, name).generator_id
            if known not in (None, generator_id):
                raise ReleaseError(
                    f"The release {name} was written by generator {known[:16]}, now by {generator_id[:16]}: model, "
                    "prompt or sampling changed under one name. Register the new one under a new name."
                )
            connection.execute(sa.update(releases).where(releases.c.name == name).values(generator_id=generator_id))

    def begin(self, name: str, plan: Plan, promoter: str) -> None:
        """Start or go on with a promotion under ``plan``; steps that an earlier plan finished are forgotten.

        Raises
        ------
        ReleaseError
            The release's state allows no promotion, or another promotion was interrupted and waits.
        """
        dumped = plan.model_dump_json()
        with self.database.writing() as connection:
            require_promoter(connection, promoter)
            record = _get(connection, name)
            other = connection.execute(sa.select(releases.c.name).where(releases.c.state == PROMOTING)).scalar()
            if other not in (None, name):
                raise ReleaseError(
                    f"The promotion of {other} was interrupted. Finish it with 'lettingo release promote {other}' or "
                    f"undo it with 'lettingo release abandon {other}', then promote {name}."
                )
            if record.state not in (CANDIDATE, RETIRED, PROMOTING, REJECTED):
                raise ReleaseError(
                    f"The release {name} is {record.state}: {_NEXT_STEP[record.state].format(name=name)}"
                )
            if record.plan != plan or record.state != PROMOTING:
                connection.execute(sa.delete(release_steps).where(release_steps.c.release == name))
            _set(connection, name, record.state, state=PROMOTING, plan=dumped)

    def finish_step(self, name: str, step: str, facts: dict[str, Any], promoter: str) -> None:
        """Note that ``step`` of the promotion is done."""
        with self.database.writing() as connection:
            require_promoter(connection, promoter)
            row = {"release": name, "step": step, "facts": json.dumps(facts, default=str)}
            connection.execute(sa.insert(release_steps).values(**row))

    def flip(self, name: str, promoter: str, who: str) -> Flip:
        """Make the release that is being promoted the champion and retire the former one, in one transaction.

        Raises
        ------
        ReleaseError
            The champion is no longer the one that the promotion was planned against.
        """
        with self.database.writing() as connection:
            require_promoter(connection, promoter)
            plan, current = _get(connection, name).plan, _champion(connection)
            if (current and current.name) != plan.champion:
                raise ReleaseError(
                    f"The champion changed from {plan.champion} to {current and current.name} while {name} was being "
                    f"promoted: nothing was flipped. Run 'lettingo release promote {name}' again to plan anew."
                )
            return _flip_to(connection, PROMOTED, plan.champion, name, PROMOTING, plan.why, who, replaced=plan.champion)

    def roll_back(self, why: str, who: str) -> Flip:
        """Make the release that the champion took over from champion again, in one transaction.

        A rollback whose alias services did not follow yet is returned as it is: running it again finishes it, and
        never rolls back twice.

        Raises
        ------
        ReleaseError
            There is nothing to return to.
        """
        with self.database.writing() as connection:
            last = connection.execute(sa.select(release_flips).order_by(release_flips.c.id.desc()).limit(1)).first()
            if last is not None and last.kind == ROLLED_BACK and last.published_at is None:
                return as_flip(last)
            current = _champion(connection)
            goal = current and current.replaced
            if goal is None:
                held = f"The champion {current.name} took over from no release" if current else "No release is champion"
                raise ReleaseError(f"{held}: there is nothing to roll back to. See: lettingo release list")
            state = _get(connection, goal).state
            if state != RETIRED:
                raise ReleaseError(
                    f"{current.name} took over from {goal}, which is {state}: {_NEXT_STEP[state].format(name=goal)}"
                )
            return _flip_to(connection, ROLLED_BACK, current.name, goal, RETIRED, why, who)

    def abandon(self, name: str) -> str:
        """Undo a promotion that was interrupted, or give a release up; return its new state.

        Raises
        ------
        ReleaseError
            The release is the champion, or the one that a rollback returns to.
        """
        with self.database.writing() as connection:
            record, current = _get(connection, name), _champion(connection)
            if record.state == CHAMPION or (current and current.replaced == name and record.state == RETIRED):
                raise ReleaseError(
                    f"The release {name} is {'champion' if record.state == CHAMPION else 'what rollback returns to'}: "
                    "promote another release first."
                )
            was_champion = connection.execute(
                sa.select(sa.func.count()).where(release_flips.c.to_release == name)
            ).scalar_one()
            state = RETIRED if record.state == PROMOTING and was_champion else ABANDONED
            _set(connection, name, record.state, state=state)
            return state

    def served(self) -> tuple[Served, int | None]:
        """What the feature repository should declare, and the flip that decided it."""
        with self.database.reading() as connection:
            current = _champion(connection)
            gone = sa.select(releases.c.name).where(releases.c.state == ABANDONED).order_by(releases.c.name)
            withheld = tuple(connection.execute(gone).scalars())
            flip = connection.execute(sa.select(sa.func.max(release_flips.c.id))).scalar()
        return Served(current.name if current else FIRST_CHAMPION, withheld), flip

    def note_published(self, flip: int) -> None:
        """The alias services follow ``flip``, and so no earlier one waits any more."""
        waiting = release_flips.c.published_at.is_(None) & (release_flips.c.id <= flip)
        with self.database.writing() as connection:
            connection.execute(sa.update(release_flips).where(waiting).values(published_at=sa.func.now()))


_NEXT_STEP = {
    CANDIDATE: "promote it first: lettingo release promote {name}",
    PROMOTING: "finish with 'lettingo release promote {name}' or undo with 'lettingo release abandon {name}'.",
    CHAMPION: "it answers already.",
    ABANDONED: "register it again to make it a candidate: lettingo release register {name}",
    REJECTED: "the gate turned it down; register it with a new verdict.",
}


def _get(connection: sa.Connection, name: str) -> GeneratorRelease:
    row = connection.execute(sa.select(releases).where(releases.c.name == name)).one_or_none()
    if row is None:
        known = ", ".join(connection.execute(sa.select(releases.c.name).order_by(releases.c.name)).scalars()) or "none"
        raise ReleaseError(
            f"No release {name} is registered (known: {known}). Register it: lettingo release register {name} "
            "--model DIR"
        )
    return as_release(row)


def _champion(connection: sa.Connection) -> GeneratorRelease | None:
    row = connection.execute(sa.select(releases).where(releases.c.state == CHAMPION)).one_or_none()
    return None if row is None else as_release(row)


def _set(connection: sa.Connection, name: str, known_state: str, **values: Any) -> None:
    """Change a release that is still in ``known_state``."""
    only = (releases.c.name == name) & (releases.c.state == known_state)
    if connection.execute(sa.update(releases).where(only).values(**values)).rowcount != 1:
        raise ReleaseError(
            f"The release {name} is no longer {known_state}: somebody else changed it meanwhile. Nothing was changed "
            "here. See: lettingo release list"
        )


def _flip_to(
    connection: sa.Connection, kind: str, old: str | None, new: str, new_state: str, why: str, who: str, **values: Any
) -> Flip:
    if old is not None:
        _set(connection, old, CHAMPION, state=RETIRED)  # first: the index allows one champion
    _set(connection, new, new_state, state=CHAMPION, **values)
    return _add_flip(connection, kind, old, new, why, who)


def _add_flip(connection: sa.Connection, kind: str, old: str | None, new: str, why: str, who: str) -> Flip:
    row = {"kind": kind, "from_release": old, "to_release": new, "why": why, "who": who}
    flip = connection.execute(sa.insert(release_flips).values(**row)).inserted_primary_key[0]
    return as_flip(connection.execute(sa.select(release_flips).where(release_flips.c.id == flip)).one())


def _judge(connection: sa.Connection, name: str, verdict: dict[str, Any]) -> None:
    state = _get(connection, name).state
    if state in (CANDIDATE, REJECTED):
        judged = REJECTED if verdict["decision"] == REJECT else CANDIDATE
        _set(connection, name, state, state=judged, verdict=json.dumps(verdict, default=str))


def _require_usable(name: str, verdict: dict[str, Any] | None) -> None:
    if name == ALIAS:
        raise ReleaseError(f"No release may be called {ALIAS}: the alias services have that name. Choose another.")
    if verdict is not None and verdict.get("decision") not in (PROMOTE, HOLD, REJECT):
        raise ReleaseError(
            f"The gate's verdict says {verdict.get('decision')!r}: its field 'decision' must be promote, hold or "
            "reject."
        )


def _differs(key: str, known: str | None, told: str | None) -> bool:
    """Whether two stored values of `IDENTITY` are of two generators: what lies elsewhere is the same."""
    if key != "settings" or known is None or told is None:
        return known != told
    one, other = (json.loads(value) | {FILES: None} for value in (known, told))
    return one != other


def _dumped(value: Any) -> str | None:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
