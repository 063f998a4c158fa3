"""What a language model is shown of a window: every interaction as a numbered row, newest first.

The numbers are what claims refer to (`structured`); the item ids stay beside the rows, for looking the evidence up
again, and never enter a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.profiles.summary import SummaryConfig, seen_sql

if TYPE_CHECKING:
    import duckdb

ROW = pa.struct(
    [
        pa.field("n", pa.int64()),  # 1 = newest of the rows that are shown
        pa.field(c.ITEM_ID, pa.string()),
        pa.field("title", pa.string()),  # '' for an item without title or outside the catalogue
        pa.field("categories", c.STRINGS),
        pa.field("sentiment", pa.string()),  # one of summary.SENTIMENTS
        pa.field("segment", pa.string()),  # recent | long
        pa.field("days", pa.float32()),  # before the cutoff
    ]
)

ROWS = "rows"
HISTORY = pa.schema([pa.field(c.CUTOFF, c.TIMESTAMP), pa.field(c.USER_ID, pa.string()), pa.field(ROWS, pa.list_(ROW))])


def history_rows(
    connection: duckdb.DuckDBPyConnection, items_sql: str, config: SummaryConfig, batch_size: int = 10_000
) -> pa.RecordBatchReader:
    """One `HISTORY` row per (cutoff, user) of the table ``windows``, ordered by (cutoff, user_id).

    Titles and categories are raw catalogue text; an item_id has the same ones in every row. Sentiments follow
    ``config``, as in `summary.summarise`, whose ``items_sql`` and ``batch_size`` these are.

    Returns
    -------
    pa.RecordBatchReader
        Schema `HISTORY`. Read it to its end before the next query on ``connection``.
    """
    query = f"""
    WITH {seen_sql(items_sql, config)}, numbered AS (
        SELECT *, row_number() OVER (PARTITION BY cutoff, user_id ORDER BY position) AS n,
            (epoch_us(cutoff) - epoch_us(event_timestamp)) / 86400e6 AS days
        FROM seen
    )
    SELECT cutoff, user_id,
        list({{n: n, item_id: item_id, title: title, categories: categories, sentiment: sentiment, segment: segment,
            days: days}} ORDER BY n) AS {ROWS}
    FROM numbered GROUP BY cutoff, user_id ORDER BY cutoff, user_id
    """
    reader = connection.sql(query).to_arrow_reader(batch_size)
    batches = (
        pa.RecordBatch.from_struct_array(batch.to_struct_array().cast(pa.struct(list(HISTORY)))) for batch in reader
    )
    return pa.RecordBatchReader.from_batches(HISTORY, batches)
