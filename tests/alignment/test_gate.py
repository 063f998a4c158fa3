"""The gate's rule on hand-made differences: each way to promote, hold and reject, and what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from lettingo_features.alignment.gate import GateConfig, MinimumEffect, PairedMetric, decide
from lettingo_features.alignment.guardrails import Guardrail
from lettingo_features.alignment.verdict import Decision
from lettingo_features.errors import ConfigError, DataError

HELD = Guardrail("coverage", 0.99, 0.99, "at most 0.01 lower", low=0.98)
BROKEN = replace(HELD, candidate=0.9)
UNMEASURED = replace(HELD, name="cost", candidate=None)
NOTHING = replace(HELD, name="cold", candidate=math.nan)


def metric(*differences: float, name: str = "nDCG@10", repeat: int = 1) -> PairedMetric:
    """Users with these differences, ``repeat`` times over; the released mean is 0.5."""
    values = np.tile(np.array(differences, dtype=float), repeat)
    released = np.full(len(values), 0.5)
    return PairedMetric(name, released + values, released)


def config(**changes) -> GateConfig:
    return GateConfig(**{"minimum_effect": MinimumEffect(absolute=0.05), "permutations": 1_999, **changes})


GAIN = metric(0.2, 0.1, 0, -0.1, 0.3, repeat=40)
SMALL_GAIN = metric(0.011, 0.009, repeat=100)
NO_GAIN = metric(0.2, -0.2, 0.01, repeat=40)
LOSS = metric(-0.2, -0.1, 0, 0.1, -0.3, name="R@20", repeat=40)
FLAT = metric(0.1, -0.1, name="R@20", repeat=100)
NOISE = metric(1, -1, 1.1, -0.9, repeat=10)
SAME = metric(0, 0, 0, repeat=10)
FEW = metric(0.3, 0.3, 0.3, *[0] * 97)
OF_FIVE = metric(0.3, 0.2, 0.1, 0.4, 0.5)


@pytest.mark.parametrize(
    ("metrics", "guardrails", "decision", "reasons"),
    [
        ([GAIN], [], "promote", ["nDCG@10 rises"]),
        ([GAIN, FLAT], [HELD], "promote", ["nDCG@10 rises", "Not shown to be worse: R@20", "1 of 1 guardrails"]),
        ([GAIN], [HELD, NOTHING], "promote", ["nDCG@10 rises", "1 of 2 guardrails", "Cold had nothing to check"]),
        ([GAIN, LOSS], [HELD], "reject", ["R@20 falls", "nDCG@10 rises"]),
        ([LOSS, GAIN], [HELD], "reject", ["R@20 falls"]),
        ([GAIN], [BROKEN], "reject", ["Coverage breaks its limit: 0.9 against 0.99", "nDCG@10 rises"]),
        ([NO_GAIN], [BROKEN, UNMEASURED], "reject", ["Coverage breaks", "Cost was not measured", "No gain shown"]),
        ([GAIN], [HELD, UNMEASURED], "hold", ["Cost was not measured for the candidate", "nDCG@10 rises"]),
        ([NO_GAIN], [UNMEASURED], "hold", ["No gain shown in nDCG@10", "Cost was not measured"]),
        ([SMALL_GAIN], [HELD], "hold", ["nDCG@10 rises, but by too little"]),
        ([FLAT], [], "hold", ["The interval ends below the minimum effect"]),
        ([SAME], [HELD], "hold", ["nDCG@10 is the same under both generators for each of 30 users"]),
        ([NOISE], [HELD], "hold", ["With 40 users a gain of the minimum effect, 0.05, is found with"]),
        ([FEW], [HELD], "hold", ["Only 3 of 100 users differ, and no fewer than 6 can show anything: bring about 200"]),
        ([OF_FIVE], [HELD], "hold", ["Only 5 of 5 users differ"]),
    ],
)
def test_the_rule(metrics, guardrails, decision, reasons):
    narrow = config(minimum_effect=MinimumEffect(absolute=0.02)) if metrics == [FLAT] else config()
    found = decide(metrics, guardrails, narrow)
    assert found.decision == decision
    assert len(found.reasons) >= len(reasons)
    for expected, reason in zip(reasons, found.reasons, strict=False):
        assert expected in reason


def test_a_gain_below_the_minimum_effect_passes_while_the_interval_reaches_it():
    found = decide([GAIN], config=config(minimum_effect=MinimumEffect(absolute=0.11)))
    assert found.comparisons[0].difference == pytest.approx(0.1)
    assert found.decision == Decision.PROMOTE
    assert "The estimate lies below the minimum effect, 0.11" in found.reasons[0]


def test_figures_of_a_comparison():
    found = decide([GAIN, FLAT], config=config()).comparisons[0]
    assert (found.n_users, found.n_changed) == (200, 160)
    assert (found.released, found.candidate, found.difference) == pytest.approx((0.5, 0.6, 0.1))
    low, high = found.interval
    assert low < 0.1 < high and high - low == pytest.approx(
        2 * 1.96 * np.std([0.2, 0.1, 0, -0.1, 0.3]) / 200**0.5, rel=0.1
    )
    assert (found.p_value, found.p_holm, found.sign) == (2 / 2_000, 4 / 2_000, 1)
    assert found.fewest_changed == 7  # 2 / 2**7 < 0.05 / 2 < 2 / 2**6
    assert found.power > 0.99 and found.users_needed < 200 and 0 < found.detectable < 0.05


def test_holm_makes_the_primary_share_alpha_with_the_other_metrics():
    edge = metric(*[0.1] * 8, -0.1)  # exact two-sided p of one loss among nine: 2 * 10 / 2**9 = 0.039
    assert decide([edge], config=config()).comparisons[0].p_holm == pytest.approx(20 / 512)
    crowd = [edge, metric(*[0.1, -0.1] * 5, name="R@20")]
    assert decide(crowd, config=config()).comparisons[0].p_holm == pytest.approx(40 / 512)
    assert decide(crowd[::-1], config=config()).comparisons[1].p_holm == pytest.approx(40 / 512)


def test_a_small_p_does_not_count_without_the_interval():
    found = decide([metric(*[0.1, 0.05] * 20, -0.8)], config=config())  # what would a second user like the last do?
    (comparison,) = found.comparisons
    assert comparison.p_holm < 0.01 and comparison.interval[0] < 0 and comparison.sign == 0
    assert found.decision == Decision.HOLD and "a few users decide the mean" in found.reasons[0]


def test_the_arms_can_be_swapped():
    mirrored = PairedMetric(GAIN.name, GAIN.released, GAIN.candidate)
    better, worse = (decide([each], config=config()).comparisons[0] for each in (GAIN, mirrored))
    assert (better.sign, worse.sign) == (1, -1)
    assert better.p_value == worse.p_value and better.difference == -worse.difference


def test_users_without_a_difference_do_not_move_p():
    # the zeros add no evidence, but dilute the effect
    short, long = metric(0.1, 0.3, 0.2, repeat=3), metric(*[0.1, 0.3, 0.2] * 3, *[0.0] * 91)
    few, many = (decide([each], config=config()).comparisons[0] for each in (short, long))
    assert few.p_value == many.p_value == pytest.approx(2 / 2**9)
    assert many.difference == pytest.approx(few.difference * 0.09)


def test_one_user_who_differs_shows_nothing():
    assert decide([metric(0.5, 0, 0)], config=config()).comparisons[0].p_value == 1.0


def test_the_same_seed_gives_the_same_verdict():
    assert decide([GAIN], [HELD], config()).to_json() == decide([GAIN], [HELD], config()).to_json()


def test_minimum_effect_as_a_share_of_the_released_mean():
    shares = config(minimum_effect=MinimumEffect(share=0.1), minimum_effects={"R@20": MinimumEffect(absolute=0.3)})
    found = decide([GAIN, FLAT], config=shares)
    assert [each.minimum for each in found.comparisons] == pytest.approx([0.05, 0.3])


def test_json_is_strict_and_complete():
    found = decide(
        [GAIN, replace(SAME, name="R@20")], [HELD, UNMEASURED, NOTHING], config(), {"without later items": 7}
    )
    text = json.dumps(found.to_json(), allow_nan=False)
    facts = json.loads(text)
    assert facts["decision"] == "hold" and facts["dropped"] == {"without later items": 7}
    assert facts["comparisons"][0]["metric"] == "nDCG@10" and len(facts["comparisons"][0]["interval"]) == 2
    assert facts["comparisons"][1]["power"] is None
    assert [each["state"] for each in facts["guardrails"]] == ["held", "unmeasured", "nothing to check"]
    assert facts["guardrails"][2]["candidate"] is None


def test_text_shows_decision_reasons_and_every_figure():
    text = decide([GAIN, FLAT], [BROKEN, UNMEASURED], config(), {"without later items": 1_234}).to_text()
    assert text.startswith("REJECT\n- Coverage breaks its limit")
    for expected in ("nDCG@10", "R@20", "+0.1", "not measured", "broken", "Users left out: 1,234 without later items."):
        assert expected in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (([0.1, math.nan], [0.1, 0.2]), "1 of 2 values of the candidate are not finite"),
        (([0.1, 0.2], [math.inf, 0.2]), "1 of 2 values of the released generator are not finite"),
        (([0.1], [0.1]), "1 users; a paired test needs at least 2"),
        (([], []), "0 users"),
        (([0.1, 0.2], [0.1, 0.2, 0.3]), "shapes \\(2,\\) and \\(3,\\)"),
        (([[0.1, 0.2]], [[0.1, 0.2]]), "shapes \\(1, 2\\)"),
    ],
)
def test_values_that_cannot_be_compared(values, message):
    with pytest.raises(DataError, match=message):
        PairedMetric("nDCG@10", *map(np.array, values))


@pytest.mark.parametrize(
    ("metrics", "changes", "message"),
    [
        ([], {}, "give at least one"),
        ([GAIN, GAIN], {}, "each name once"),
        ([GAIN], {"minimum_effects": {"nDCG": MinimumEffect(share=0.1)}}, "Minimum effects of nDCG"),
        ([GAIN], {"alpha": 0.001}, "set permutations to 1,999 or more"),
        (
            [PairedMetric("log-likelihood", np.array([-1.0, -2.0]), np.array([-2.0, -2.0]))],
            {"minimum_effect": MinimumEffect(share=0.1)},
            "Set minimum_effects\\['log-likelihood'\\] to an absolute one",
        ),
    ],
)
def test_a_gate_that_cannot_work_is_refused(metrics, changes, message):
    with pytest.raises(ConfigError, match=message):
        decide(metrics, config=config(**{"permutations": 999, **changes}))


@pytest.mark.parametrize("amounts", [{}, {"absolute": 0.1, "share": 0.1}, {"share": 0.0}])
def test_a_minimum_effect_is_one_positive_amount(amounts):
    with pytest.raises(ValidationError):
        MinimumEffect(**amounts)
