"""Item text vectors: title and categories of each item, encoded once, available from the item's first interaction on.

Catalogue text carries no time of its own. We take a title to be known once somebody has interacted with the item, so
a row's cutoff is one microsecond after the first interaction: strictly after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    ITEM_ID,
    ITEM_TEXT,
    ITEM_TEXT_EMBEDDING,
    ITEM_TEXT_PROVENANCE,
    vector_column,
)
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.generation.untrusted import clean
from lettingo_features.home import Home
from lettingo_features.sql import connect

if TYPE_CHECKING:
    import numpy as np

    from lettingo_features.encoding import SentenceEncoder

CHUNK = 8_192  # items per written part


def item_text_table(encoder_id: str) -> str:
    return f"item_text_embedding_{encoder_id}"


def item_text(title: str | None, categories: list[str] | None) -> str:
    """The text of one item: cleaned title, then its categories."""
    parts = [clean(title or "", 200), ", ".join(clean(category, 40) for category in categories or [])]
    return ". ".join(part for part in parts if part)


def build_item_text(
    home: Home, encoder: SentenceEncoder, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Encode every item that has interactions and a text but no row yet in ``item_text_embedding_<encoder>``.

    Returns counts: ``encoded``, ``already_there``, ``without_text`` (in no catalogue, or neither title nor category).
    """
    table = item_text_table(encoder.encoder_id)
    connection = connect(home.spill)
    done = f"SELECT item_id FROM {home.scan(table)}" if home.parts(table) else "SELECT NULL::VARCHAR AS item_id"
    rows = connection.sql(
        f"""
        WITH first_seen AS (
            SELECT item_id, min(event_timestamp) AS source_max_ts FROM {home.scan("interactions")} GROUP BY item_id
        )
        SELECT item_id, source_max_ts, items.title, items.categories, done.item_id IS NOT NULL AS already
        FROM first_seen
        LEFT JOIN {latest_items_sql(home)} AS items USING (item_id)
        LEFT JOIN ({done}) AS done USING (item_id)
        ORDER BY item_id
        """
    ).to_arrow_table()
    already = pc.sum(rows["already"]).as_py() or 0
    new = rows.filter(pc.invert(rows["already"]))
    texts = [item_text(*pair) for pair in zip(new["title"].to_pylist(), new["categories"].to_pylist(), strict=True)]
    kept = [index for index, text in enumerate(texts) if text]
    for start in range(0, len(kept), CHUNK):
        chunk = kept[start : start + CHUNK]
        vectors = encoder.encode([texts[index] for index in chunk])
        content = _rows(new.take(chunk), vectors)
        home.write_part(table, _part_name(content), content, ITEM_TEXT)
        if progress:
            progress(start + len(chunk), len(kept))
    return {"encoded": len(kept), "already_there": already, "without_text": new.num_rows - len(kept)}


def _rows(items: pa.Table, vectors: np.ndarray) -> pa.Table:
    source = items["source_max_ts"]
    cutoff = pc.add(source, pa.scalar(1, pa.duration("us")))
    columns = {
        ITEM_ID: items[ITEM_ID],
        EVENT_TIMESTAMP: cutoff,
        CREATED_TIMESTAMP: cutoff,
        ITEM_TEXT_EMBEDDING: vector_column(vectors),
        **dict(zip(ITEM_TEXT_PROVENANCE, (cutoff, source, cutoff), strict=True)),
    }
    return pa.table([columns[name] for name in ITEM_TEXT.names], names=ITEM_TEXT.names)


def _part_name(rows: pa.Table) -> str:
    return hashlib.sha256("\x1e".join(rows[ITEM_ID].to_pylist()).encode()).hexdigest()[:24]
