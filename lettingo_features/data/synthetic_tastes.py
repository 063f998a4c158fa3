"""Latent tastes of the synthetic world: a few weighted interests per user that change at instants of their own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MIN_INTERESTS, MAX_INTERESTS = 2, 4
MAX_CHANGES = 3
SLOT_WEIGHTS = (1.0, 0.33, 0.22, 0.15)  # before noise: a clear first interest, as most histories show
REPLACED_SHARE = 0.6  # changes that bring a new interest; in the others two neighbours trade places
MIN_CATEGORIES = MAX_INTERESTS + 1 + MAX_CHANGES  # interests, the disliked one, and one new at every change


class Tastes(NamedTuple):
    """Tastes of n users over n_categories categories."""

    change_s: np.ndarray
    """(n, MAX_CHANGES) float: ascending seconds at which a user's taste changes, inf for no change."""
    weights: np.ndarray
    """(n, MAX_CHANGES + 1, n_categories) float32: weights between changes, each row sums to 1."""
    disliked: np.ndarray
    """(n,) int: the category that a user rates low throughout; never an interest."""

    def at(self, user: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Weights (m, n_categories) of users ``user`` at ``second``, both (m,); a change holds from its instant on."""
        return self.weights[user, (self.change_s[user] <= second[:, None]).sum(axis=1)]


def draw_tastes(rng: np.random.Generator, n: int, n_categories: int, duration_s: float, changes: float) -> Tastes:
    """Tastes of ``n`` users who change ``changes`` times on average (at most MAX_CHANGES) over the duration."""
    shuffled = np.argsort(rng.random((n, n_categories)), axis=1)
    slots, disliked = shuffled[:, :MAX_INTERESTS].copy(), shuffled[:, MAX_INTERESTS]
    n_interests = rng.integers(MIN_INTERESTS, MAX_INTERESTS + 1, size=n)
    active = np.arange(MAX_INTERESTS) < n_interests[:, None]
    strength = active * np.array(SLOT_WEIGHTS) * rng.lognormal(0, 0.1, (n, MAX_INTERESTS))
    strength = strength / strength.sum(axis=1, keepdims=True)

    n_changes = np.minimum(rng.poisson(changes, n), MAX_CHANGES)
    change_s = np.sort(rng.random((n, MAX_CHANGES)) * duration_s, axis=1)
    change_s[np.arange(MAX_CHANGES) >= n_changes[:, None]] = np.inf

    weights = np.zeros((n, MAX_CHANGES + 1, n_categories), dtype=np.float32)
    users = np.arange(n)
    for stage in range(MAX_CHANGES + 1):
        if stage > 0:
            slot = (rng.random(n) * n_interests).astype(int)
            below = np.maximum(slot - 1, 0)
            own, other = slots[users, slot], slots[users, below]
            replaced = (rng.random(n) < REPLACED_SHARE) | (slot == 0)
            slots[users, slot] = np.where(replaced, shuffled[:, MAX_INTERESTS + stage], other)
            slots[users, below] = np.where(replaced, slots[users, below], own)
        weights[users[:, None], stage, slots] = strength
    return Tastes(change_s, weights, disliked)
