"""Offline equals online: the rows of a point-in-time join against the rows that the feature server answered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.errors import ServingError

_SHOWN = 5


@dataclass(frozen=True)
class Mismatch:
    """One value that differs: ``key`` is the row's entity ids, ``by`` the relative difference (inf if not numbers)."""

    column: str
    key: tuple[str, ...]
    offline: Any
    online: Any
    by: float


@dataclass(frozen=True)
class ConsistencyReport:
    """What was compared and what differed."""

    n_rows: int
    n_columns: int
    n_values: int
    """Cells compared, each vector counted once."""
    mismatches: dict[str, int] = field(default_factory=dict)
    """Differing values by column."""
    missing_columns: list[str] = field(default_factory=list)
    """Features that the join has and the server does not."""
    missing_rows: int = 0
    """Keys of the join that the server did not answer."""
    worst: list[Mismatch] = field(default_factory=list)
    """The largest differences, worst first."""

    @property
    def equal(self) -> bool:
        return not (self.mismatches or self.missing_columns or self.missing_rows)

    def require_equal(self) -> ConsistencyReport:
        """Return self, or raise a ServingError that says how much differs, the worst case and what to do."""
        if self.equal:
            return self
        parts = [f"{count} of {self.n_rows} values of '{name}'" for name, count in self.mismatches.items()]
        parts += [f"the whole column '{name}'" for name in self.missing_columns]
        parts += [f"{self.missing_rows} rows"] if self.missing_rows else []
        example = ""
        if self.worst:
            worst = self.worst[0]
            example = (
                f" (worst: {'/'.join(worst.key)}, {worst.column}: {worst.offline!r} offline, {worst.online!r} online)"
            )
        raise ServingError(
            f"online differs from offline in {', '.join(parts)}{example}. "
            "Written since it was materialised? Run feast -c feature_repo materialize-incremental and compare again."
        )


def compare(offline: pa.Table, online: Mapping[str, Sequence[Any]], keys: Sequence[str]) -> ConsistencyReport:
    """Compare two sets of rows by ``keys``, exactly.

    Strings and integers must be equal, float32 values bit for bit (the server writes them as doubles, which loses
    nothing), vectors element by element. Timestamps are compared in whole seconds, rounded down: Feast's online format
    holds no more. NaN, null and "not found" are one and the same, because Feast's writer makes no difference.
    An empty list equals null for the same reason.

    Parameters
    ----------
    offline
        Result of a historical retrieval, one row per key; columns that are neither keys nor features (the label's
        time) must have been dropped.
    online
        Columns from `serving.client.FeatureClient.features`.
    keys
        Entity columns that identify a row in both.
    """
    position = {key: row for row, key in enumerate(zip(*(online[name] for name in keys), strict=True))}
    rows = list(zip(*(offline.column(name).to_pylist() for name in keys), strict=True))
    matched = [(row, position[key]) for row, key in enumerate(rows) if key in position]
    features = [name for name in offline.column_names if name not in keys]
    present = [name for name in features if name in online]
    mismatches: list[Mismatch] = []
    for name in present:
        same, values = _comparable(offline.column(name))
        for row, answer in matched:
            if not same(values[row], online[name][answer]):
                difference = _difference(values[row], online[name][answer])
                mismatches.append(Mismatch(name, rows[row], values[row], online[name][answer], difference))
    return ConsistencyReport(
        n_rows=len(rows),
        n_columns=len(features),
        n_values=len(matched) * len(present),
        mismatches=dict(Counter(mismatch.column for mismatch in mismatches)),
        missing_columns=sorted(set(features) - set(present)),
        missing_rows=len(rows) - len(matched),
        worst=sorted(mismatches, key=lambda mismatch: -mismatch.by)[:_SHOWN],
    )


def _comparable(column: pa.ChunkedArray) -> tuple[Callable[[Any, Any], bool], list[Any]]:
    """How values of this type are compared, and the offline values in the form that comparison takes."""
    if pa.types.is_timestamp(column.type):
        return _same_scalar, pc.floor(pc.divide(column.cast(pa.timestamp("us")).cast(pa.int64()), 1e6)).to_pylist()
    if pa.types.is_floating(column.type):
        return _same_float32, column.to_pylist()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        same = _same_vector if pa.types.is_floating(column.type.value_type) else _same_list
        return same, column.to_pylist()
    return _same_scalar, column.to_pylist()


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _same_scalar(offline: Any, online: Any) -> bool:
    return (_missing(offline) and _missing(online)) or offline == online


def _same_float32(offline: Any, online: Any) -> bool:
    if _missing(offline) or _missing(online):
        return _missing(offline) and _missing(online)
    return np.float32(offline).tobytes() == np.float32(online).tobytes()


def _same_list(offline: Any, online: Any) -> bool:
    return list(offline or []) == list([] if online is None else online)


def _same_vector(offline: Any, online: Any) -> bool:
    left = np.asarray([] if offline is None else offline, dtype=np.float32)
    right = np.asarray([] if online is None else online, dtype=np.float32)
    return left.shape == right.shape and np.array_equal(left, right, equal_nan=True)


def _difference(offline: Any, online: Any) -> float:
    """Relative difference of two numbers or vectors, infinite for anything else: only sorts the examples."""
    try:
        left, right = np.asarray(offline, dtype=np.float64), np.asarray(online, dtype=np.float64)
        gap = float(np.max(np.abs(left - right) / np.maximum(np.abs(left), 1e-12)))
    except (TypeError, ValueError):
        return math.inf
    return math.inf if math.isnan(gap) else gap
