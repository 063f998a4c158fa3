"""Preference pairs in SQL: from each pair back to the users, windows, candidates and rewards that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from lettingo_features import columns as c
from lettingo_features.alignment import database_tables as t
from lettingo_features.alignment.tables import CANDIDATES, PAIRS, REWARDS
from lettingo_features.errors import DataError
from lettingo_features.generation.database import Database
from lettingo_features.generation.engine import content_id

_WINDOW = (c.USER_ID, c.CUTOFF, c.WINDOW_DIGEST, "prompt")


class StoredRun(NamedTuple):
    """One run whose pairs are stored."""

    run: str
    rule: dict[str, Any]
    n_pairs: int
    stored_at: datetime


class PairStore:
    """The pairs of all runs of one home.

    ::

        store = PairStore(home.alignment_url)
        store.add("2026-07", {"pairs": config.model_dump()}, pairs.rows, candidates, rewards)
        assert store.pairs("2026-07").equals(pairs.rows.sort_by("pair_id"))

    A run is stored as a whole, in one transaction, and never changes: what a released generator was trained on can be
    looked up for as long as the database lives.

    Parameters
    ----------
    url
        See `generation.database.Database`.

    Raises
    ------
    ConfigError
        The URL names no database that is known here.
    DatabaseError
        By every method: the database does not answer, or is of a newer version.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self._database = Database(url, t.SCHEMA, timeout_s)

    def add(self, run: str, rule: Mapping[str, Any], pairs: pa.Table, candidates: pa.Table, rewards: pa.Table) -> int:
        """Store a run's pairs with all its candidates and rewards; return how many pairs were new.

        The same run again changes nothing and returns 0.

        Parameters
        ----------
        rule
            How pairs were chosen, as JSON: configuration of reward, guards and pairs.
        pairs, candidates, rewards
            Schemas `tables.PAIRS`, `tables.CANDIDATES`, `tables.REWARDS`. Rewards of candidates that are not given, and
            candidates without rewards, are welcome as long as no pair needs them.

        Raises
        ------
        DataError
            A pair names a candidate or a reward that is not given, or the run is stored with other pairs.
        """
        rewards = rewards.filter(pc.is_in(rewards["candidate_id"], candidates["candidate_id"].combine_chunks()))
        _check_provenance(pairs, rewards)
        row = {
            "run": run,
            "rule": json.dumps(rule, sort_keys=True, default=str),
            "n_pairs": len(pairs),
            "digest": _digest(pairs, candidates, rewards),
        }
        with self._database.writing() as connection:
            added = connection.execute(
                self._database.insert(t.runs).values(row).on_conflict_do_nothing(),
                execution_options={"preserve_rowcount": True},
            )
            if not added.rowcount:
                self._check_same(connection, row)
                return 0
            windows = pa.table({name: pairs[name] for name in _WINDOW})
            ids = _window_ids(windows)
            self._insert(connection, t.windows, _distinct(windows.append_column("window_id", ids), "window_id"))
            self._insert(connection, t.candidates, candidates.select(CANDIDATES.names))
            self._insert(connection, t.rewards, rewards.select(REWARDS.names).drop_columns(c.USER_ID), run=run)
            links = pairs.select(["pair_id", "reward", "chosen_id", "rejected_id", "noise"])
            self._insert(connection, t.pairs, links.append_column("window_id", ids), run=run)
        return len(pairs)

    def pairs(self, run: str) -> pa.Table:
        """The pairs of ``run``, schema `tables.PAIRS`, ordered by pair_id.

        Raises
        ------
        DataError
            No such run is stored.
        """
        with self._database.reading() as connection:
            if connection.execute(sa.select(t.runs.c.run).where(t.runs.c.run == run)).first() is None:
                raise DataError(
                    f"No run '{run}' is stored in {self._database.name}. 'lettingo align pairs' stores one."
                )
            rows = connection.execute(_pairs_query().where(t.pairs.c.run == run).order_by(t.pairs.c.pair_id)).all()
        columns = zip(*rows, strict=True) if rows else [[] for _ in PAIRS]
        return pa.table([_column(values, field) for values, field in zip(columns, PAIRS, strict=True)], schema=PAIRS)

    def runs(self) -> list[StoredRun]:
        """All runs, oldest first."""
        query = sa.select(t.runs.c.run, t.runs.c.rule, t.runs.c.n_pairs, t.runs.c.stored_at)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(t.runs.c.stored_at, t.runs.c.run)).all()
        return [StoredRun(run, json.loads(rule), n, _in_utc(stored_at)) for run, rule, n, stored_at in rows]

    def runs_of(self, user_id: str) -> list[str]:
        """Names of the runs with a pair of ``user_id``: what has learnt from this person, by name."""
        query = sa.select(t.pairs.c.run).distinct().join(t.windows).where(t.windows.c.user_id == user_id)
        with self._database.reading() as connection:
            return sorted(connection.execute(query).scalars())

    def forget(self, run: str) -> bool:
        """Delete a run's pairs and rewards, and the windows and candidates that no other run names; False if there is
        no such run."""
        with self._database.writing() as connection:
            # Children first: SQLite does not enforce foreign keys unless told, PostgreSQL does.
            for table in (t.pairs, t.rewards):
                connection.execute(sa.delete(table).where(table.c.run == run))
            found = connection.execute(sa.delete(t.runs).where(t.runs.c.run == run)).rowcount
            left = sa.select(t.pairs.c.window_id)
            connection.execute(sa.delete(t.windows).where(t.windows.c.window_id.not_in(left)))
            left = sa.select(t.rewards.c.candidate_id)
            connection.execute(sa.delete(t.candidates).where(t.candidates.c.candidate_id.not_in(left)))
        return bool(found)

    def close(self) -> None:
        self._database.close()

    def _insert(self, connection: sa.Connection, table: sa.Table, rows: pa.Table, **same: str) -> None:
        """Rows that are there already, by content hash, stay as they are."""
        if len(rows):
            connection.execute(
                self._database.insert(table).on_conflict_do_nothing(), [row | same for row in rows.to_pylist()]
            )

    def _check_same(self, connection: sa.Connection, row: Mapping[str, Any]) -> None:
        stored = connection.execute(sa.select(t.runs).where(t.runs.c.run == row["run"])).one()
        if stored.digest != row["digest"]:
            raise DataError(
                f"Run '{row['run']}' is stored with other pairs ({stored.n_pairs:,}; now {row['n_pairs']:,}), "
                "candidates or rewards. Give this run another name, or forget the stored one."
            )


def _pairs_query() -> sa.Select:
    """All columns of `PAIRS` in their order."""
    sides: dict[str, sa.ColumnElement] = {}
    source = t.pairs.join(t.windows)
    for side in ("chosen", "rejected"):
        text, value = t.candidates.alias(f"{side}_text"), t.rewards.alias(f"{side}_reward")
        candidate = t.pairs.c[f"{side}_id"]
        source = source.join(text, text.c.candidate_id == candidate).join(
            value,
            sa.and_(
                value.c.run == t.pairs.c.run, value.c.candidate_id == candidate, value.c.reward == t.pairs.c.reward
            ),
        )
        sides |= {
            side: text.c.text,
            f"{side}_generator": text.c.generator,
            f"{side}_words": text.c.n_words,
            f"{side}_value": value.c.value,
        }
    sides["margin"] = sides["chosen_value"] - sides["rejected_value"]
    windows = {name: t.windows.c[name] for name in _WINDOW}
    named = sides | windows
    return sa.select(*(named.get(name, t.pairs.c.get(name)).label(name) for name in PAIRS.names)).select_from(source)


def _check_provenance(pairs: pa.Table, rewards: pa.Table) -> None:
    known = pc.binary_join_element_wise(rewards["candidate_id"], rewards["reward"], "|").combine_chunks()
    for side in ("chosen_id", "rejected_id"):
        asked = pc.binary_join_element_wise(pairs[side], pairs["reward"], "|")
        n_unknown = len(pairs) - (pc.sum(pc.is_in(asked, known)).as_py() or 0)
        if n_unknown:
            raise DataError(
                f"{n_unknown:,} of {len(pairs):,} pairs have a {side} without a candidate and a reward: store a run's "
                "pairs together with all its candidates and rewards."
            )


def _window_ids(windows: pa.Table) -> pa.Array:
    times = windows[c.CUTOFF].cast(pa.int64()).cast(pa.string())
    columns = (windows[c.USER_ID], times, windows[c.WINDOW_DIGEST], windows["prompt"])
    return pa.array(map(content_id, *(column.to_pylist() for column in columns)), pa.string())


def _distinct(rows: pa.Table, key: str) -> pa.Table:
    names = rows.schema.names
    first = rows.group_by(key, use_threads=False).aggregate([(name, "first") for name in names if name != key])
    return first.rename_columns([name.removesuffix("_first") for name in first.schema.names]).select(names)


def _digest(*tables: pa.Table) -> str:
    """Of the rows, whatever their order."""
    return content_id(*("\n".join(sorted(map(repr, table.to_pylist()))) for table in tables))


def _column(values: Any, field: pa.Field) -> pa.Array:
    if field.type == c.TIMESTAMP:
        values = [_in_utc(value) for value in values]
    return pa.array(values, field.type)


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time  # SQLite keeps no zone; what we store is UTC
