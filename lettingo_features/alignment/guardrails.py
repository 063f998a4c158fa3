"""Guardrails of the gate: what a candidate must not spoil, whatever it gains.

A guardrail is a limit on what was measured, not a test: harm need not be proven, so the limits leave room for the noise
of a sample. What was not measured holds a candidate back, and what had nothing to measure is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import DataError

State = Literal["held", "broken", "unmeasured", "nothing to check"]
_ROUNDING = 1e-9  # relative: 0.99 - 0.01 is not 0.98 in floats, and a limit includes its end


class GuardrailLimits(Config):
    """How much worse than the released generator a candidate may be; None turns a guardrail off."""

    coverage_drop: float | None = Field(0.01, ge=0)
    "Share of users with a text: the most that it may fall, absolute."
    cold_coverage_drop: float | None = Field(0.02, ge=0)
    "The same among cold users; wider, as they are few."
    length_ratio: float | None = Field(1.5, ge=1)
    "Median words per text: at most this many times the released one, and at least one part in this many."
    unsupported_rise: float | None = Field(0.02, ge=0)
    "Share of claims without support in the window: the most that it may rise, absolute."
    lint_rise: float | None = Field(0.02, ge=0)
    "Lint findings per text: the most that they may rise, absolute."
    cost_ratio: float | None = Field(1.5, ge=1)
    "Money per 1,000 users: at most this many times the released one. Nothing may follow from free but free."
    latency_ratio: float | None = Field(2.0, ge=1)
    "Seconds of generation per 1,000 users, on the same hardware; wide, as timings on a shared machine vary by half."


@dataclass(frozen=True, eq=False)
class GeneratorFacts:
    """What one generator did for the users of the gate; None is "not measured", which is not 0.

    Attributes
    ----------
    n_users, n_with_text : int
        Users asked for, and those of them with a text.
    words : numpy.ndarray or None
        int (n_with_text,), words per text.
    n_cold, n_cold_with_text : int or None
        Of the users, those with a short history, and those of them with a text. Who is cold is the caller's rule, the
        same for both generators.
    n_claims, n_unsupported : int or None
        Claims made, and those of them dropped for lack of support in the window.
    n_lint : int or None
        Lint findings over all texts.
    cost : float or None
        Money for all texts; any currency, the same for both generators.
    seconds : float or None
        Wall seconds of generation for all texts.

    Raises
    ------
    DataError
        Counts that contradict each other.
    """

    n_users: int
    n_with_text: int
    words: np.ndarray | None = None
    n_cold: int | None = None
    n_cold_with_text: int | None = None
    n_claims: int | None = None
    n_unsupported: int | None = None
    n_lint: int | None = None
    cost: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        parts = (
            ("n_with_text", self.n_with_text, "n_users", self.n_users),
            ("n_cold", self.n_cold, "n_users", self.n_users),
            ("n_cold_with_text", self.n_cold_with_text, "n_cold", self.n_cold),
            ("n_unsupported", self.n_unsupported, "n_claims", self.n_claims),
        )
        for part, inside, whole, all_of in parts:
            if inside is not None and all_of is not None and not 0 <= inside <= all_of:
                raise DataError(f"{part} is {inside:,} of {whole} {all_of:,}: count both over the same users.")
        if self.n_users < 1:
            raise DataError("A generator's facts need at least one user.")
        if self.words is not None and len(self.words) != self.n_with_text:
            raise DataError(f"{len(self.words):,} word counts for {self.n_with_text:,} texts: give one per text.")
        for name, amount in (("n_lint", self.n_lint), ("cost", self.cost), ("seconds", self.seconds)):
            if amount is not None and not 0 <= amount < math.inf:
                raise DataError(f"{name} is {amount}: give a number from 0 up, or None where it was not measured.")

    @property
    def median_words(self) -> float | None:
        """NaN without any text."""
        if self.words is None:
            return None
        return float(np.median(self.words)) if len(self.words) else math.nan


@dataclass(frozen=True)
class Guardrail:
    """One measure of both generators, and the range that the candidate must stay in.

    ``candidate`` and ``released`` are None where nobody measured, NaN where there was nothing to measure (no cold
    users, no claims). ``low`` and ``high`` are inclusive ends, None for no end; ``limit`` says them in words.
    """

    name: str
    candidate: float | None
    released: float | None
    limit: str
    low: float | None = None
    high: float | None = None

    @property
    def state(self) -> State:
        """Whether it held."""
        if self.candidate is None or self.released is None:
            return "unmeasured"
        if math.isnan(self.candidate):
            return "nothing to check"
        slack = _ROUNDING * max(abs(self.candidate), 1e-12)
        below = self.low is not None and self.candidate < self.low - slack
        above = self.high is not None and self.candidate > self.high + slack
        return "broken" if below or above else "held"

    def sentence(self) -> str:
        """What was found, in words."""
        if self.state == "unmeasured":
            names = (("candidate", self.candidate), ("released generator", self.released))
            missing = " and ".join(f"the {name}" for name, value in names if value is None)
            return f"{self.name} was not measured for {missing}: measure it, or turn this guardrail off"
        if self.state == "nothing to check":
            return f"{self.name} had nothing to check in the candidate"
        verb = "is within its limit" if self.state == "held" else "breaks its limit"
        released = "nothing" if math.isnan(self.released) else f"{self.released:.4g}"
        return f"{self.name} {verb}: {self.candidate:.4g} against {released} ({self.limit})"


def guardrails(candidate: GeneratorFacts, released: GeneratorFacts, limits: GuardrailLimits) -> tuple[Guardrail, ...]:
    """Every guardrail that ``limits`` turns on, for two generators that were given the same users.

    Raises
    ------
    DataError
        The two were asked for different numbers of users.
    """
    if (candidate.n_users, candidate.n_cold) != (released.n_users, released.n_cold):
        raise DataError(
            f"The candidate has facts of {candidate.n_users:,} users ({candidate.n_cold} cold), the released generator "
            f"of {released.n_users:,} ({released.n_cold} cold): ask both for the same users."
        )

    def both(measure: str, per: str, scale: float = 1.0) -> tuple[float | None, float | None]:
        return tuple(_ratio(getattr(facts, measure), getattr(facts, per), scale) for facts in (candidate, released))

    found = (
        _no_lower("coverage", *both("n_with_text", "n_users"), limits.coverage_drop),
        _no_lower("coverage of cold users", *both("n_cold_with_text", "n_cold"), limits.cold_coverage_drop),
        _as_long(candidate.median_words, released.median_words, limits.length_ratio),
        _no_higher("share of unsupported claims", *both("n_unsupported", "n_claims"), limits.unsupported_rise),
        _no_higher("number of lint findings per text", *both("n_lint", "n_with_text"), limits.lint_rise),
        _no_dearer("cost per 1,000 users", *both("cost", "n_users", 1_000), limits.cost_ratio),
        _no_dearer("time per 1,000 users in seconds", *both("seconds", "n_users", 1_000), limits.latency_ratio),
    )
    return tuple(guardrail for guardrail in found if guardrail is not None)


def _ratio(amount: float | None, per: float | None, scale: float) -> float | None:
    if amount is None or per is None:
        return None
    return scale * amount / per if per else math.nan


def _base(released: float | None) -> float:
    """What a limit is counted from: a released generator that had nothing to measure had no harm either."""
    return 0.0 if released is None or math.isnan(released) else released


def _no_lower(name: str, candidate: float | None, released: float | None, drop: float | None) -> Guardrail | None:
    if drop is None:
        return None
    return Guardrail(name, candidate, released, f"at most {drop:g} lower", low=_base(released) - drop)


def _no_higher(name: str, candidate: float | None, released: float | None, rise: float | None) -> Guardrail | None:
    if rise is None:
        return None
    return Guardrail(name, candidate, released, f"at most {rise:g} higher", high=_base(released) + rise)


def _no_dearer(name: str, candidate: float | None, released: float | None, ratio: float | None) -> Guardrail | None:
    if ratio is None:
        return None
    return Guardrail(name, candidate, released, f"at most {ratio:g} times", high=_base(released) * ratio)


def _as_long(candidate: float | None, released: float | None, ratio: float | None) -> Guardrail | None:
    if ratio is None:
        return None
    limit = f"between 1/{ratio:g} and {ratio:g} times"
    if not _base(released):  # the released generator wrote nothing: no length to keep to
        return Guardrail("median length in words", candidate, released, limit)
    return Guardrail("median length in words", candidate, released, limit, low=released / ratio, high=released * ratio)
