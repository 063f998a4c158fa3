"""The table says "gain" when the profile carries one, and only then."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from lettingo_features.errors import DataError
from lettingo_features.evaluation.metrics import MEASURES
from lettingo_features.evaluation.ranker import RankerConfig
from lettingo_features.evaluation.uplift import ProfileRows, UpliftConfig, uplift_table
from lettingo_features.evaluation.uplift_report import (
    COMPARISONS,
    HISTORY,
    ITEM_KNN,
    LANGUAGE_MODEL,
    NO_PROFILE,
    POPULARITY,
    RANDOM,
    SHUFFLED,
    STATISTICAL,
    Comparison,
    UpliftReport,
)
from tests.evaluation.planted import N_ITEMS, N_USERS, SEEN, planted_inputs

CONFIG = UpliftConfig(
    ranker=RankerConfig(trees=20, leaves=7, min_rows_per_leaf=20),
    seeds=(0, 1, 2),
    reduced_dims=2,
    block_rows=N_ITEMS * 7,  # 60 users in blocks of 7, the last one smaller
    resamples=500,
    permutations=999,
)


@pytest.fixture(scope="module")
def informative() -> UpliftReport:
    return uplift_table(planted_inputs(informative=True), CONFIG)


@pytest.fixture(scope="module")
def noise() -> UpliftReport:
    return uplift_table(planted_inputs(informative=False), CONFIG)


def test_planted_signal_is_found_and_dies_when_shuffled(informative):
    assert informative.comparison(LANGUAGE_MODEL, NO_PROFILE).sign == 1
    assert informative.comparison(LANGUAGE_MODEL, SHUFFLED).sign == 1
    assert informative.comparison(LANGUAGE_MODEL, STATISTICAL).sign == 1
    assert informative.comparison(SHUFFLED, NO_PROFILE).sign <= 0
    assert "raise nDCG@10 over no profile" in informative.verdict()
    assert "over another user's profile" in informative.verdict()
    assert "they beat the statistical profile" in informative.verdict()


def test_noise_is_no_gain(noise):
    assert noise.comparison(LANGUAGE_MODEL, NO_PROFILE).sign <= 0
    assert noise.comparison(LANGUAGE_MODEL, SHUFFLED).sign == 0
    assert noise.verdict().startswith("No gain shown")
    assert "not shown to differ from the statistical profile" in noise.verdict()


def test_rows_and_chance(informative):
    rows = {row.name: row for row in informative.rows}
    assert list(rows) == [
        POPULARITY,
        ITEM_KNN,
        RANDOM,
        NO_PROFILE,
        HISTORY,
        STATISTICAL,
        LANGUAGE_MODEL,
        SHUFFLED,
    ]
    low, high = rows[RANDOM].intervals[MEASURES.index("R@20")]
    assert low < 20 / (N_ITEMS - SEEN) < high  # chance
    assert rows[RANDOM].tie_rate == 0.0
    assert rows[POPULARITY].tie_rate > 0.5  # counts are coarse
    assert rows[RANDOM].seed_spread == 0.0 < rows[LANGUAGE_MODEL].seed_spread
    for row in informative.rows:
        assert all(low <= mean <= high for mean, (low, high) in zip(row.means, row.intervals, strict=True))


def test_who_was_measured(informative):
    assert (informative.n_users, informative.n_items, informative.n_seeds) == (N_USERS, N_ITEMS, 3)
    assert informative.mean_candidates == N_ITEMS - SEEN
    assert informative.coverage[LANGUAGE_MODEL] == informative.coverage[SHUFFLED] == pytest.approx(0.9)
    assert [(bucket.name, bucket.n_users) for bucket in informative.buckets] == [("5-9", N_USERS)]
    for row in informative.rows:
        assert informative.buckets[0].ndcg[row.name] == pytest.approx(row.means[0])


def test_same_inputs_same_table(informative):
    assert uplift_table(planted_inputs(informative=True), CONFIG) == informative


def test_blocks_and_workers_change_nothing(informative):
    other = {"block_rows": 10**6, "workers": 1}
    whole = uplift_table(planted_inputs(informative=True), CONFIG.model_copy(update=other))
    for row, other in zip(whole.rows, informative.rows, strict=True):
        assert row.means == pytest.approx(other.means)


def test_text_and_json(informative):
    text = informative.to_text()
    for expected in (*(row.name for row in informative.rows), *MEASURES, "test_cold_users 7", informative.verdict()):
        assert expected in text
    found = json.loads(json.dumps(informative.to_dict()))
    assert found["verdict"] == informative.verdict()
    assert len(found["comparisons"]) == len(COMPARISONS)
    assert found["rows"][0]["name"] == POPULARITY


def test_progress_names_every_step():
    steps = []
    uplift_table(planted_inputs(informative=False), CONFIG.model_copy(update={"seeds": (4, 5, 6)}), steps.append)
    assert steps == [
        POPULARITY,
        ITEM_KNN,
        RANDOM,
        f"{NO_PROFILE}, seeds 4, 5, 6",
        f"{HISTORY}, seeds 4, 5, 6",
        f"{STATISTICAL}, seeds 4, 5, 6",
        f"{LANGUAGE_MODEL}, seeds 4, 5, 6",
        f"{SHUFFLED}, seeds 4",  # each seed has a shuffle of its own
        f"{SHUFFLED}, seeds 5",
        f"{SHUFFLED}, seeds 6",
    ]


VERDICTS = [  # LM - none, LM - shuffled, LM - statistical           the sentence says
    ((+0.05, 0.01), (+0.04, 0.01), (+0.03, 0.01), ("so the gain comes from what they say", "they beat")),
    ((+0.05, 0.01), (+0.01, 0.50), (+0.03, 0.01), ("but not over another user's", "they beat")),
    ((+0.05, 0.01), (-0.04, 0.01), (+0.00, 0.50), ("but not over another user's", "not shown to differ")),
    ((+0.05, 0.06), (+0.04, 0.01), (-0.03, 0.01), ("No gain shown", "they lose to")),
    ((-0.05, 0.01), (+0.04, 0.01), (+0.03, 0.01), ("worse than no profile", "they beat")),
]


@pytest.mark.parametrize(("none", "shuffled", "statistical", "words"), VERDICTS)
def test_verdict_follows_from_the_tests(noise, none, shuffled, statistical, words):
    given = zip((NO_PROFILE, SHUFFLED, STATISTICAL), (none, shuffled, statistical), strict=True)
    comparisons = tuple(Comparison(LANGUAGE_MODEL, base, d, (d - 0.005, d + 0.005), p, p) for base, (d, p) in given)
    verdict = replace(noise, comparisons=comparisons).verdict()
    assert all(word in verdict for word in words)
    assert verdict.endswith(".")


def test_a_gain_needs_both_the_test_and_the_interval():
    assert Comparison("a", "b", 0.02, (0.01, 0.03), 0.01, 0.04).sign == 1
    assert Comparison("a", "b", -0.02, (-0.03, -0.01), 0.01, 0.04).sign == -1
    assert Comparison("a", "b", 0.02, (0.01, 0.03), 0.01, 0.06).sign == 0  # may be the users
    assert Comparison("a", "b", 0.02, (-0.01, 0.05), 0.01, 0.04).sign == 0  # may be the seeds


def test_foreign_items_are_refused():
    inputs = planted_inputs(informative=True)
    with pytest.raises(DataError, match="items that are not among the 40"):
        uplift_table(replace(inputs, items=inputs.items.slice(0, 40)), CONFIG)
    relevant = inputs.relevant.set_column(1, "item_id", pa.array(["nowhere"] * inputs.relevant.num_rows))
    with pytest.raises(DataError, match="180 of unknown items"):
        uplift_table(replace(inputs, relevant=relevant), CONFIG)


def test_vectors_of_another_encoder_are_refused():
    inputs = planted_inputs(informative=True)
    short = {"profile_embedding": pa.array([[1.0, 2.0]] * inputs.train.num_rows, pa.list_(pa.float32()))}
    train = inputs.language_model.train.set_column(0, "profile_embedding", short["profile_embedding"])
    with pytest.raises(DataError, match="different encoders"):
        uplift_table(replace(inputs, language_model=ProfileRows(train, inputs.language_model.test)), CONFIG)
