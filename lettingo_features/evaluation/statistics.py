"""Paired statistics over users: bootstrap intervals, permutation test, Holm's correction (traps: PAPERS.md)."""

from __future__ import annotations

import numpy as np


class Bootstrap:
    """Percentile bootstrap over users and over training seeds, the same draws for every interval.

    A test over users alone takes the trained rankers as given; what another seed would have changed is as real.
    Seeds are few, and resampling S of them shows only (S - 1) / S of their variance: use five rather than three.

    Parameters
    ----------
    n_users : int
    resamples : int
    confidence : float
        In (0, 1).
    seed : int
    """

    def __init__(self, n_users: int, resamples: int, confidence: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._users = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=resamples) / n_users  # (B, U)
        self._seed = int(rng.integers(2**63))
        tail = (1 - confidence) / 2
        self._ends = [tail, 1 - tail]

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Lower and upper end of the mean of ``values``, float (S, U): seeds x users; S = 1 for what has no seed."""
        n_seeds = len(values)
        draws = np.random.default_rng(self._seed).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), len(self._users))
        means = np.einsum("bs,bs->b", self._users @ values.T, draws / n_seeds)
        low, high = np.quantile(means, self._ends)
        return float(low), float(high)

    def studentized_interval(self, values: np.ndarray) -> tuple[float, float]:
        """Lower and upper end of the mean of ``values``, float (U,): the bootstrap-t (Efron & Tibshirani 1993, ch. 12).

        Each resample's mean is taken in units of its own standard error, so that the interval follows the skew of the
        values, which a percentile interval gets wrong in the dangerous direction: few users that lose much are missing
        from many resamples. A resample without spread is taken in units of the sample's.
        """
        n_users = len(values)
        mean = values.mean()
        centred = values - mean
        means = self._users @ centred
        variances = np.maximum(self._users @ centred**2 - means**2, 0) * n_users / (n_users - 1)
        error = centred.std(ddof=1) / np.sqrt(n_users)
        errors = np.sqrt(variances / n_users)
        errors = np.where(errors > 1e-6 * error, errors, error)
        if not error:
            return float(mean), float(mean)
        low, high = np.quantile(means / errors, self._ends)
        return float(mean - high * error), float(mean - low * error)


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
    from scipy.stats import monte_carlo_test, permutation_test

    if 2 ** min(len(differences), 64) <= permutations:
        exact = permutation_test(
            (differences,), _mean, permutation_type="samples", vectorized=True, n_resamples=permutations
        )
        return float(exact.pvalue)
    rng = np.random.default_rng(seed)
    result = monte_carlo_test(  # the same null as permutation_test's, which sorts to flip a sign: ten times its speed
        differences,
        lambda size: np.where(rng.integers(0, 2, size, dtype=bool), differences, -differences),
        _mean,
        vectorized=True,
        n_resamples=permutations,
        batch=max(1, 4_000_000 // len(differences)),
    )
    return float(result.pvalue)


def _mean(sample: np.ndarray, axis: int) -> np.ndarray:
    return sample.mean(axis=axis)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given; float64 (K,)."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted
