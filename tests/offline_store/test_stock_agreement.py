"""The same answers as Feast's stock DuckDB store, on timelines where that store is right: no full ties, no nulls."""

from __future__ import annotations

import random
from datetime import timedelta

import pyarrow as pa
import pytest
from feast.types import Int64

from tests.offline_store.feast_store import feast_store, hour, item, source, user, view, write_part

N = 300


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two applied repositories over one file, and labels that carry a row id, since the stock store shuffles rows."""
    pytest.importorskip("ibis", reason="the stock DuckDB store comes with feast[duckdb]")
    draw = random.Random(1)
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    events = [draw.randrange(40) for _ in range(N)]
    write_part(
        path,
        user_id=[draw.choice("abc") for _ in range(N)],
        item_id=[draw.choice("ij") for _ in range(N)],
        event_timestamp=events,
        # Distinct for each row, so that the order of writing, which the stock store does not define, never decides.
        created_timestamp=[event + draw.randrange(-2, 9) + index / N for index, event in enumerate(events)],
        value=pa.array(range(N), pa.int64()),
    )
    labels = pa.table(
        {
            "user_id": [draw.choice("abcd") for _ in range(N)],
            "item_id": [draw.choice("ij") for _ in range(N)],
            "event_timestamp": [hour(draw.randrange(60)) for _ in range(N)],
            "row_id": range(N),
        }
    ).to_pandas()
    stores = []
    for offline in ("lettingo_features.offline_store.asof.AsofOfflineStore", "duckdb"):
        views = [
            view("by_user", source(path), [user], timedelta(hours=3), value=Int64),
            view("by_pair", source(path), [user, item], value=Int64),
        ]
        stores.append(feast_store(tmp_path_factory.mktemp("repository"), views, offline))
    return stores, labels


@pytest.mark.parametrize("by_created", [False, True])
def test_same_answers_as_the_stock_store(both, by_created):
    stores, labels = both
    ours, stock = (
        store.get_historical_features(
            labels.copy(),
            ["by_user:value", "by_pair:value"],
            full_feature_names=True,
            filter_by_created_timestamp=by_created,
        ).to_arrow()
        for store in stores
    )
    assert ours["row_id"].to_pylist() == list(range(N))
    names = ["row_id", "by_user__value", "by_pair__value"]
    assert ours.select(names).to_pylist() == stock.sort_by("row_id").select(names).to_pylist()
    assert 0 < ours["by_user__value"].null_count < N
