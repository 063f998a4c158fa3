"""Inputs of the uplift table in which we know whether profiles help: users like items near their hidden taste."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import TIMESTAMP
from lettingo_features.evaluation.features import ITEM_NUMBERS, USER_NUMBERS
from lettingo_features.evaluation.splits import Split
from lettingo_features.evaluation.uplift import ProfileRows, UpliftInputs

TRAIN_START = datetime(2026, 1, 1, tzinfo=UTC)
TEST_START = TRAIN_START + timedelta(days=20)
CATEGORIES = ["comedy", "drama", "noir"]
N_USERS, N_ITEMS, DIMS = 60, 80, 16
QUERIES_PER_USER, NEGATIVES, RELEVANT, SEEN = 3, 10, 3, 6


def lists(values: np.ndarray) -> pa.Array:
    """float (n, d) as list<float32>."""
    offsets = pa.array(np.arange(len(values) + 1) * values.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel().astype(np.float32)))


def times(instants: list[datetime | None]) -> pa.Array:
    return pa.array(instants, TIMESTAMP)


def user_columns(rng: np.random.Generator, n: int) -> dict[str, pa.Array]:
    """Behaviour that says nothing about the taste."""
    columns = {name: pa.array(rng.random(n), pa.float32()) for name in USER_NUMBERS}
    columns["user_top_categories"] = pa.array([CATEGORIES[:2]] * n)
    columns["user_top_category_shares"] = lists(rng.random((n, 2)))
    columns["user_top_category_ratings"] = lists(rng.random((n, 2)) * 5)
    columns["user_behaviour_cutoff_at"] = times([TRAIN_START] * n)
    return columns


def item_columns(rng: np.random.Generator, n: int) -> dict[str, pa.Array]:
    return {name: pa.array(rng.random(n), pa.float32()) for name in ITEM_NUMBERS}


def planted_inputs(informative: bool, seed: int = 0) -> UpliftInputs:
    """LM profiles are the hidden taste, or noise of the same form; the statistical ones are always noise."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(N_ITEMS, DIMS))
    tastes = rng.normal(size=(N_USERS, DIMS))
    liked = np.argsort(-tastes @ items.T, axis=1)[:, : RELEVANT + QUERIES_PER_USER]  # the nearest items
    others = np.argsort(-tastes @ items.T, axis=1)[:, RELEVANT + QUERIES_PER_USER :]
    item_ids = pa.array([f"i{n:03}" for n in range(N_ITEMS)])
    user_ids = pa.array([f"u{n:03}" for n in range(N_USERS)])

    # Early history: random unliked items, so that neither item-kNN nor the history embedding can know the taste.
    seen = np.stack([rng.permutation(row)[:SEEN] for row in others])
    history = pa.table(
        {
            "user_id": user_ids.take(pa.array(np.repeat(np.arange(N_USERS), SEEN))),
            "item_id": item_ids.take(pa.array(seen.ravel())),
            "event_timestamp": times([TRAIN_START - timedelta(days=1 + n % 9) for n in range(seen.size)]),
        }
    )
    user, item, label, query = [], [], [], []
    for number in range(N_USERS * QUERIES_PER_USER):
        asker = number % N_USERS
        positive = liked[asker, RELEVANT + number // N_USERS]
        negatives = rng.choice(np.setdiff1d(others[asker], seen[asker]), NEGATIVES, replace=False)
        user += [asker] * (NEGATIVES + 1)
        item += [positive, *negatives]
        label += [1] + [0] * NEGATIVES
        query += [number] * (NEGATIVES + 1)
    order = rng.permutation(len(user))  # rows may come in any order
    user, item, label, query = (np.array(column)[order] for column in (user, item, label, query))
    instants = times([TRAIN_START + timedelta(days=1 + int(number) % 15) for number in query])

    users = pa.table(
        {"user_id": user_ids, "event_timestamp": times([TEST_START] * N_USERS)} | user_columns(rng, N_USERS)
    )
    vectors = lists(items)
    catalogue = {"item_id": item_ids, "item_text_embedding": vectors} | item_columns(rng, N_ITEMS)
    train = {
        "query_id": pa.array(query),
        "user_id": user_ids.take(pa.array(user)),
        "item_id": item_ids.take(pa.array(item)),
        "event_timestamp": instants,
        "label": pa.array(label),
        "item_text_embedding": vectors.take(pa.array(item)),
    }
    train |= {name: users[name].combine_chunks().take(pa.array(user)) for name in users.column_names[2:]}
    train |= {name: catalogue[name].take(pa.array(item)) for name in ITEM_NUMBERS}

    def profiles(texts: np.ndarray) -> ProfileRows:
        without = np.arange(N_USERS) % 10 == 9  # every tenth user has no profile
        embedding = pc.if_else(pa.array(without), None, lists(texts))
        cutoff = times([None if missing else TRAIN_START for missing in without])
        test = pa.table({"profile_embedding": embedding, "profile_embedding_cutoff_at": cutoff})
        return ProfileRows(test.take(pa.array(user)), test)

    noise = rng.normal(size=(2, N_USERS, DIMS))
    return UpliftInputs(
        split=Split(TRAIN_START, TEST_START, TEST_START + timedelta(days=10)),
        train=pa.table(train),
        test_users=users,
        items=pa.table(catalogue | {"categories": pa.array([[CATEGORIES[n % 3]] for n in range(N_ITEMS)])}),
        history=history,
        relevant=pa.table(
            {
                "user_id": user_ids.take(pa.array(np.repeat(np.arange(N_USERS), RELEVANT))),
                "item_id": item_ids.take(pa.array(liked[:, :RELEVANT].ravel())),
            }
        ),
        statistical=profiles(noise[0]),
        language_model=profiles(tastes if informative else noise[1]),
        counts={"test_cold_users": 7},
    )
