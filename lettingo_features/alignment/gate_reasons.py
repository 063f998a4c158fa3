"""The gate's rule, and its reasons in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lettingo_features.alignment.guardrails import Guardrail
from lettingo_features.alignment.verdict import Comparison, Decision


def decision_and_reasons(
    comparisons: Sequence[Comparison], guardrails: Sequence[Guardrail], alpha: float, power: float
) -> tuple[Decision, tuple[str, ...]]:
    """The decision, and whole sentences: what rejects, what holds, then what was found besides.

    Parameters
    ----------
    comparisons : sequence of Comparison
        The primary metric first.
    guardrails : sequence of Guardrail
    alpha, power : float
        Level of the adjusted p, and the power asked for of a gain of the minimum effect.
    """
    primary, others = comparisons[0], comparisons[1:]
    worse = [f"{each.metric} falls: {each.figures()}." for each in comparisons if each.sign < 0]
    broken = [_sentence(each) for each in guardrails if each.state == "broken"]
    unmeasured = [_sentence(each) for each in guardrails if each.state == "unmeasured"]
    gained, finding = _primary(primary, alpha, power)
    unchecked = [_sentence(each) for each in guardrails if each.state == "nothing to check"]
    if worse or broken:
        rest = [finding] if primary.sign >= 0 else []
        return Decision.REJECT, (*worse, *broken, *unmeasured, *rest)
    if not gained or unmeasured:
        return Decision.HOLD, (*unmeasured, finding) if gained else (finding, *unmeasured)
    held = sum(each.state == "held" for each in guardrails)
    besides = []
    if others:
        besides.append(f"Not shown to be worse: {', '.join(each.metric for each in others)}.")
    if guardrails:
        besides.append(f"{held} of {len(guardrails)} guardrails were checked, and held.")
    return Decision.PROMOTE, (finding, *besides, *unchecked)


def _primary(found: Comparison, alpha: float, power: float) -> tuple[bool, str]:
    """Whether the primary metric allows a release, and the sentence that says why."""
    if found.n_changed == 0:
        return False, f"{found.metric} is the same under both generators for each of {found.n_users:,} users."
    if found.sign > 0:
        return _gain(found)
    return False, _no_gain(found, alpha, power)


def _gain(found: Comparison) -> tuple[bool, str]:
    if found.interval[1] < found.minimum:
        return False, (
            f"{found.metric} rises, but by too little: {found.figures()}; the interval ends below the minimum effect, "
            f"{found.minimum:.3g}: more users will hardly help."
        )
    below = ""
    if found.difference < found.minimum:
        below = f" The estimate lies below the minimum effect, {found.minimum:.3g}, which the interval still reaches."
    return True, f"{found.metric} rises: {found.figures()} over {found.n_users:,} users.{below}"


def _no_gain(found: Comparison, alpha: float, power: float) -> str:
    shown = f"No gain shown in {found.metric}: {found.figures()}."
    if found.p_holm <= alpha:
        shown += (
            " The p-value would pass, but a few users decide the mean, and the interval, which sees that, holds zero."
        )
    bring = f"bring about {_round_up(found.users_needed):,} users"
    if found.n_changed < found.fewest_changed:
        return (
            f"{shown} Only {found.n_changed:,} of {found.n_users:,} users differ, and no fewer than "
            f"{found.fewest_changed} can show anything: {bring}."
        )
    if found.interval[1] < found.minimum:
        return f"{shown} The interval ends below the minimum effect, {found.minimum:.3g}: more users will hardly help."
    chance = (
        f"{shown} With {found.n_users:,} users a gain of the minimum effect, {found.minimum:.3g}, is found with "
        f"{found.power:.0%} probability"
    )
    if found.users_needed <= found.n_users:
        return f"{chance}: there may be a smaller one."
    return f"{chance}, and one of {found.detectable:.3g} with {power:.0%}. For {power:.0%} of the former, {bring}."


def _round_up(count: int) -> int:
    """To two figures.

    >>> _round_up(1_234), _round_up(90), _round_up(7)
    (1300, 90, 7)
    """
    unit = 10 ** max(len(str(count)) - 2, 0)
    return math.ceil(count / unit) * unit


def _sentence(guardrail: Guardrail) -> str:
    sentence = guardrail.sentence()
    return f"{sentence[0].upper()}{sentence[1:]}."
