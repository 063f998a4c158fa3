"""Catalogue of the synthetic world, and how an item is picked from it at an instant."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.data import synthetic_words as words

MAX_CATEGORIES = 3
POPULARITY_EXPONENT = 0.8  # weight of the k-th most popular item is k**-0.8: the head of real catalogues, not extreme
RELEASED_AT_START = 0.5


class Catalogue:
    """Items as arrays; an item's index is its row.

    Attributes
    ----------
    categories : int array (n_items, 3)
        Category indices, main one first, -1 where an item has fewer.
    popularity : float array (n_items,)
        Relative weight among the items that are out.
    released : int array (n_items,)
        Seconds after the world's start from which the item can be met; half of the items are there from the start.
    quality : float array (n_items,)
        Shift of its ratings in stars; popular items are a little better.
    strong, weak : int arrays (n_items, 2) and (n_items,)
        Aspects that reviews praise and fault.
    """

    def __init__(
        self, rng: np.random.Generator, n_items: int, category_names: tuple[str, ...], duration_s: int
    ) -> None:
        self.category_names = category_names
        self.titles = words.titles(rng, n_items)
        n_categories = len(category_names)
        # Skewed supply: the first names fill more of the catalogue than the last (4 : 1 with 18 names).
        supply = np.linspace(1.6, 0.4, n_categories) / n_categories
        keys = rng.exponential(size=(n_items, n_categories)) / supply  # the smallest keys are a weighted sample
        self.categories = np.argsort(keys, axis=1)[:, :MAX_CATEGORIES]
        n_own = rng.choice([1, 2, 3], size=n_items, p=[0.4, 0.4, 0.2])
        self.categories[np.arange(MAX_CATEGORIES) >= n_own[:, None]] = -1
        rank = rng.permutation(n_items) + 1
        self.popularity = rank**-POPULARITY_EXPONENT
        self.released = (rng.random(n_items) * duration_s).astype(np.int64)
        self.released[rng.random(n_items) < RELEASED_AT_START] = 0
        self.quality = rng.normal(0, 0.3, n_items) + 0.3 * (0.5 - rank / n_items)
        aspects = np.argsort(rng.random((n_items, len(words.ASPECTS))), axis=1)
        self.strong, self.weak = aspects[:, :2], aspects[:, 2]
        self._shelves = [self._shelf(index) for index in range(n_categories)]
        self._everything = self._sorted(np.arange(n_items), self.popularity)

    def table(self) -> pa.Table:
        """Schema `columns.ITEMS` without created_timestamp."""
        own = self.categories >= 0
        offsets = np.r_[0, own.sum(axis=1).cumsum()].astype(np.int32)
        names = words.pick(self.category_names, self.categories[own])
        categories = pa.ListArray.from_arrays(pa.array(offsets), names)
        arrays = {
            c.ITEM_ID: self.ids(np.arange(len(own))),
            c.TITLE: self.titles,
            c.CATEGORIES: categories,
            c.DESCRIPTION: words.descriptions(categories, self.strong, self.weak),
        }
        schema = pa.schema([field for field in c.ITEMS if field.name in arrays])
        return pa.table([arrays[name] for name in schema.names], schema=schema)

    def ids(self, index: np.ndarray) -> pa.Array:
        """Zero-padded ids, so that a reader that takes ids for numbers is found out."""
        return numbered("i", index, 6)

    def pick(self, category: np.ndarray, second: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Items met at ``second`` in ``category`` (-1: anywhere), by popularity among those already out; all (n,).

        ``draw`` holds uniforms in [0, 1). A category without any item yet is read as -1.
        """
        picked = np.full(len(category), -1)
        for index, shelf in enumerate(self._shelves):
            rows = np.flatnonzero(category == index)
            picked[rows] = _draw(shelf, second[rows], draw[rows])
        rows = np.flatnonzero(picked < 0)
        picked[rows] = _draw(self._everything, second[rows], draw[rows])
        return picked

    def _shelf(self, category: int):
        member = np.flatnonzero((self.categories == category).any(axis=1))
        main = self.categories[member, 0] == category
        return self._sorted(member, self.popularity[member] * np.where(main, 1.0, 0.2))

    def _sorted(self, items: np.ndarray, weight: np.ndarray):
        """(items by release, their release, running weight): what is out at an instant is a prefix."""
        order = np.argsort(self.released[items], kind="stable")
        return items[order], self.released[items[order]], np.cumsum(weight[order])


def numbered(prefix: str, index: np.ndarray, width: int) -> pa.Array:
    return words.join(prefix, pa.compute.utf8_lpad(pa.array(index).cast(pa.string()), width, "0"))


def _draw(shelf, second: np.ndarray, draw: np.ndarray) -> np.ndarray:
    items, released, running = shelf
    n_out = np.searchsorted(released, second, side="right")
    if len(items) == 0:
        return np.full(len(second), -1)
    chosen = np.searchsorted(running, draw * running[np.maximum(n_out, 1) - 1], side="right")
    return np.where(n_out > 0, items[np.minimum(chosen, np.maximum(n_out, 1) - 1)], -1)
