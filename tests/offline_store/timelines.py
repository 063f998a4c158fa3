"""Small random timelines with ties, and twenty lines of Python that say what each label gets."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from lettingo_features.offline_store.join import Feature, ViewJoin
from lettingo_features.offline_store.labels import Labels
from lettingo_features.offline_store.source import open_source
from tests.offline_store.feast_store import instants, write_part

Key = tuple[str | None, int | None]


class Row(NamedTuple):
    key: Key
    event: int | None
    created: int | None
    part: int


class Label(NamedTuple):
    key: Key
    at: int | None


def expected(label: Label, rows: list[Row], width: int, ttl: int, by_created: bool) -> int | None:
    """Index of the stored row that ``label`` gets: Feast's semantics, by brute force.

    ``width`` keys count; ``ttl`` in hours, 0 = no limit. Rows are read part by part, in the order given.
    """
    written = sorted(range(len(rows)), key=lambda index: rows[index].part)
    best, best_rank = None, None
    for position, index in enumerate(written):
        row = rows[index]
        if row.key[:width] != label.key[:width] or None in label.key[:width]:
            continue
        if label.at is None or row.event is None or row.event > label.at:
            continue
        if by_created and (row.created is None or row.created > label.at):
            continue
        rank = (row.event, -1000 if row.created is None else row.created, position)
        if best_rank is None or rank > best_rank:
            best, best_rank = index, rank
    return None if best is None or (ttl and label.at - rows[best].event > ttl) else best


def stored(
    connection: duckdb.DuckDBPyConnection, directory: Path, rows: list[Row], width: int, ttl: int, by_created: bool
) -> ViewJoin:
    """Write ``rows`` as parts; the feature ``value`` is the index of the row."""
    for part in sorted({row.part for row in rows}):
        mine = [(index, row) for index, row in enumerate(rows) if row.part == part]
        write_part(
            directory / f"{part}.parquet",
            user_id=pa.array([row.key[0] for _, row in mine], pa.string()),
            item_id=pa.array([row.key[1] for _, row in mine], pa.int64()),
            event_timestamp=[row.event for _, row in mine],
            created_timestamp=[row.created for _, row in mine],
            value=pa.array([index for index, _ in mine], pa.int64()),
        )
    return ViewJoin(
        name="timeline",
        source=open_source(connection, directory),
        keys={key: key for key in ("user_id", "item_id")[:width]},
        event="event_timestamp",
        created="created_timestamp",
        features=[Feature("value", "value", pa.int64())],
        ttl=timedelta(hours=ttl),
        by_created=by_created,
    )


def asking(labels: list[Label]) -> Labels:
    rows = {
        "user_id": pa.array([label.key[0] for label in labels], pa.string()),
        "item_id": pa.array([label.key[1] for label in labels], pa.int64()),
        "event_timestamp": instants([label.at for label in labels]),
    }
    return Labels(pa.table(rows), "event_timestamp")


def random_timeline(seed: int, n: int = 40) -> tuple[list[Row], list[Label]]:
    """Few keys and few instants, so that ties of every kind abound."""
    draw = random.Random(seed)

    def key() -> Key:
        return draw.choice("aab"), draw.choice((1, 1, 2))

    rows = [Row(key(), event := draw.randrange(8), event + draw.randrange(-2, 5), draw.randrange(3)) for _ in range(n)]
    return rows, [Label(key(), draw.randrange(14)) for _ in range(n)]
