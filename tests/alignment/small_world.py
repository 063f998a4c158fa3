"""Small worlds for the judges' tests: hand-written homes, a synthetic one, and scenes in which the right text is known.

In a planted scene half of the users like items of one group and half of the other. Vectors and words of an item tell
its group; behaviour tells popularity alone, for what a user met earlier is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy import sparse

from lettingo_features.alignment.scene import Scene
from lettingo_features.columns import INTERACTIONS, ITEMS, TIMESTAMP
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig
from lettingo_features.evaluation.controls import History
from lettingo_features.evaluation.features import ITEM_NUMBERS, USER_NUMBERS, UserSide, normalised
from lettingo_features.home import Home

T0 = datetime(2026, 1, 1, tzinfo=UTC)
US, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
DIMS = 16
GROUPS = ("harbour", "desert")
WORDS = (("sailor", "anchor", "tide", "lighthouse", "pier"), ("dune", "camel", "oasis", "caravan", "mirage"))

Event = tuple[str, str, datetime, float | None]


def interactions(events: Sequence[Event]) -> pa.Table:
    """(user, item, instant, rating) each."""
    users, items, at, ratings = zip(*events, strict=True)
    n = len(events)
    created = [instant + US for instant in at]
    return pa.table([users, items, at, created, ratings, [None] * n, [None] * n], schema=INTERACTIONS)


def write_home(root: Path, events: Sequence[Event], items: Sequence[tuple[str, str, Sequence[str]]] = ()) -> Home:
    """A home with these interactions and (item, title, categories)."""
    home = Home(root).create()
    home.write_part("interactions", "first", interactions(events), INTERACTIONS)
    if items:
        ids, titles, categories = zip(*items, strict=True)
        n = len(items)
        rows = pa.table([ids, titles, list(categories), [None] * n, [T0] * n], schema=ITEMS)
        home.write_part("items", "first", rows, ITEMS)
    return home


def synthetic_home(root: Path, n_users: int = 150, n_items: int = 250, seed: int = 0) -> Home:
    """The demo's world, small."""
    home = Home(root).create()
    config = WorldConfig(seed=seed, n_users=n_users, n_items=n_items, n_days=400, interactions_per_user=30)
    world = SyntheticWorld(config)
    items = world.items()
    items = items.append_column("created_timestamp", pa.array([config.start] * items.num_rows, TIMESTAMP))
    home.write_part("interactions", "first", world.interactions(), INTERACTIONS)
    home.write_part("items", "first", items.select(ITEMS.names), ITEMS)
    return home


def group_of(n: int) -> np.ndarray:
    """int64 (n,): the group of each of n users or items."""
    return np.arange(n) % 2


def item_vectors(n_items: int, seed: int = 0) -> np.ndarray:
    """float32 (n_items, DIMS), unit length, near the centre of their group."""
    return _near_centres(group_of(n_items), np.random.default_rng([seed, 1]), 1.0)


def profile_vectors(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """float32 (n, DIMS), unit length: texts that speak of these groups."""
    return _near_centres(groups, np.random.default_rng([seed, 2]), 0.7)


def profile_texts(groups: np.ndarray, seed: int = 0) -> list[str]:
    """Texts that speak of these groups in words of the catalogue."""
    rng = np.random.default_rng([seed, 3])
    return [f"Enjoys {' and '.join(rng.choice(WORDS[group], 3, replace=False))} stories." for group in groups]


def planted_scene(n_users: int = 80, n_items: int = 120, n_targets: int = 4, likes: float = 0.95, seed: int = 0):
    """A `Scene` in which a user's targets are of the user's own group with probability ``likes``."""
    rng = np.random.default_rng([seed, 4])
    catalogue = np.random.default_rng(5)  # one catalogue for all scenes
    groups, items = group_of(n_users), group_of(n_items)
    popularity = catalogue.gamma(2.0, 1.0, n_items)
    seen, targets = np.zeros((n_users, n_items), dtype=np.float32), []
    for user in range(n_users):
        met = rng.choice(n_items, 6, replace=False, p=popularity / popularity.sum())
        seen[user, met] = 1
        weight = popularity * np.where(items == groups[user], likes, 1 - likes) * (seen[user] == 0)
        targets.append(rng.choice(n_items, n_targets, replace=False, p=weight / weight.sum()))
    user, item = np.nonzero(seen)
    user_ids = pa.array([f"u{n:04}" for n in range(n_users)])
    numbers = catalogue.random((n_items, len(ITEM_NUMBERS))).astype(np.float32)
    numbers[:, ITEM_NUMBERS.index("item_count_all")] = np.round(20 * popularity)
    categories = sparse.csr_array(np.eye(3, dtype=np.float32)[catalogue.integers(0, 3, n_items)])
    shares = rng.dirichlet(np.ones(3), n_users).astype(np.float32)
    words = [catalogue.choice(WORDS[group], 3, replace=False) for group in items]
    return Scene(
        cutoff=T0,
        user_ids=user_ids,
        users=UserSide(
            numbers=rng.random((n_users, len(USER_NUMBERS))).astype(np.float32),
            shares=sparse.csr_array(shares),
            rated_shares=sparse.csr_array(shares),
            ratings=sparse.csr_array((shares * rng.uniform(1, 5, shares.shape)).astype(np.float32)),
        ),
        item_ids=pa.array([f"i{n:04}" for n in range(n_items)]),
        item_numbers=numbers,
        item_categories=categories,
        category_names=["x", "y", "z"],
        item_texts=[f"{GROUPS[group].title()} {' '.join(each)}" for group, each in zip(items, words, strict=True)],
        history=History(user, item, np.zeros(len(user), dtype=np.int64), user_ids, n_items),
        seen=sparse.csr_array(seen),
        target_user=np.repeat(np.arange(n_users), n_targets),
        target_item=np.concatenate(targets),
        counts={},
    )


def _near_centres(groups: np.ndarray, rng: np.random.Generator, scatter: float) -> np.ndarray:
    centres = np.zeros((2, DIMS))
    centres[[0, 1], [0, 1]] = 1
    noise = rng.normal(size=(len(groups), DIMS)) * scatter / np.sqrt(DIMS)
    return normalised((centres[groups] + noise).astype(np.float32))
