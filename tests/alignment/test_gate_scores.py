"""What the gate reads of an arm's texts: each beside their mean, so that shared wording neither earns nor hides."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lettingo_features.alignment.gate_scores import MATCHED, REWARD, GateJudges
from lettingo_features.alignment.ranking_reward import RankingReward, RankingRewardConfig, fit_ranker
from tests.alignment.small_world import DIMS, group_of, item_vectors, planted_scene, profile_vectors

N_USERS = 80
OWN = profile_vectors(group_of(N_USERS), seed=3)
WORDING = 4 * np.random.default_rng(6).normal(size=DIMS).astype(np.float32)
READ = (MATCHED, REWARD)


@pytest.fixture(scope="module")
def judge() -> RankingReward:
    items, config = item_vectors(120), RankingRewardConfig()
    ranker = fit_ranker(planted_scene(seed=1), items, profile_vectors(group_of(N_USERS), seed=1), config)
    return RankingReward(ranker, planted_scene(), items, config)


def scores(judge: RankingReward, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Of one text per user that is read as ``vectors`` by both readers."""
    silent = SimpleNamespace(judge=lambda scene, texts: SimpleNamespace(values=np.zeros((len(texts), 1))))
    judges = GateJudges(judge.scene, judge, lambda texts: vectors, silent, judge, lambda texts: vectors)
    return judges.scores([f"text {n}" for n in range(N_USERS)])


@pytest.mark.parametrize("metric", READ)
def test_a_shared_wording_changes_nothing(judge, metric):
    plain, worded = scores(judge, OWN)[metric], scores(judge, OWN + WORDING)[metric]
    assert plain.mean() > 0.2
    assert worded == pytest.approx(plain, abs=1e-3)
    as_it_stands = judge.per_text(np.arange(N_USERS), OWN + WORDING)
    assert as_it_stands.mean() < plain.mean() / 2


@pytest.mark.parametrize("metric", READ)
def test_one_text_for_everybody_is_worth_exactly_nothing(judge, metric):
    for text in (OWN[0], WORDING, OWN[0] / 3):
        assert scores(judge, np.tile(text, (N_USERS, 1)))[metric].tolist() == [0] * N_USERS


@pytest.mark.parametrize("metric", READ)
def test_texts_of_other_users_earn_nothing(judge, metric):
    orders = [np.random.default_rng(seed).permutation(N_USERS) for seed in range(8)]
    assert abs(np.mean([scores(judge, OWN[order])[metric].mean() for order in orders])) < 0.03
