"""Scorers and inputs that a profile must beat: popularity, item-kNN, random, raw history, another user's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from lettingo_features.errors import DataError
from lettingo_features.evaluation.metrics import user_seed

DAY_US = 86_400_000_000
NEVER = -(2**62)
"An instant before all others, in microseconds; far enough from the end of int64 to subtract a window from it."


@dataclass(frozen=True)
class History:
    """Interactions before the test as numbers, by user and then time.

    Attributes
    ----------
    user, item, instant : numpy.ndarray
        int64 (N,): number of the user, number of the item, microseconds since 1970 UTC.
    user_ids : pa.Array
        Id of each user number; item numbers are rows of the items table.
    n_items : int
    """

    user: np.ndarray
    item: np.ndarray
    instant: np.ndarray
    user_ids: pa.Array
    n_items: int

    @staticmethod
    def of(history: pa.Table, item_ids: pa.Array) -> History:
        """Number ``user_id, item_id, event_timestamp`` rows; those of items outside ``item_ids`` are left out."""
        item = pc.index_in(history["item_id"], value_set=item_ids)
        known = item.is_valid()
        user = history["user_id"].filter(known).combine_chunks().dictionary_encode()
        columns = (
            user.indices.to_numpy().astype(np.int64),
            item.filter(known).to_numpy().astype(np.int64),
            microseconds(history["event_timestamp"].filter(known)),
        )
        order = np.lexsort((columns[1], columns[2], columns[0]))
        return History(*(column[order] for column in columns), user.dictionary, len(item_ids))

    def matrix(self) -> sparse.csr_array:
        """float32 (users, items), 1 where the user has interacted with the item."""
        ones = np.ones(self.item.size, dtype=np.float32)
        matrix = sparse.csr_array((ones, (self.user, self.item)), shape=(len(self.user_ids), self.n_items))
        matrix.data[:] = 1  # building it added up repeated pairs
        return matrix

    def windows(self, user_ids: pa.Array, ends: np.ndarray, days: int, newest: int) -> sparse.csr_array:
        """Items of the newest interactions of a user in ``[end - days, end)``, for many users and ends at once.

        Parameters
        ----------
        user_ids : pa.Array
            Length P; unknown users have an empty window.
        ends : numpy.ndarray
            int64 (P,), microseconds; the end is open.
        days, newest : int
            Length of the window, and the number of interactions kept in it.

        Returns
        -------
        scipy.sparse.csr_array
            float32 (P, items), 1 where the item is in the window.
        """
        instants = np.unique(self.instant)
        width = instants.size + 1
        keys = self.user * width + np.searchsorted(instants, self.instant)
        user = pc.fill_null(pc.index_in(user_ids, value_set=self.user_ids), -1).to_numpy().astype(np.int64)
        stop = np.searchsorted(keys, user * width + np.searchsorted(instants, ends))
        start = np.searchsorted(keys, user * width + np.searchsorted(instants, ends - days * DAY_US))
        start = np.where(user < 0, stop, np.maximum(start, stop - newest))
        offsets = np.concatenate([[0], np.cumsum(stop - start)])
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, stop - start)
        ones = np.ones(rows.size, dtype=np.float32)
        matrix = sparse.csr_array((ones, self.item[rows], offsets), shape=(len(user), self.n_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def popularity(self, end: datetime, days: int) -> np.ndarray:
        """float32 (items,): interactions of each item in ``[end - days, end)``."""
        end_us = int(end.timestamp() * 1e6)
        inside = (self.instant >= end_us - days * DAY_US) & (self.instant < end_us)
        return np.bincount(self.item[inside], minlength=self.n_items).astype(np.float32)


class ItemKnn:
    """Item-to-item neighbours by cosine of who interacted with them.

    The score of an item is the sum of its cosines with the items of a user. All neighbours count, so that the product
    ``rows @ columns.T @ columns`` can be taken from the left and the items x items matrix is never built.
    """

    def __init__(self, history: History) -> None:
        matrix = history.matrix()
        norms = np.sqrt(matrix.sum(axis=0))
        self._columns = matrix @ sparse.diags_array(1 / np.maximum(norms, 1), dtype=np.float32)

    def scores(self, rows: sparse.csr_array) -> np.ndarray:
        """float32 (U, items) for the seen items of U users, float32 (U, items), 1 where seen."""
        return (rows @ self._columns.T @ self._columns).toarray().astype(np.float32)


def random_scores(user_ids: Sequence[str], n_items: int, seed: int) -> np.ndarray:
    """float32 (U, n_items), uniform, one stream per user."""
    streams = [np.random.default_rng(user_seed(seed, user_id)) for user_id in user_ids]
    return np.stack([stream.random(n_items, dtype=np.float32) for stream in streams])


def foreign_rows(user_ids: pa.Array, instants: np.ndarray, present: np.ndarray, seed: int) -> np.ndarray:
    """For each row, the row of another user whose profile it takes; rows without a profile keep themselves.

    The users with a profile are put in a random ring and each takes over the rows of the next one, in order of time, so
    nobody keeps their own profile, a user gets the profiles of one other user, and who has a profile stays the same.

    Parameters
    ----------
    user_ids : pa.Array
        Length N.
    instants : numpy.ndarray
        int64 (N,), microseconds: the instant of each row.
    present : numpy.ndarray
        bool (N,), True where the row has a profile.
    seed : int

    Returns
    -------
    numpy.ndarray
        int64 (N,)

    Raises
    ------
    DataError
        If fewer than two users have a profile.
    """
    donors = np.arange(len(user_ids))
    rows = np.flatnonzero(present)
    users = user_ids.take(pa.array(rows))
    names = np.sort(pc.unique(users).to_numpy(zero_copy_only=False))  # a ring that ignores the order of the rows
    if len(names) < 2:
        raise DataError(
            f"Profiles cannot be shuffled: {len(names)} of {len(pc.unique(user_ids))} users have one. "
            "Generate profiles for more users before the labels."
        )
    user = pc.index_in(users, value_set=pa.array(names)).to_numpy().astype(np.int64)
    order = np.lexsort((instants[rows], user))
    counts = np.bincount(user)
    starts = np.cumsum(counts) - counts
    ring = np.random.default_rng(seed).permutation(counts.size)
    following = np.empty_like(ring)
    following[ring] = np.roll(ring, -1)
    within = np.arange(rows.size) - np.repeat(starts, counts)  # the user's n-th row ...
    giver = following[user[order]]
    taken = starts[giver] + within % counts[giver]  # ... takes the n-th of the giver, again from the first when short
    donors[rows[order]] = rows[order][taken]
    return donors


def microseconds(timestamps: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """int64 microseconds since 1970 UTC; null becomes ``NEVER``."""
    values = pc.cast(pc.cast(timestamps, pa.timestamp("us", tz="UTC")), pa.int64())
    return pc.fill_null(values, NEVER).to_numpy()
