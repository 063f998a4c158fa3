"""Guardrails: each limit just held and just broken, what nobody measured, and what had nothing to measure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lettingo_features.alignment.guardrails import GeneratorFacts, GuardrailLimits, guardrails
from lettingo_features.errors import DataError

RELEASED = GeneratorFacts(
    n_users=1_000,
    n_with_text=990,
    words=np.full(990, 60),
    n_cold=100,
    n_cold_with_text=95,
    n_claims=2_000,
    n_unsupported=100,
    n_lint=10,
    cost=4.0,
    seconds=50.0,
)
NAMES = [
    "coverage",
    "coverage of cold users",
    "median length in words",
    "share of unsupported claims",
    "number of lint findings per text",
    "cost per 1,000 users",
    "time per 1,000 users in seconds",
]


def states(candidate: GeneratorFacts, released: GeneratorFacts = RELEASED, **limits: float | None) -> dict[str, str]:
    return {each.name: each.state for each in guardrails(candidate, released, GuardrailLimits(**limits))}


def test_the_released_generator_itself_holds_all():
    assert states(RELEASED) == dict.fromkeys(NAMES, "held")


@pytest.mark.parametrize(
    ("name", "held", "broken"),
    [
        ("coverage", {"n_with_text": 980, "words": np.full(980, 60)}, {"n_with_text": 979, "words": np.full(979, 60)}),
        ("coverage of cold users", {"n_cold_with_text": 93}, {"n_cold_with_text": 92}),
        ("median length in words", {"words": np.full(990, 90)}, {"words": np.full(990, 91)}),
        ("median length in words", {"words": np.full(990, 40)}, {"words": np.full(990, 39)}),
        ("share of unsupported claims", {"n_unsupported": 140}, {"n_unsupported": 141}),
        ("number of lint findings per text", {"n_lint": 29}, {"n_lint": 30}),
        ("cost per 1,000 users", {"cost": 6.0}, {"cost": 6.01}),
        ("time per 1,000 users in seconds", {"seconds": 100.0}, {"seconds": 100.1}),
    ],
)
def test_each_limit_includes_its_end_and_only_its_own_guardrail_breaks(name, held, broken):
    assert set(states(replace(RELEASED, **held)).values()) == {"held"}
    found = states(replace(RELEASED, **broken))
    assert found.pop(name) == "broken"
    assert set(found.values()) == {"held"}


@pytest.mark.parametrize(
    ("limit", "name"),
    list(zip(GuardrailLimits.model_fields, NAMES, strict=True)),
)
def test_a_guardrail_can_be_turned_off(limit, name):
    assert name not in states(RELEASED, **{limit: None})


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("n_cold_with_text", "coverage of cold users"),
        ("words", "median length in words"),
        ("n_claims", "share of unsupported claims"),
        ("n_unsupported", "share of unsupported claims"),
        ("n_lint", "number of lint findings per text"),
        ("cost", "cost per 1,000 users"),
        ("seconds", "time per 1,000 users in seconds"),
    ],
)
def test_what_was_not_measured_on_either_side_is_said(field, name):
    without = replace(RELEASED, **{field: None})
    assert states(without)[name] == "unmeasured"
    found = next(each for each in guardrails(RELEASED, without, GuardrailLimits()) if each.name == name)
    assert found.state == "unmeasured"
    assert "not measured for the released generator:" in found.sentence()


def test_nothing_to_check_is_neither_held_nor_broken():
    no_claims = replace(RELEASED, n_claims=0, n_unsupported=0)
    assert states(no_claims)["share of unsupported claims"] == "nothing to check"
    no_cold = replace(RELEASED, n_cold=0, n_cold_with_text=0)
    assert states(no_cold, no_cold)["coverage of cold users"] == "nothing to check"


def test_the_first_claims_are_judged_from_zero():
    no_claims = replace(RELEASED, n_claims=0, n_unsupported=0)
    assert states(replace(RELEASED, n_unsupported=40), no_claims)["share of unsupported claims"] == "held"
    assert states(replace(RELEASED, n_unsupported=41), no_claims)["share of unsupported claims"] == "broken"


def test_nothing_follows_from_free_but_free():
    free = replace(RELEASED, cost=0.0)
    assert states(free, free)["cost per 1,000 users"] == "held"
    assert states(RELEASED, free)["cost per 1,000 users"] == "broken"


def test_a_candidate_without_any_text_breaks_coverage():
    silent = replace(RELEASED, n_with_text=0, words=np.array([], int), n_cold_with_text=0, n_lint=0)
    found = states(silent)
    assert found["coverage"] == found["coverage of cold users"] == "broken"
    assert found["median length in words"] == "nothing to check"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_with_text": 1_001, "words": None}, "n_with_text is 1,001 of n_users 1,000"),
        ({"n_cold": 1_001}, "n_cold is 1,001 of n_users 1,000"),
        ({"n_unsupported": 2_001}, "n_unsupported is 2,001 of n_claims 2,000"),
        ({"words": np.full(3, 60)}, "3 word counts for 990 texts"),
        ({"cost": math.nan}, "cost is nan"),
        ({"n_lint": -1}, "n_lint is -1"),
    ],
)
def test_facts_that_contradict_each_other(change, message):
    with pytest.raises(DataError, match=message):
        replace(RELEASED, **change)


def test_facts_of_other_users_are_refused():
    with pytest.raises(DataError, match="ask both for the same users"):
        states(replace(RELEASED, n_users=2_000))
