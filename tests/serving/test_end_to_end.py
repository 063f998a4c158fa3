"""The real thing: feast apply, materialize-incremental and serve; every service over HTTP equals the as-of join."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import CREATED_TIMESTAMP, EVENT_TIMESTAMP, ITEM_ID, STRINGS, USER_ID, VECTOR
from lettingo_features.errors import ServingError
from lettingo_features.home import Home
from serving.client import FeatureClient
from serving.consistency import compare
from serving.server import feast_executable, feast_server
from tests.test_feature_repo import TABLES

pytestmark = pytest.mark.slow  # feast starts four times

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
USERS = [f"{i:03d}" for i in range(12)]  # padded: ids are strings
ITEMS = [f"i{i}" for i in range(12)]
SNAPSHOTS = [datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MISSING = 5  # this row of a table has nulls in all its features


def column(field: pa.Field, n: int, cutoff: datetime, rng: np.random.Generator) -> pa.Array:
    """Values of one column of one snapshot; every type has a null, and lists have an empty one."""
    known = {USER_ID: USERS, ITEM_ID: ITEMS, EVENT_TIMESTAMP: [cutoff] * n}
    known[CREATED_TIMESTAMP] = [cutoff + timedelta(hours=6)] * n
    if field.name in known:
        return pa.array(known[field.name][:n], field.type)
    if pa.types.is_timestamp(field.type):
        values = [cutoff - timedelta(microseconds=int(us)) for us in rng.integers(0, 10**12, n)]
    elif field.type == VECTOR:
        values = list(rng.normal(size=(n, 384 if "embedding" in field.name else 3)).astype(np.float32))
    elif field.type == STRINGS:
        values = [["a", "b", "c"][: i % 4] for i in range(n)]
    elif field.type == pa.string():
        values = [f"text {i} of {field.name} — “ü” 'quoted'" for i in rng.integers(0, 9, n)]
    else:
        values = list(rng.integers(0, 2**40, n) if field.type == pa.int64() else rng.normal(size=n).astype(np.float32))
    values[MISSING] = None
    return pa.array(values, field.type)


def feast(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LETTINGO_HOME": str(home)}
    command = [feast_executable(), "-c", str(REPO), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    rng = np.random.default_rng(3)
    home = Home(tmp_path_factory.mktemp("home")).create()
    for table, schema in TABLES.items():
        for number, cutoff in enumerate(SNAPSHOTS):
            n = len(USERS) - number  # the last user and item are only in the first snapshot
            rows = pa.table([column(field, n, cutoff, rng) for field in schema], schema=schema)
            home.write_part(table, f"snapshot{number}", rows, schema)
    for arguments in (["apply"], ["materialize-incremental", NOW.strftime("%Y-%m-%dT%H:%M:%S")]):
        done = feast(home.root, *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
    return home.root


@pytest.fixture(scope="module")
def url(home) -> Iterator[str]:
    with feast_server(REPO, home) as url:
        yield url


@pytest.fixture(scope="module")
def store(home):
    from feast import FeatureStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LETTINGO_HOME", str(home))
        yield FeatureStore(repo_path=str(REPO))


@pytest.mark.parametrize("service", ["ranker_baseline_v1", "ranker_profile_v1", "ranker_profile_v0", "profile_text_v1"])
def test_online_equals_offline(store, url, service):
    keys = [USER_ID] if service.startswith("profile_text") else [USER_ID, ITEM_ID]
    pairs = {USER_ID: USERS, ITEM_ID: ITEMS[::-1]}
    labels = pa.table({key: pairs[key] for key in keys}).to_pandas()
    labels[EVENT_TIMESTAMP] = NOW
    job = store.get_historical_features(labels, store.get_feature_service(service), filter_by_created_timestamp=True)
    offline = job.to_arrow().drop_columns([EVENT_TIMESTAMP])
    with FeatureClient(url) as client:
        online = client.features(service, USERS, ITEMS[::-1] if ITEM_ID in keys else None)
    report = compare(offline, online, keys).require_equal()
    assert report.n_rows == len(USERS)
    assert report.n_columns == offline.num_columns - len(keys) > 10


def test_user_of_the_first_snapshot_only_is_served_from_it(url):
    with FeatureClient(url) as client:
        answer = client.features("profile_text_v1", [USERS[0], USERS[-1], "nobody"])
    assert answer["profile_text"][2] is None
    cutoffs = [None if at is None else datetime.fromtimestamp(at, UTC) for at in answer["profile_cutoff_at"]]
    assert cutoffs[2] is None
    assert cutoffs[1] <= SNAPSHOTS[0] < SNAPSHOTS[1] - timedelta(days=13) <= cutoffs[0]


def test_unknown_service(url):
    with FeatureClient(url) as client, pytest.raises(ServingError, match=r"404.*no_such_service"):
        client.features("no_such_service", ["000"])


def test_service_with_items_asked_without_items(url):
    with FeatureClient(url) as client, pytest.raises(ServingError, match="item_id"):
        client.features("ranker_baseline_v1", ["000"])
