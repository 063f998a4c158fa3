"""The whole chain with real parts: what happens at or after a cutoff changes no row that a label before it finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    INTERACTIONS,
    ITEM_ID,
    ITEMS,
    TIMESTAMP,
    USER_ID,
)
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.home import Home
from lettingo_features.item_text import build_item_text
from lettingo_features.profiles.build import ProfileBuild, ProfileBuildConfig
from lettingo_features.profiles.statistical import StatisticalGenerator
from pipelines.behaviour import run_behaviour
from pipelines.ingest import run_ingest
from pipelines.store import REPO, open_store
from pipelines.training_set import run_training_set

LAG = timedelta(hours=6)
TOKEN = "Xylophonequartz"
PARTS = ("user_behaviour_v1", "item_behaviour_v1", "user_profile_text_v1", "user_profile_meta_v1")


class CharacterEncoder:
    """384 numbers that depend on every character of a text; stands in for the sentence encoder's minute of work."""

    encoder_id = "minilm_l6_v2"
    dim = 384

    def encode(self, texts):
        rows = [np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=384) for text in texts]
        return np.array(rows, dtype=np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("world")
    write_world(SyntheticWorld(WorldConfig(n_users=40, n_items=60, seed=3)), directory)
    return directory


def plant(home: Home, at: datetime) -> None:
    """Every user meets one item, at ``at``, whose title, category and rating exist nowhere else."""
    users = [row[0] for row in duckdb.sql(f"SELECT DISTINCT user_id FROM {home.scan('interactions')}").fetchall()]
    n = len(users)
    rows = {USER_ID: users, ITEM_ID: ["planted"] * n, EVENT_TIMESTAMP: [at] * n, "rating": [0.125] * n}
    rows |= {
        CREATED_TIMESTAMP: [at + timedelta(microseconds=1)] * n,
        "event_type": [None] * n,
        "review_text": [None] * n,
    }
    home.write_part(
        "interactions",
        "planted",
        pa.table([rows[name] for name in INTERACTIONS.names], schema=INTERACTIONS),
        INTERACTIONS,
    )
    item = pa.table([["planted"], [TOKEN], [[TOKEN]], [TOKEN], [at]], schema=ITEMS)
    home.write_part("items", "planted", item, ITEMS)


def build(root: Path, world: Path, cutoff: datetime, planted_at: datetime | None) -> tuple[Home, pa.Table]:
    """Run every step into a home of its own; returns it and the training set of labels around the cutoff."""
    from lettingo_features.feast_registry import declared

    home = Home(root).create()
    run_ingest(home, [str(world)])
    if planted_at is not None:
        plant(home, planted_at)
    run_behaviour(home, [cutoff], int(LAG.total_seconds()))
    for release in ("v0", "v1"):
        writer = StatisticalGenerator()
        build = ProfileBuild(home, ProfileBuildConfig(release=release), writer, writer, CharacterEncoder())
        build.run([cutoff])
    build_item_text(home, CharacterEncoder())
    store = open_store(home)
    contents = declared(REPO)
    store.apply([*contents.entities, *contents.feature_views, *contents.feature_services, *contents.data_sources])
    made = run_training_set(home, store, labels(home, cutoff), "ranker_profile_v1", root / "train.parquet")
    return home, made.table


def labels(home: Home, cutoff: datetime) -> pa.Table:
    """A label per user: at the cutoff, at publication and a day later."""
    users = sorted(row[0] for row in duckdb.sql(f"SELECT DISTINCT user_id FROM {home.scan('interactions')}").fetchall())
    items = sorted(
        row[0]
        for row in duckdb.sql(
            f"SELECT DISTINCT item_id FROM {home.scan('interactions')} WHERE event_timestamp < '{cutoff}'::TIMESTAMPTZ"
        ).fetchall()
    )
    at = [cutoff, cutoff + LAG, cutoff + timedelta(days=1)]
    rows = [(user, items[index % len(items)], at[index % 3]) for index, user in enumerate(users)]
    user, item, when = zip(*rows, strict=True)
    return pa.table({USER_ID: user, ITEM_ID: item, EVENT_TIMESTAMP: pa.array(when, TIMESTAMP)})


def test_a_planted_future_reaches_no_feature_and_no_training_row(world, tmp_path, monkeypatch):
    cutoff = datetime(2024, 6, 1, tzinfo=UTC)
    monkeypatch.setenv("LETTINGO_HOME", str(tmp_path / "plain"))
    plain, expected = build(tmp_path / "plain", world, cutoff, None)
    monkeypatch.setenv("LETTINGO_HOME", str(tmp_path / "planted"))
    planted, found = build(tmp_path / "planted", world, cutoff, cutoff)  # at exactly the cutoff: the future
    for table in PARTS:
        rows = [
            duckdb.sql(f"SELECT * FROM {home.scan(table)} ORDER BY ALL").to_arrow_table() for home in (plain, planted)
        ]
        assert rows[0].num_rows and rows[0].equals(rows[1]), table
    assert found.equals(expected)
    assert TOKEN not in str(found.to_pydict())
    profiles = list(zip(found[EVENT_TIMESTAMP].to_pylist(), found["profile_cutoff_at"].to_pylist(), strict=True))
    assert {profile for at, profile in profiles if at == cutoff} == {None}  # a label at the cutoff precedes publication
    assert {profile for at, profile in profiles if at > cutoff} == {None, cutoff}  # None: nothing before the cutoff
    monkeypatch.setenv("LETTINGO_HOME", str(tmp_path / "seen"))
    _, changed = build(tmp_path / "seen", world, cutoff, cutoff - timedelta(microseconds=1))
    assert not changed.equals(expected)  # the same plant one microsecond earlier is seen: the test can fail
