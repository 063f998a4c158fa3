"""What is known of a run's reward, for its report, and lists of facts from nested JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lettingo_features.evaluation.report_page import capped
from lettingo_features.evaluation.report_plots import interval_marks

_VALUE_CHARS = 300


def effects(shrinkage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Effects on the reward, the clearest first, with intervals of two standard errors."""
    found = shrinkage.get("effects")
    if not found:
        return None
    rows = sorted(found.items(), key=lambda item: -abs(item[1][0] / item[1][1]) if item[1][1] else 0.0)
    spans = [(effect - 2 * error, effect + 2 * error) for _, (effect, error) in rows]
    marks, ticks = interval_marks([effect for _, (effect, _) in rows], spans)
    sides = ["better" if low > 0 else "worse" if high < 0 else "none" for low, high in spans]
    return {
        "rows": [(name, *effect, mark, css) for (name, effect), mark, css in zip(rows, marks, sides, strict=True)],
        "ticks": ticks,
        "zero": next(tick.at for tick in ticks if float(tick.label) == 0),
    }


def reward_facts(reward: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is known of the reward besides the shrinkage's effects, by heading."""
    headings = {
        "controls": "Controls: mean reward of",
        "scene": "Targets",
        "guards": "Guards",
        "target_naming": "Texts that name their own target",
        "shrinkage": "Shrinkage, within a user",
        "ranker": "Judge",
        "prior": "Class prior of the judge's targets",
        "counts": "What the judge was asked",
        "scale": "From ratings to classes",
    }
    told = {**reward, **(reward.get("sentiment") or {})}
    found = {name: {**(told.get(name) or {})} for name in headings}
    found["shrinkage"].pop("effects", None)
    if "candidates_without_targets" in reward:
        found["scene"]["candidates_without_targets"] = reward["candidates_without_targets"]
    return [(headings[name], list(facts(values))) for name, values in found.items() if values]


def facts(nested: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Labels and values of a nested mapping of JSON values, for a list of facts.

    >>> list(facts({"n_users": 1200, "gate": {"p": 0.0123, "limits": [1, 2]}}))
    [('n users', '1,200'), ('gate · p', '0.0123'), ('gate · limits', '1, 2')]
    """
    for name, value in nested.items():
        label = above + str(name).replace("_", " ")
        if isinstance(value, Mapping):
            yield from facts(value, f"{label} · ")
        else:
            yield capped(label, _VALUE_CHARS), capped(_value(value), _VALUE_CHARS)


def _value(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case list():
            return ", ".join(map(_value, value))
        case _:
            return str(value)
