"""The as-of join of one view: which stored row a label may see, as SQL text.

A stored row is *visible* to a label from ``v = event_timestamp`` on, or, where creation counts, from
``v = greatest(event_timestamp, created_timestamp)`` on. Of the visible rows of its key a label gets the one with the
greatest ``(event_timestamp, created_timestamp, part, row)``: newest event; on a tie the later created; on a full tie
the last written. An ASOF join looks at one number only, so rows that can never be that greatest one are removed
first; what remains is strictly increasing in ``v`` and in ``event_timestamp`` per key, and the newest ``v`` at or
before the label is the answer. ``ttl`` is applied to the row found: anything else visible is older still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import pyarrow as pa

from lettingo_features.offline_store.source import Source
from lettingo_features.sql import quote

LABELS = "asof_labels"
"""Name of the labels' Arrow table: ``row`` (int64), ``at`` (timestamp) and each join key as ``label_key(column)``."""


def label_key(column: str) -> str:
    """The name in ``LABELS`` of the labels' join key ``column``."""
    return f"key_{column}"


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

    def _candidates(self, payload: Sequence[str]) -> str:
        """Stored rows as ``k0.., e (event), c (created), v (visible from)`` plus ``payload``, without unusable rows."""
        keys = [f"{quote(key)} AS k{position}" for position, key in enumerate(self.keys)]
        created = f"{quote(self.created)}::TIMESTAMPTZ" if self.created else "NULL::TIMESTAMPTZ"
        visible = "greatest(e, c)" if self.by_created else "e"
        kept = "e IS NOT NULL AND c IS NOT NULL" if self.by_created else "e IS NOT NULL"
        columns = ", ".join([*keys, f"{quote(self.event)}::TIMESTAMPTZ AS e", f"{created} AS c", *payload])
        return f"(SELECT *, {visible} AS v FROM (SELECT {columns} FROM {self.source.scan()}) WHERE {kept})"

    def order_check(self) -> str:
        """SQL: one boolean, true if no two rows tie and creation never reverses the order of events.

        Then ``v`` orders each key exactly as ``e`` does and nothing needs removing. Keys are compared by a 64-bit
        hash: a collision can only cost time, never rows.
        """
        group = ", ".join([*(f"k{position}" for position in range(len(self.keys))), "e"])
        lag = "epoch_us(c) - epoch_us(e)" if self.by_created else "0"
        return (
            "SELECT coalesce(max(n) = 1 AND (max(hi) <= 0 OR max(hi) = min(lo)), true) FROM ("
            f"SELECT count(*) AS n, min({lag}) AS lo, max({lag}) AS hi FROM {self._candidates([])} "
            f"GROUP BY hash({group}))"
        )

    def sql(self, ordered: bool) -> str:
        """SQL of the join: ``row`` of each label once, in no order, and ``f0, f1, ..`` in the order of ``features``."""
        payload = [f"{quote(feature.column)} AS f{position}" for position, feature in enumerate(self.features)]
        if ordered:
            rows = self._candidates(payload)
        else:
            rows = (
                f"(SELECT * FROM {self._candidates([*payload, 'file_index', 'file_row_number'])} {self._undominated()})"
            )
        on = [f"l.{quote(label_key(label))} = s.k{position}" for position, label in enumerate(self.keys.values())]
        wanted = ", ".join(
            f"{self._within_ttl(f's.f{position}')} AS f{position}" for position in range(len(self.features))
        )
        return (
            f"SELECT l.row, {wanted} FROM {LABELS} AS l ASOF LEFT JOIN {rows} AS s "
            f"ON {' AND '.join([*on, 'l.at >= s.v'])}"
        )

    def _undominated(self) -> str:
        """Keep a row if it is the greatest of its ``v`` and no row visible earlier has a newer event.

        Within one ``v`` the last row of the window is the greatest; rows of one event come in the order of creation,
        so comparing events decides between different ``v``.
        """
        partition = ", ".join(f"k{position}" for position in range(len(self.keys)))
        over = f"PARTITION BY {partition} " if partition else ""
        over += "ORDER BY v, e, c NULLS FIRST, file_index, file_row_number"
        return (
            f"WINDOW w AS ({over}) "
            "QUALIFY lead(v) OVER w IS DISTINCT FROM v AND e = max(e) OVER (w ROWS UNBOUNDED PRECEDING)"
        )

    def _within_ttl(self, column: str) -> str:
        """``ttl`` of zero or None means no limit; a value exactly ``ttl`` old is still present."""
        if not self.ttl:
            return column
        microseconds = self.ttl // timedelta(microseconds=1)
        return f"CASE WHEN epoch_us(l.at) - epoch_us(s.e) <= {microseconds} THEN {column} END"
