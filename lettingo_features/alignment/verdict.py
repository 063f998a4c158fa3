"""What the gate decided: the decision, its reasons in words, and the figures under them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from lettingo_features.alignment.guardrails import Guardrail
from lettingo_features.text_table import aligned


class Decision(StrEnum):
    """What may happen to the candidate: be released, wait for more evidence, or be dropped."""

    PROMOTE = "promote"
    HOLD = "hold"
    REJECT = "reject"


@dataclass(frozen=True)
class Comparison:
    """One metric, candidate minus released generator over the same users.

    Attributes
    ----------
    metric : str
    n_users, n_changed : int
        Users compared, and those of them whose two values differ: only these carry evidence.
    candidate, released, difference : float
        Means over users, and their difference.
    interval : (float, float)
        Studentised bootstrap interval of the difference over users.
    p_value, p_holm : float
        Two-sided, of the paired permutation test; adjusted over all metrics of the verdict.
    sign : int
        1 better, -1 worse, 0 not shown: ``p_holm`` is at most alpha, and the interval excludes zero.
    minimum : float
        Minimum effect: the smallest gain that is worth a release, in the metric's units.
    fewest_changed : int
        With fewer changed users no test can reach its level, even if all of them gain.
    power : float or None
        Probability that a gain of ``minimum`` is found with this many users; None where no user changed.
    detectable : float or None
        Gain that this many users show with the power asked for.
    users_needed : int or None
        Users that show a gain of ``minimum`` with the power asked for.
    """

    metric: str
    n_users: int
    n_changed: int
    candidate: float
    released: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float
    sign: int
    minimum: float
    fewest_changed: int
    power: float | None
    detectable: float | None
    users_needed: int | None

    def figures(self) -> str:
        """Difference, interval and adjusted p, for a sentence."""
        low, high = self.interval
        return f"{self.difference:+.3g} [{low:+.3g}, {high:+.3g}], adjusted p {self.p_holm:.3g}"


@dataclass(frozen=True)
class Verdict:
    """The gate's answer; the first comparison is that of the primary metric.

    Attributes
    ----------
    decision : Decision
    reasons : tuple of str
        Whole sentences, the one that decides first.
    comparisons : tuple of Comparison
    guardrails : tuple of Guardrail
    dropped : dict
        Users left out of the comparisons, by reason.
    alpha, power, confidence : float
        As asked for.
    """

    decision: Decision
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    guardrails: tuple[Guardrail, ...]
    alpha: float
    power: float
    confidence: float
    dropped: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values; what was not measured or not to be had is null."""
        guardrails = [
            {**{name: _number(value) for name, value in asdict(each).items()}, "state": each.state}
            for each in self.guardrails
        ]
        comparisons = [{**asdict(each), "interval": list(each.interval)} for each in self.comparisons]
        return {
            "decision": self.decision.value,
            "reasons": list(self.reasons),
            "comparisons": comparisons,
            "guardrails": guardrails,
            "dropped": dict(self.dropped),
            "alpha": self.alpha,
            "power": self.power,
            "confidence": self.confidence,
        }

    def to_text(self) -> str:
        """For a terminal: the decision, its reasons, and the tables that they come from."""
        reasons = "\n".join(f"- {reason}" for reason in self.reasons)
        parts = [f"{self.decision.value.upper()}\n{reasons}", self._metrics()]
        if self.guardrails:
            parts.append(self._guardrails())
        return "\n\n".join([*parts, self._footer()])

    def _metrics(self) -> str:
        interval = f"{self.confidence:.0%} CI"
        head = ["metric", "users", "changed", "released", "candidate", "difference", interval, "p", "p (Holm)"]
        head += ["minimum", "power", "users needed"]
        body = [
            [
                each.metric,
                f"{each.n_users:,}",
                f"{each.n_changed:,}",
                f"{each.released:.4g}",
                f"{each.candidate:.4g}",
                f"{each.difference:+.3g}",
                "[{:+.3g}, {:+.3g}]".format(*each.interval),
                f"{each.p_value:.4f}",
                f"{each.p_holm:.4f}",
                f"{each.minimum:.3g}",
                "–" if each.power is None else f"{each.power:.0%}",
                "–" if each.users_needed is None else f"{each.users_needed:,}",
            ]
            for each in self.comparisons
        ]
        return aligned([head, *body])

    def _guardrails(self) -> str:
        body = [
            [each.name, _shown(each.released), _shown(each.candidate), each.limit, each.state]
            for each in self.guardrails
        ]
        return aligned([["guardrail", "released", "candidate", "limit", "state"], *body])

    def _footer(self) -> str:
        lines = [
            "p: paired permutation test over users, two-sided, adjusted by Holm over the metrics; a difference counts "
            f"from p (Holm) {self.alpha:g} down, if its interval excludes zero.",
            f"power: chance to find a gain of the minimum effect with these users; users needed: for {self.power:.0%}.",
        ]
        if self.dropped:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.dropped.items()))
            lines.append(f"Users left out: {counts}.")
        return "\n".join(lines)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return "nothing" if math.isnan(value) else f"{value:.4g}"
