"""The certificate: a check of every training row against its future, and its written proof.

For each family of provenance columns and each row that found a feature value::

    source_max_ts  <  cutoff_at  <=  published_at  <=  event_timestamp of the label

A row without a value in a family (all three columns null) cannot leak; a row with only some of the three is a
violation, since nothing can be proved about it.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    ITEM_ID,
    PROVENANCES,
    TIMESTAMP,
    USER_ID,
    Provenance,
)
from lettingo_features.config import Config
from lettingo_features.errors import DataError, LeakageError

_RULES = ("source_max_ts < cutoff_at", "cutoff_at <= published_at", "published_at <= label timestamp")


class FamilyCheck(Config):
    """What one family of provenance columns showed."""

    family: str
    "Name of the family's cutoff column."
    rows_with_value: int
    "Rows that found a feature value."
    rows_without_value: int
    "Rows for which nothing was published in time: their features are null."
    violations: int
    "Rows that break the rule; 0 in every certificate that is written."
    worst_source_margin_s: float | None
    "Smallest cutoff_at - source_max_ts, seconds; must be > 0."
    worst_label_margin_s: float | None
    "Smallest label timestamp - published_at, seconds; must be >= 0."


class Certificate(Config):
    """Proof, written beside a training set, that none of its rows saw its future."""

    rule: str = "source_max_ts < cutoff_at <= published_at <= label timestamp"
    rows: int
    violations: int
    families: tuple[FamilyCheck, ...]
    unchecked_views: tuple[str, ...]
    "Views of the service that carry no provenance columns: nothing is proved about their values."
    service: str
    views: tuple[str, ...]
    filter_by_created_timestamp: bool = True
    labels_sha256: str
    table_sha256: str
    "Content hashes of labels in and table out, independent of chunking."
    versions: dict[str, str]
    created_at: str

    def to_text(self) -> str:
        """A few lines for a terminal."""
        lines = [
            f"certificate  service {self.service}  rows {self.rows:,}  violations {self.violations}",
            f"  rule       {self.rule}",
        ]
        for check in self.families:
            share = check.rows_with_value / self.rows if self.rows else 0.0
            lines.append(
                f"  {check.family:<30} value in {share:6.1%} of rows   "
                f"worst margin to label {_days(check.worst_label_margin_s)}, "
                f"to source {_days(check.worst_source_margin_s)}"
            )
        if self.unchecked_views:
            lines.append(f"  not provable (no provenance columns): {', '.join(self.unchecked_views)}")
        return "\n".join(lines)


def check_families(table: pa.Table) -> tuple[FamilyCheck, ...]:
    """Check every provenance family in ``table`` (any row order, ``event_timestamp`` = label instant).

    Raises
    ------
    DataError
        The table has no provenance column, or only some columns of a family.
    LeakageError
        A row saw the future; says how many, the worst, and what to do.
    """
    families = []
    for provenance in PROVENANCES:
        present = [name for name in provenance if name in table.column_names]
        if not present:
            continue
        if len(present) < len(provenance):
            missing = sorted(set(provenance) - set(present))
            raise DataError(
                f"The training set has {', '.join(present)} but not {', '.join(missing)}: nothing can be proved about "
                "those features. Put all three provenance columns of a view into the feature service."
            )
        families.append(_check_family(table, provenance))
    if not families:
        raise DataError(
            "The training set carries no provenance columns, so no certificate can be written. Retrieve a feature "
            "service that includes them, such as ranker_profile_v1."
        )
    return tuple(families)


def _check_family(table: pa.Table, provenance: Provenance) -> FamilyCheck:
    cutoff, source, published = (_microseconds(table[name]) for name in provenance)
    label = _microseconds(table[EVENT_TIMESTAMP])
    nulls = [pc.cast(pc.is_null(column), pa.int8()) for column in (source, cutoff, published)]
    n_null = pc.add(pc.add(nulls[0], nulls[1]), nulls[2])
    has_value = pc.less(n_null, 3)
    partial = pc.and_(has_value, pc.greater(n_null, 0))
    to_source, to_publish, to_label = (
        pc.subtract(cutoff, source),
        pc.subtract(published, cutoff),
        pc.subtract(label, published),
    )
    broken = [pc.less_equal(to_source, 0), pc.less(to_publish, 0), pc.less(to_label, 0)]
    broken = [pc.fill_null(mask, False) for mask in broken]
    violating = pc.or_(pc.or_(pc.or_(broken[0], broken[1]), broken[2]), pc.fill_null(partial, False))
    n_violations = pc.sum(violating).as_py() or 0
    if n_violations:
        margins = (to_source, to_publish, to_label)
        raise LeakageError(_leakage_message(table, provenance, violating, broken, margins, n_violations))
    with_value = pc.sum(has_value).as_py() or 0
    return FamilyCheck(
        family=provenance.cutoff_at,
        rows_with_value=with_value,
        rows_without_value=table.num_rows - with_value,
        violations=0,
        worst_source_margin_s=_seconds(pc.min(to_source).as_py()),
        worst_label_margin_s=_seconds(pc.min(to_label).as_py()),
    )


def _leakage_message(table, provenance, violating, broken, margins, n_violations) -> str:
    parts = []
    for rule, mask, margin in zip(_RULES, broken, margins, strict=True):
        count = pc.sum(mask).as_py() or 0
        if not count:
            continue
        worst = pc.min(pc.filter(margin, mask)).as_py()
        row = pc.index(pc.and_(mask, pc.equal(margin, worst)), True).as_py()
        keys = ", ".join(f"{key} {table[key][row]}" for key in (USER_ID, ITEM_ID) if key in table.column_names)
        label = table[EVENT_TIMESTAMP][row]
        parts.append(f"{count:,} break '{rule}' (worst: {keys}, label at {label}, by {_days(-worst / 1e6)})")
    incomplete = n_violations - sum(pc.sum(mask).as_py() or 0 for mask in broken)
    if incomplete > 0:
        parts.append(f"{incomplete:,} have only some of {', '.join(provenance)}")
    return (
        f"{n_violations:,} of {table.num_rows:,} training rows may have seen their future in the features around "
        f"{provenance.cutoff_at}: {'; '.join(parts)}. No training set was written. Retrieve with "
        f"filter_by_created_timestamp=True from a source that has {CREATED_TIMESTAMP}, and rebuild rows whose window "
        "reached its cutoff: lettingo profiles backfill, lettingo behaviour build."
    )


def content_sha256(table: pa.Table) -> str:
    """sha256 over the schema and the rows of ``table``, the same however its columns are chunked."""
    digest = hashlib.sha256(table.schema.remove_metadata().to_string().encode())
    with pa.ipc.new_stream(_Sink(digest), table.schema.remove_metadata()) as writer:
        for batch in table.combine_chunks().to_batches(max_chunksize=65_536):
            writer.write_batch(_compact(batch))
    return digest.hexdigest()


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy without leftover buffers of a slice, so that equal rows give equal bytes."""
    return batch.take(pa.array(range(batch.num_rows), pa.int64()))


class _Sink:
    """A write-only file that feeds a hash."""

    closed = False

    def __init__(self, digest) -> None:
        self._digest = digest

    def write(self, data) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass


def _microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(column, TIMESTAMP), pa.int64())


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6


def _days(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds / 86_400:.2f} d" if abs(seconds) >= 86_400 else f"{seconds:,.6g} s"
