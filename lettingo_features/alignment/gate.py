"""The gate: is a candidate generator better than the released one, by enough, without harm?

Both write for the same users; one frozen evaluator, of another family than the reward and trained without either's
texts of these users, scores both. The unit is the user: seeds, targets and draws are averaged per user before they come
here, since correlated rows counted as data make any p small.

The rule, fixed before any result is seen:

- *promote*: the primary metric is significantly better, its interval still reaches the minimum effect, no other metric
  is significantly worse, and every guardrail was measured and held;
- *reject*: any metric is significantly worse, or a guardrail is broken;
- *hold*: all else, with the reason and, where it is one of numbers, the users that would settle it.

Tests are two-sided although only a gain releases: the gate makes claims in both directions (promote, reject), so both
share alpha, as the metrics do by Holm. The tests then find a difference between identical generators with probability
alpha at most, and a gain, by symmetry, with alpha / 2 at most. That holds exactly where the arms are exchangeable. If
only their means are equal, as when a candidate helps many users a little and harms a few much, sign flips alone would
promote too often: so a difference counts only if its interval, which follows the skew, excludes zero as well.

The estimate of a gain need not reach the minimum effect: half of all true gains of just that size would fail. Nor must
the gain exceed it significantly: that asks for far more users. It must be real, and not shown to be too small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from lettingo_features.alignment.gate_reasons import decision_and_reasons
from lettingo_features.alignment.guardrails import Guardrail, GuardrailLimits
from lettingo_features.alignment.verdict import Comparison, Verdict
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.evaluation.power import PairedDesign
from lettingo_features.evaluation.statistics import Bootstrap, holm, paired_p_value


class MinimumEffect(Config):
    """The smallest gain that is worth a release: in the metric's units, or as a share of the released mean."""

    absolute: float | None = Field(None, gt=0)
    "In the metric's units; for metrics whose mean may be 0 or negative, as a log-likelihood."
    share: float | None = Field(None, gt=0)
    "Of the released generator's mean, which must be positive."

    @model_validator(mode="after")
    def _one_of_two(self) -> MinimumEffect:
        if (self.absolute is None) == (self.share is None):
            raise ValueError("give either absolute or share")
        return self


class GateConfig(Config):
    """How the gate decides; fixed before its users are scored."""

    alpha: float = Field(0.05, gt=0, lt=0.5)
    "Probability, over all metrics and both directions, that the tests tell identical generators apart."
    power: float = Field(0.8, gt=0.5, lt=1)
    "Probability with which a gain of the minimum effect ought to be found; the users needed follow from it."
    minimum_effect: MinimumEffect = MinimumEffect(share=0.02)
    "For every metric without one of its own; 2 % is about the least that a ranker's users would notice."
    minimum_effects: dict[str, MinimumEffect] = {}
    "By metric name."
    permutations: int = Field(9_999, ge=99)
    "Sign patterns of the paired test."
    resamples: int = Field(2_000, ge=100)
    "Bootstrap resamples of the users."
    confidence: float = Field(0.95, gt=0.5, lt=1)
    "Of the intervals."
    seed: int = 0
    "Of permutations and resamples."
    limits: GuardrailLimits = GuardrailLimits()
    "Of the guardrails."


@dataclass(frozen=True, eq=False)
class PairedMetric:
    """One metric of the same users under both generators, higher is better.

    Attributes
    ----------
    name : str
    candidate, released : numpy.ndarray
        float64 (U,), finite, aligned by user; U >= 2.
    """

    name: str
    candidate: np.ndarray
    released: np.ndarray

    def __post_init__(self) -> None:
        shapes = np.shape(self.candidate), np.shape(self.released)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise DataError(
                f"{self.name}: values of shapes {shapes[0]} and {shapes[1]}; give one per user to each generator."
            )
        if shapes[0][0] < 2:
            raise DataError(f"{self.name}: {shapes[0][0]} users; a paired test needs at least 2.")
        for who, values in (("candidate", self.candidate), ("released generator", self.released)):
            broken = int((~np.isfinite(values)).sum())
            if broken:
                raise DataError(
                    f"{self.name}: {broken:,} of {len(values):,} values of the {who} are not finite. Leave such users "
                    "out of both generators and pass their number as dropped."
                )

    @property
    def differences(self) -> np.ndarray:
        """Candidate minus released, float64 (U,)."""
        return np.asarray(self.candidate, dtype=np.float64) - np.asarray(self.released, dtype=np.float64)


def decide(
    metrics: Sequence[PairedMetric],
    guardrails: Sequence[Guardrail] = (),
    config: GateConfig | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Verdict:
    """Judge a candidate.

    Parameters
    ----------
    metrics : sequence of PairedMetric
        The primary one first; Holm corrects over exactly these.
    guardrails : sequence of Guardrail
        As made by ``guardrails.guardrails``.
    config : GateConfig, optional
    dropped : mapping, optional
        Users that could not be compared, by reason; stated with the verdict.

    Raises
    ------
    ConfigError
        No metric, a name twice, a minimum effect of an unknown metric or as a share of a mean that is not positive, or
        too few permutations to reach alpha.
    """
    config = config or GateConfig()
    _check(metrics, config)
    comparisons = _comparisons(metrics, config)
    decision, reasons = decision_and_reasons(comparisons, guardrails, config.alpha, config.power)
    return Verdict(
        decision=decision,
        reasons=reasons,
        comparisons=comparisons,
        guardrails=tuple(guardrails),
        alpha=config.alpha,
        power=config.power,
        confidence=config.confidence,
        dropped=dict(dropped or {}),
    )


def _check(metrics: Sequence[PairedMetric], config: GateConfig) -> None:
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"The gate got the metrics {names}: give at least one, each name once, the primary first.")
    unknown = sorted(set(config.minimum_effects) - set(names))
    if unknown:
        raise ConfigError(f"Minimum effects of {', '.join(unknown)}, but the metrics are {', '.join(names)}.")
    needed = math.ceil(2 * len(names) / config.alpha) - 1
    if config.permutations < needed:
        raise ConfigError(
            f"{config.permutations:,} permutations never give an adjusted p of {config.alpha:g} over {len(names)} "
            f"metrics: set permutations to {needed:,} or more."
        )


def _comparisons(metrics: Sequence[PairedMetric], config: GateConfig) -> tuple[Comparison, ...]:
    bootstraps = {
        n_users: Bootstrap(n_users, config.resamples, config.confidence, config.seed)
        for n_users in {len(metric.candidate) for metric in metrics}
    }
    intervals = [bootstraps[len(each.candidate)].studentized_interval(each.differences) for each in metrics]
    p_values = [_p_value(each.differences, config) for each in metrics]
    adjusted = holm(np.array(p_values)).tolist()
    level = config.alpha / len(metrics)
    return tuple(
        _comparison(*found, level, config) for found in zip(metrics, intervals, p_values, adjusted, strict=True)
    )


def _p_value(differences: np.ndarray, config: GateConfig) -> float:
    # A difference of 0 is 0 under either sign: without these users the test is the same, faster, and sooner exact.
    changed = differences[differences != 0]
    if len(changed) < 2:  # one sign is as extreme as the other
        return 1.0
    return paired_p_value(changed, config.permutations, config.seed)


def _comparison(
    metric: PairedMetric,
    interval: tuple[float, float],
    p_value: float,
    p_holm: float,
    level: float,
    config: GateConfig,
) -> Comparison:
    differences = metric.differences
    n_users, n_changed = len(differences), int(np.count_nonzero(differences))
    design = PairedDesign.of(differences, level)
    minimum = _minimum(metric, config)
    # m users that all gain have a two-sided p of 2 / 2^m.
    fewest = math.ceil(1 - math.log2(level))
    shown = p_holm <= config.alpha and not interval[0] <= 0 <= interval[1]
    return Comparison(
        metric=metric.name,
        n_users=n_users,
        n_changed=n_changed,
        candidate=float(np.mean(metric.candidate)),
        released=float(np.mean(metric.released)),
        difference=float(differences.mean()),
        interval=interval,
        p_value=p_value,
        p_holm=p_holm,
        sign=int(np.sign(differences.mean())) if shown else 0,
        minimum=minimum,
        fewest_changed=fewest,
        power=design.power(minimum, n_users) if n_changed else None,
        detectable=design.detectable(n_users, config.power) if n_changed else None,
        # by the spread, and so many that the fewest change if as large a share does as here
        users_needed=max(design.users(minimum, config.power), math.ceil(fewest * n_users / n_changed))
        if n_changed
        else None,
    )


def _minimum(metric: PairedMetric, config: GateConfig) -> float:
    effect = config.minimum_effects.get(metric.name, config.minimum_effect)
    if effect.absolute is not None:
        return effect.absolute
    mean = float(np.mean(metric.released))
    if mean <= 0:
        raise ConfigError(
            f"{metric.name}: {effect.share:.0%} of a released mean of {mean:.4g} is no gain. Set "
            f"minimum_effects['{metric.name}'] to an absolute one."
        )
    return effect.share * mean
