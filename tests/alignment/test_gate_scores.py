"""What the gate reads of an arm's texts: each beside their mean, so that shared wording neither earns nor hides."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lettingo_features.alignment.gate_scores import MATCHED, REWARD, GateJudges, beside_mean
from lettingo_features.alignment.ranking_reward import RankingReward, RankingRewardConfig, fit_ranker
from tests.alignment.small_world import DIMS, group_of, item_vectors, planted_scene, profile_vectors

N_USERS = 80
OWN = profile_vectors(group_of(N_USERS), seed=3)
WORDING = 4 * np.random.default_rng(6).normal(size=DIMS).astype(np.float32)  # as far from every item as from the others


@pytest.fixture(scope="module")
def matched():
    """*matched* and *ranking reward* of one vector per user, with one judge for both."""
    items, config = item_vectors(120), RankingRewardConfig()
    ranker = fit_ranker(planted_scene(seed=1), items, profile_vectors(group_of(N_USERS), seed=1), config)
    scene = planted_scene()
    judge = RankingReward(ranker, scene, items, config)
    silent = SimpleNamespace(judge=lambda scene, texts: SimpleNamespace(values=np.zeros((len(texts), 1))))

    def scores(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        judges = GateJudges(scene, judge, lambda texts: vectors, silent, judge, lambda texts: vectors)
        found = judges.scores([f"text {n}" for n in range(N_USERS)])
        return found[MATCHED], found[REWARD]

    return scores


def test_a_shared_wording_changes_nothing(matched):
    plain, _ = matched(OWN)
    worded, raw = matched(OWN + WORDING)
    assert plain.mean() > 0.2
    assert worded == pytest.approx(plain, abs=1e-3)
    assert raw.mean() < plain.mean() / 2  # the reward reads it as it stands


def test_one_text_for_everybody_is_worth_exactly_nothing(matched):
    for text in (OWN[0], WORDING, OWN[0] / 3):
        one, _ = matched(np.tile(text, (N_USERS, 1)))
        assert one.tolist() == [0] * N_USERS


def test_texts_of_other_users_earn_nothing(matched):
    orders = [np.random.default_rng(seed).permutation(N_USERS) for seed in range(8)]
    assert abs(np.mean([matched(OWN[order])[0].mean() for order in orders])) < 0.03


def test_beside_mean():
    vectors = np.float32([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]])
    found = beside_mean(vectors)
    assert (found.dtype, found.shape) == (np.float32, (3, 3))
    assert found + vectors.mean(axis=0) == pytest.approx(vectors, abs=1e-6)
    assert found.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
