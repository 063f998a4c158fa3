"""The as-of join of one view: which stored row a label may see, as SQL text.

A stored row is *visible* to a label from ``v = event_timestamp`` on, or, where creation counts, from
``v = greatest(event_timestamp, created_timestamp)`` on. Of the visible rows of its key a label gets the one with the
greatest ``(event_timestamp, created_timestamp, part, row)``: newest event; on a tie the later created; on a full tie
the last written. An ASOF join looks at one number only, so rows that can never be that greatest one are removed
first; what remains is strictly increasing in ``v`` and in ``event_timestamp`` per key, and the newest ``v`` at or
before the label is the answer. ``ttl`` is applied to the row found: anything else visible is older still.

Keys are sorted and matched by their 64-bit hash, which is twice as fast as text, and the answer is exact all the
same: if two keys share a hash, the row found is the greatest of both keys; either it is of the label's own key, then
it is the greatest of that one too, or the column ``same`` is false and the join is run again on the keys themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from lettingo_features.offline_store.source import Source
from lettingo_features.sql import quote

LABELS = "asof_labels"
"""Name of the labels' Arrow table: ``label`` (int64), ``instant`` (timestamp), keys as ``label_key(column)``."""


def label_key(column: str) -> str:
    """The name in ``LABELS`` of the labels' join key ``column``."""
    return f"key_{column}"


PLACE = "file_index, file_row_number"
"""Where a stored row lies: number of its part in the order of names, number of the row in it."""

UNDOMINATED = "lead(v) OVER w IS DISTINCT FROM v AND e = max(e) OVER (w ROWS UNBOUNDED PRECEDING)"
"""True for a row that is the greatest of its ``v`` and that no row visible earlier beats.

Rows of one event come in the order of creation, so comparing events decides between different ``v``.
"""

FEW_LABELS = 100_000
"""Up to here, stored rows of other keys are dropped before the sort: the lookup then costs less than it saves."""


class Span(NamedTuple):
    """How many labels there are, and the oldest and the newest of their instants, both included."""

    n_labels: int
    oldest: datetime
    newest: datetime


class Feature(NamedTuple):
    """One requested column: its name in the answer, its name in the parquet parts, its declared Arrow type.

    ``type`` is None where Feast's type has no Arrow counterpart; the stored type is then kept.
    """

    output: str
    column: str
    type: pa.DataType | None


@dataclass(frozen=True)
class ViewJoin:
    """One view as the join sees it: column names are those in the parquet parts."""

    name: str
    source: Source
    keys: Mapping[str, str]
    """Source column -> label column; empty for a view without entities."""
    event: str
    created: str | None
    features: Sequence[Feature]
    ttl: timedelta | None
    by_created: bool
    """True if a row created after the label must not be seen. A row without a creation time is then never seen."""

    def required_columns(self) -> list[str]:
        created = [self.created] if self.created else []
        return [*self.keys, self.event, *created, *(feature.column for feature in self.features)]

    def order_check(self, span: Span, exact: bool) -> str:
        """SQL: one boolean, true if creation never reverses the order of events, because every row was created before
        its event or all with one lag. Ties aside, ``v`` then orders each key as ``e`` does.
        """
        lag = "epoch_us(c) - epoch_us(e)"
        return f"SELECT coalesce(max({lag}) <= 0 OR max({lag}) = min({lag}), true) FROM ({self._stored(span, exact)})"

    def sql(self, span: Span, beaten: str | None, exact: bool) -> str:
        """SQL of the join: each ``label`` once, in no order, with ``same`` and ``f0, f1, ..`` (see ``features``).

        Parameters
        ----------
        beaten
            The name of a table with the places (``PLACE``) of the rows that ``ties`` found, "" if it found none; None
            where ``order_check`` was false, so that more than ties must be decided.
        exact
            Match the keys themselves instead of their hash; ``same`` is then always true.
        """
        keys = self._keys()
        matched = keys if exact else ["h"]
        rows = self._stored(span, exact, payload=True)
        if beaten:
            rows = f"SELECT * FROM ({rows}) ANTI JOIN {beaten} USING ({PLACE})"
        elif beaten is None:
            rows = f"SELECT * FROM ({rows}) {_window(matched)} QUALIFY {UNDOMINATED}"
        on = " AND ".join([*(f"l.{key} = s.{key}" for key in matched), "l.instant >= s.v"])
        same = " AND ".join(["true", *(f"l.{key} IS NOT DISTINCT FROM s.{key}" for key in keys)])
        wanted = [f"{self._within_ttl(f's.f{n}')} AS f{n}" for n in range(len(self.features))]
        return (
            f"SELECT l.label, s.v IS NULL OR ({same}) AS same, {', '.join(wanted)} "
            f"FROM ({self._asked()}) AS l ASOF LEFT JOIN ({rows}) AS s ON {on}"
        )

    def moments(self, span: Span, exact: bool) -> str:
        """SQL: ``moment``, the 64-bit hash of key and event, of every row of use; tied rows have equal ones."""
        return f"SELECT {self._moment()} AS moment FROM ({self._stored(span, exact)})"

    def ties(self, span: Span, exact: bool) -> str:
        """SQL: the places of rows that a row of the same key and event beats.

        Only rows whose hash of key and event occurs twice are sorted: few as a rule, and a collision adds to them
        without harm.
        """
        rows, moment = self._stored(span, exact), self._moment()
        return (
            f"SELECT {PLACE} FROM ({rows}) "
            f"WHERE {moment} IN (SELECT {moment} FROM ({rows}) GROUP BY ALL HAVING count(*) > 1) "
            f"{_window(self._keys())} QUALIFY lead(v) OVER w IS NOT DISTINCT FROM v"
        )

    def _moment(self) -> str:
        return f"hash({', '.join([*self._keys(), 'e'])})"

    def _keys(self) -> list[str]:
        return [f"k{n}" for n in range(len(self.keys))]

    def _asked(self) -> str:
        """Labels as ``label, instant, k0.., h``; ``h`` is null if a key is."""
        keys = [quote(label_key(label)) for label in self.keys.values()]
        columns = ["label", "instant", f"{_hash(keys)} AS h", *(f"{key} AS k{n}" for n, key in enumerate(keys))]
        return f"SELECT {', '.join(columns)} FROM {LABELS}"

    def _stored(self, span: Span, exact: bool, payload: bool = False) -> str:
        """Stored rows of use within ``span`` as ``k0.., e (event), c (created), v (visible from)``.

        The place of the row (``PLACE``) comes along, ``h``, the hash of the keys, unless ``exact``, and ``f0..`` with
        ``payload``. Rows that no label can see, or only after their ttl, stay in the files.
        """
        keys = [quote(key) for key in self.keys]
        event = f"{quote(self.event)}::TIMESTAMPTZ"
        created = f"{quote(self.created)}::TIMESTAMPTZ" if self.created else "NULL::TIMESTAMPTZ"
        columns = [PLACE, f"{event} AS e", f"{created} AS c", *(f"{key} AS k{n}" for n, key in enumerate(keys))]
        where = [f"{event} <= {_instant(span.newest)}", *(f"{key} IS NOT NULL" for key in keys)]
        if payload:
            columns += [f"{quote(feature.column)} AS f{n}" for n, feature in enumerate(self.features)]
        if not exact:
            columns.append(f"{_hash(keys)} AS h")
            if span.n_labels <= FEW_LABELS:
                where.append(f"{_hash(keys)} IN (SELECT h FROM ({self._asked()}))")
        if self.ttl and (oldest := _earlier(span.oldest, self.ttl)):
            where.append(f"{event} >= {_instant(oldest)}")
        if self.by_created:
            where.append(f"{created} <= {_instant(span.newest)}")
        visible = "greatest(e, c)" if self.by_created else "e"
        rows = f"SELECT {', '.join(columns)} FROM {self.source.scan()} WHERE {' AND '.join(where)}"
        return f"SELECT *, {visible} AS v FROM ({rows})"

    def _within_ttl(self, column: str) -> str:
        """``ttl`` of zero or None means no limit; a value exactly ``ttl`` old is still present."""
        if not self.ttl:
            return column
        microseconds = self.ttl // timedelta(microseconds=1)
        return f"CASE WHEN epoch_us(l.instant) - epoch_us(s.e) <= {microseconds} THEN {column} END"


def _hash(keys: Sequence[str]) -> str:
    """SQL of the 64-bit hash of ``keys``, null if one of them is; a constant if there are none."""
    known = " AND ".join(["true", *(f"{key} IS NOT NULL" for key in keys)])
    return f"CASE WHEN {known} THEN hash({', '.join(keys or ['0'])}) END"


def _window(keys: Sequence[str]) -> str:
    """Window ``w``: the rows of a key from the least to the greatest, within one ``v`` and within one event."""
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    return f"WINDOW w AS ({partition}ORDER BY v, e, c NULLS FIRST, {PLACE})"


def _instant(at: datetime) -> str:
    return f"'{at.isoformat()}'::TIMESTAMPTZ"


def _earlier(at: datetime, ttl: timedelta) -> datetime | None:
    """``at - ttl``, or None before the calendar begins."""
    try:
        return at - ttl
    except OverflowError:
        return None
