"""Parts appear whole or not at all, and a part written twice is there once."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from lettingo_features.home import Home

SCHEMA = pa.schema([pa.field("user_id", pa.string()), pa.field("n", pa.int64())])
ROWS = pa.table({"n": [1, 2], "user_id": ["a", "b"]})  # columns in another order: written in the schema's


def count(home: Home) -> int:
    return duckdb.connect().execute(f"SELECT count(*) FROM {home.scan('t')}").fetchall()[0][0]


def test_parts_add_up_and_the_same_part_replaces_itself(tmp_path):
    home = Home(tmp_path)
    home.write_part("t", "p1", ROWS, SCHEMA)
    home.write_part("t", "p2", ROWS, SCHEMA)
    home.write_part("t", "p1", ROWS, SCHEMA)
    assert [path.name for path in home.parts("t")] == ["p1.parquet", "p2.parquet"]
    assert count(home) == 4


def test_a_write_that_dies_half_way_leaves_the_table_as_it_was(tmp_path):
    home = Home(tmp_path)
    home.write_part("t", "p1", ROWS, SCHEMA)

    def dies():
        yield from ROWS.to_batches()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        home.write_part("t", "p2", dies(), SCHEMA)
    assert count(home) == 2
    assert [path.name for path in home.table_dir("t").iterdir()] == ["p1.parquet"]


def test_readers_never_match_a_temporary_left_by_a_kill(tmp_path):
    home = Home(tmp_path)
    home.write_part("t", "p1", ROWS, SCHEMA)
    (home.table_dir("t") / ".p2.parquet.0123.tmp").write_bytes(b"PAR1 half a file")
    assert count(home) == 2
