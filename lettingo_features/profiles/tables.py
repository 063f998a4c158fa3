"""The feature tables of a release: text, numbers and vectors, one row per user and cutoff in each; and its claims."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.columns import (
    CREATED_TIMESTAMP,
    EMBEDDING_PROVENANCE,
    EVENT_TIMESTAMP,
    PROFILE_EMBEDDING,
    PROFILE_PROVENANCE,
    PROFILE_TEXT,
    STRINGS,
    TEXT_PROVENANCE,
    TIMESTAMP,
    USER_ID,
    USER_PROFILE_CLAIMS,
    USER_PROFILE_EMBEDDING,
    USER_PROFILE_META,
    USER_PROFILE_TEXT,
    WINDOW_DIGEST,
    vector_column,
)
from lettingo_features.home import Home

if TYPE_CHECKING:
    import numpy as np

    from lettingo_features.encoding import SentenceEncoder


def text_table(release: str) -> str:
    return f"user_profile_text_{release}"


def meta_table(release: str) -> str:
    return f"user_profile_meta_{release}"


def embedding_table(release: str, encoder_id: str) -> str:
    return f"user_profile_embedding_{release}_{encoder_id}"


def claims_table(release: str) -> str:
    return f"user_profile_claims_{release}"


def write_profiles(
    home: Home,
    release: str,
    encoder_id: str,
    cutoff: datetime,
    rows: pa.Table,
    published_at: list[datetime],
    texts: list[str],
    meta: dict[str, pa.Array],
    vectors: np.ndarray,
    claims: Sequence[Sequence[tuple[str, Sequence[str]]]] = (),
) -> None:
    """Write one chunk as a part of each table, meta last: its part says that the chunk is complete.

    ``rows`` has ``user_id``, ``source_max_ts`` and ``window_digest``; lists, ``meta`` columns, ``vectors`` (n, dim)
    float32 and ``claims`` (of each user: text and item ids), unless empty, are aligned with it.
    """
    n = rows.num_rows
    at, published = pa.array([cutoff] * n, TIMESTAMP), pa.array(published_at, TIMESTAMP)
    times = (at, rows["source_max_ts"], published)
    base = {USER_ID: rows[USER_ID], EVENT_TIMESTAMP: at, CREATED_TIMESTAMP: published}
    part = _part_name(cutoff, rows, texts)
    if any(claims):
        home.write_part(claims_table(release), part, _claim_rows(base, claims), USER_PROFILE_CLAIMS)
    for table, schema, provenance, values in (
        (
            embedding_table(release, encoder_id),
            USER_PROFILE_EMBEDDING,
            EMBEDDING_PROVENANCE,
            {PROFILE_EMBEDDING: vector_column(vectors)},
        ),
        (text_table(release), USER_PROFILE_TEXT, TEXT_PROVENANCE, {PROFILE_TEXT: pa.array(texts)}),
        (meta_table(release), USER_PROFILE_META, PROFILE_PROVENANCE, meta),
    ):
        columns = {**base, **values, **dict(zip(provenance, times, strict=True))}
        home.write_part(table, part, pa.table({name: columns[name] for name in schema.names}), schema)


def drop_orphans(home: Home, release: str, encoder_id: str) -> None:
    """Remove text, embedding and claim parts without a meta part: a killed run left them, the next redoes them."""
    complete = {path.name for path in home.parts(meta_table(release))}
    for table in (text_table(release), embedding_table(release, encoder_id), claims_table(release)):
        for path in home.parts(table):
            if path.name not in complete:
                path.unlink()


def encode_release(
    home: Home, release: str, encoder: SentenceEncoder, progress: Callable[[int, int], None] | None = None
) -> int:
    """Vectors of another encoder for the texts of ``release``, in a table of their own; returns the rows written.

    Part by part, so that a killed run goes on where it was. A row takes the times of its text: an encoding job beside
    the generating one would have published it then.
    """
    table = embedding_table(release, encoder.encoder_id)
    done = {path.name for path in home.parts(table)}
    wanted = [path for path in home.parts(text_table(release)) if path.name not in done]
    written = 0
    for index, path in enumerate(wanted):
        rows = pq.read_table(path)
        columns = {name: rows[name] for name in (USER_ID, EVENT_TIMESTAMP, CREATED_TIMESTAMP)}
        columns[PROFILE_EMBEDDING] = vector_column(encoder.encode(rows[PROFILE_TEXT].to_pylist()))
        columns |= {ours: rows[theirs] for ours, theirs in zip(EMBEDDING_PROVENANCE, TEXT_PROVENANCE, strict=True)}
        content = pa.table({name: columns[name] for name in USER_PROFILE_EMBEDDING.names})
        home.write_part(table, path.stem, content, USER_PROFILE_EMBEDDING)
        written += rows.num_rows
        if progress:
            progress(index + 1, len(wanted))
    return written


def _claim_rows(base: dict[str, pa.Array], claims: Sequence[Sequence[tuple[str, Sequence[str]]]]) -> pa.Table:
    """One row per claim, with the columns of its profile in ``base``."""
    of_row = pa.array([row for row, mine in enumerate(claims) for _ in mine], pa.int64())
    columns = {name: values.take(of_row) for name, values in base.items()}
    columns["position"] = pa.array([position for mine in claims for position in range(1, len(mine) + 1)], pa.int64())
    columns["claim"] = pa.array([text for mine in claims for text, _ in mine], pa.string())
    columns["item_ids"] = pa.array([list(items) for mine in claims for _, items in mine], STRINGS)
    return pa.table({name: columns[name] for name in USER_PROFILE_CLAIMS.names})


def _part_name(cutoff: datetime, rows: pa.Table, texts: Sequence[str]) -> str:
    """``<cutoff>-<hash of users, window digests and texts>``: the same chunk always has the same name."""
    digest = hashlib.sha256()
    for row in zip(rows[USER_ID].to_pylist(), rows[WINDOW_DIGEST].to_pylist(), texts, strict=True):
        digest.update("\x1f".join((*row, "")).encode())
    return f"{cutoff.astimezone(UTC):%Y%m%dT%H%M%S}-{digest.hexdigest()[:16]}"
