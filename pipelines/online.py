"""Offline values into the online store, and the proof that both agree; used by the demo and ``lettingo audit``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

SERVED_VIEWS = (
    "user_behaviour_v1",
    "item_behaviour_v1",
    "user_profile_text_v1",
    "user_profile_meta_v1",
    "user_profile_embedding_v1_minilm_l6_v2",
    "item_text_embedding_minilm_l6_v2",
)
SERVICES = ("ranker_baseline_v1", "ranker_profile_v1", "profile_text_v1")


def run_materialize(home, until: datetime, views: Sequence[str] = SERVED_VIEWS, since: datetime | None = None) -> None:
    """``feast -c feature_repo materialize-incremental UNTIL`` for ``views``, under a run record.

    With ``since`` it is ``materialize SINCE UNTIL``: all rows of that time once more, and so also rows of a cutoff
    before the latest incremental run, which that would leave out.
    """
    from lettingo_features.runs import run_record
    from pipelines.store import feast

    start, end = (at and at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") for at in (since, until))
    named = [argument for view in views for argument in ("--views", view)]
    with run_record(home, "materialize", {"since": start, "until": end, "views": views}):
        if start is None:
            feast(home, "materialize-incremental", *named, end)
        else:
            feast(home, "materialize", *named, start, end)


def run_consistency(home, store, url: str, as_of: datetime, entities: int = 200, seed: int = 0) -> dict[str, dict]:
    """Fetch a seeded sample of (user, item) pairs over HTTP and compare every value with the offline join at ``as_of``.

    Returns, by service: rows and values compared, mismatches, the worst of them, and milliseconds of the median
    single-user request.
    """
    from lettingo_features.columns import EVENT_TIMESTAMP, ITEM_ID, USER_ID
    from lettingo_features.runs import run_record
    from lettingo_features.training_set import build_training_set
    from serving.client import FeatureClient
    from serving.consistency import compare

    rows = _sample(home, as_of, entities, seed)
    client = FeatureClient(url, timeout_s=60)
    found = {}
    with run_record(home, "consistency", {"as_of": str(as_of), "entities": entities, "seed": seed}) as run:
        for service in SERVICES:
            offline = build_training_set(store, rows, service).table.drop_columns([EVENT_TIMESTAMP])
            keys, arguments = [USER_ID], {"users": rows[USER_ID].to_pylist()}
            if service.startswith("ranker"):
                keys, arguments = [USER_ID, ITEM_ID], {**arguments, "items": rows[ITEM_ID].to_pylist()}
            else:
                offline = offline.drop_columns([ITEM_ID])
            report = compare(offline, client.features(service, **arguments), keys)
            found[service] = {
                "rows": report.n_rows,
                "values": report.n_values,
                "equal": report.equal,
                "mismatches": report.mismatches,
                "missing_rows": report.missing_rows,
                "missing_columns": report.missing_columns,
                "worst": [asdict(mismatch) for mismatch in report.worst],
                "median_ms": _median_ms(client, service, arguments),
            }
        run.record(services=found)
    return found


def _median_ms(client, service: str, arguments: dict[str, list[str]], requests: int = 15) -> float:
    """Median milliseconds of a one-row request from this process, over loopback."""
    spent = []
    for index in range(requests):
        one = {name: [ids[index % len(ids)]] for name, ids in arguments.items()}
        start = time.perf_counter()
        client.features(service, **one)
        spent.append((time.perf_counter() - start) * 1_000)
    return round(sorted(spent)[len(spent) // 2], 2)


def _sample(home, as_of: datetime, entities: int, seed: int):
    """Pairs of distinct users and items with interactions, each at ``as_of``: ids ordered by a seeded hash."""
    import pyarrow as pa

    from lettingo_features.columns import EVENT_TIMESTAMP, ITEM_ID, TIMESTAMP, USER_ID
    from lettingo_features.sql import connect

    def ids(column: str) -> list[str]:
        query = f"""
            SELECT {column} FROM (SELECT DISTINCT {column} FROM {home.scan("interactions")})
            ORDER BY sha256({column} || '/{int(seed)}') LIMIT {int(entities)}
        """
        return [row[0] for row in connect(home.spill).execute(query).fetchall()]

    users, items = ids(USER_ID), ids(ITEM_ID)
    n = min(len(users), len(items))
    return pa.table({USER_ID: users[:n], ITEM_ID: items[:n], EVENT_TIMESTAMP: pa.array([as_of] * n, TIMESTAMP)})
