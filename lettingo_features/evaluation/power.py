"""Power of a paired comparison: the gain that a number of users can show, and the users that a gain needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

UPPER_LIMIT = 0.95
"""One-sided confidence of the spread that is planned with: a sample's own spread is too small half the time, and then
so is the number of users (Browne 1995, Statistics in Medicine 14: plan with an upper limit of 80 % or more). Under
heavy tails it is too small most of the time; 95 % keeps the power there too (python -m tests.bench.simulate_gate)."""


@dataclass(frozen=True)
class PairedDesign:
    """A two-sided test of a mean difference at level ``alpha``, by the normal approximation.

    Attributes
    ----------
    spread : float
        Standard deviation of the differences over users, in the metric's units.
    alpha : float
        Level of this one test: under Holm over K metrics ``alpha / K``, that of its hardest step.
    """

    spread: float
    alpha: float

    @staticmethod
    def of(differences: np.ndarray, alpha: float) -> PairedDesign:
        """Plan with the upper ``UPPER_LIMIT`` of the spread of ``differences``, float64 (U,), U >= 2.

        The limit uses the sample's fourth moment, Var(s^2) = (m4 - s^4 (U - 3) / (U - 1)) / U, since differences of
        ranking metrics are mostly 0 and heavy-tailed: the chi-squared limit, right for a bell curve, would be too low.
        """
        n = len(differences)
        variance = float(differences.var(ddof=1))
        fourth = float(((differences - differences.mean()) ** 4).mean())
        error = math.sqrt(max(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n)
        return PairedDesign(math.sqrt(variance + NormalDist().inv_cdf(UPPER_LIMIT) * error), alpha)

    def power(self, effect: float, n_users: int) -> float:
        """Probability that a gain of ``effect`` > 0 is found, as a gain, with ``n_users``."""
        if not self.spread:
            return 1.0
        return NormalDist().cdf(effect * math.sqrt(n_users) / self.spread - self._critical)

    def detectable(self, n_users: int, power: float) -> float:
        """The smallest gain that ``n_users`` show with probability ``power``."""
        return self._distance(power) * self.spread / math.sqrt(n_users)

    def users(self, effect: float, power: float) -> int:
        """Users with whom a gain of ``effect`` > 0 is found with probability ``power``."""
        return max(2, math.ceil((self._distance(power) * self.spread / effect) ** 2))

    @property
    def _critical(self) -> float:
        return NormalDist().inv_cdf(1 - self.alpha / 2)

    def _distance(self, power: float) -> float:
        return max(self._critical + NormalDist().inv_cdf(power), 0.0)
