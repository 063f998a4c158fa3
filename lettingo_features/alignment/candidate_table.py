"""Kinds of texts beside each other: mean per user, intervals, and paired tests under Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lettingo_features.errors import DataError
from lettingo_features.evaluation.statistics import Bootstrap, holm, paired_p_value
from lettingo_features.text_table import aligned

RESAMPLES, PERMUTATIONS = 4_999, 9_999


@dataclass(frozen=True, slots=True)
class ArmMean:
    """One row of a reward table; ``interval`` is a bootstrap-t over users."""

    arm: str
    n_users: int
    mean: float
    interval: tuple[float, float]
    share_above_zero: float
    """Of the users: a mean can rest on few."""


@dataclass(frozen=True, slots=True)
class Difference:
    """``first`` less ``second`` on the same users; ``p_value`` two-sided by sign flips, ``adjusted`` after Holm."""

    first: str
    second: str
    mean: float
    interval: tuple[float, float]
    p_value: float
    adjusted: float


class CandidateTable:
    """Values of A arms for the same U users.

    Parameters
    ----------
    values
        Arm -> float64 (U,), finite.
    confidence
        Of all intervals.
    seed
        Of resampling; every interval uses the same resamples.

    Raises
    ------
    DataError
        An arm lacks users, or has a value that is not finite.
    """

    def __init__(self, values: Mapping[str, np.ndarray], confidence: float = 0.95, seed: int = 0) -> None:
        self.values = {arm: np.asarray(each, np.float64) for arm, each in values.items()}
        sizes = {arm: len(each) for arm, each in self.values.items()}
        if len(set(sizes.values())) != 1 or min(sizes.values()) < 2:
            raise DataError(f"Arms are compared on the same users, two at least; here they have {sizes}.")
        for arm, each in self.values.items():
            n_bad = int((~np.isfinite(each)).sum())
            if n_bad:
                raise DataError(f"{arm}: {n_bad} of {len(each)} values are not finite. Leave those users out of all.")
        self._seed = seed
        self._bootstrap = Bootstrap(min(sizes.values()), RESAMPLES, confidence, seed)

    def means(self) -> list[ArmMean]:
        """One row per arm, in the order given."""
        return [
            ArmMean(
                arm, len(each), float(each.mean()), self._bootstrap.studentized_interval(each), float((each > 0).mean())
            )
            for arm, each in self.values.items()
        ]

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
        """Paired differences; Holm's family are the ``pairs``."""
        gaps = [self.values[first] - self.values[second] for first, second in pairs]
        p_values = np.array([paired_p_value(gap, PERMUTATIONS, self._seed) for gap in gaps])
        rows = zip(pairs, gaps, p_values, holm(p_values), strict=True)
        return [
            Difference(*pair, float(gap.mean()), self._bootstrap.studentized_interval(gap), float(p), float(adjusted))
            for pair, gap, p, adjusted in rows
        ]


def means_text(rows: Sequence[ArmMean], digits: int = 4) -> str:
    """``rows`` for a terminal."""
    head = ["", "users", "mean", "95 % interval", "above 0"]
    lines = [
        [
            row.arm,
            f"{row.n_users:,}",
            f"{row.mean:+.{digits}f}",
            _ends(row.interval, digits),
            f"{row.share_above_zero:.0%}",
        ]
        for row in rows
    ]
    return aligned([head, *lines])


def differences_text(rows: Sequence[Difference], digits: int = 4) -> str:
    """``rows`` for a terminal."""
    head = ["", "difference", "95 % interval", "p", "p (Holm)"]
    lines = [
        [
            f"{row.first} - {row.second}",
            f"{row.mean:+.{digits}f}",
            _ends(row.interval, digits),
            f"{row.p_value:.4f}",
            f"{row.adjusted:.4f}",
        ]
        for row in rows
    ]
    return aligned([head, *lines])


def _ends(interval: tuple[float, float], digits: int) -> str:
    return f"[{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
