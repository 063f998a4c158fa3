"""Paired statistics over users: bootstrap interval, permutation test, Holm's correction (METHODS 6, trap 11)."""

from __future__ import annotations

import numpy as np


def bootstrap_intervals(values: np.ndarray, resamples: int, confidence: float, seed: int) -> np.ndarray:
    """Percentile bootstrap intervals of column means; users are resampled, the same ones for every column.

    Parameters
    ----------
    values : numpy.ndarray
        float (U, K), one row per user; differences between two arms make the interval a paired one.
    resamples : int
    confidence : float
        In (0, 1).
    seed : int

    Returns
    -------
    numpy.ndarray
        float64 (K, 2), lower and upper end.
    """
    n_users = len(values)
    counts = np.random.default_rng(seed).multinomial(n_users, np.full(n_users, 1 / n_users), size=resamples)
    means = counts @ values / n_users
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0).T


def paired_p_value(differences: np.ndarray, permutations: int, seed: int) -> float:
    """Two-sided p of "the two arms are exchangeable for each user": signs of the differences are flipped at random.

    Parameters
    ----------
    differences : numpy.ndarray
        float (U,), one difference per user.
    permutations : int
        Random sign patterns; the smallest p is ``2 / (permutations + 1)``. All patterns are tried when there are fewer.
    seed : int
    """
    from scipy.stats import permutation_test

    result = permutation_test(
        (differences,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=max(1, 4_000_000 // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given; float64 (K,)."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted
