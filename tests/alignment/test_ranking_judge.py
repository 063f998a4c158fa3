"""The ranking reward as a judge: who is judged, the fit beside each reward, and the control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.ranking_judge import RankingJudge
from lettingo_features.alignment.ranking_reward import RankingReward, RankingRewardConfig, fit_ranker
from lettingo_features.alignment.shared_wording import beside_mean
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.alignment.window_fit import window_fit
from tests.alignment.rows import candidates
from tests.alignment.small_world import DIMS, group_of, item_vectors, planted_scene, profile_vectors

N_USERS, N_TARGETED, N_ITEMS = 80, 60, 120
ITEMS = item_vectors(N_ITEMS)
WHOLE = planted_scene()
VECTORS = profile_vectors(group_of(N_USERS), seed=2)
TEXTS = candidates(*((f"c{n}", f"u{n:04}", "g", f"text {n}") for n in reversed(range(N_USERS))))


@pytest.fixture(scope="module")
def reward() -> RankingReward:
    """Of a scene in which the last twenty users have no target."""
    config = RankingRewardConfig()
    ranker = fit_ranker(planted_scene(seed=1), ITEMS, profile_vectors(group_of(N_USERS), seed=1), config)
    mine = WHOLE.target_user < N_TARGETED
    scene = replace(
        WHOLE,
        user_ids=WHOLE.user_ids[:N_TARGETED],
        users=WHOLE.users.take(np.arange(N_TARGETED)),
        seen=WHOLE.seen[:N_TARGETED],
        target_user=WHOLE.target_user[mine],
        target_item=WHOLE.target_item[mine],
    )
    return RankingReward(ranker, scene, ITEMS, config)


def read(lines: list[str]) -> np.ndarray:
    return VECTORS[[int(line.split()[1]) for line in lines]]


def judged(reward: RankingReward, texts: pa.Table = TEXTS):
    return RankingJudge(reward, read, None, seed=0).judge(texts)


def test_each_reward_has_its_fit_and_who_has_no_target_has_none(reward):
    found = judged(reward)
    assert found.rewards.schema == REWARDS
    numbers = [int(candidate[1:]) for candidate in found.rewards["candidate_id"].to_pylist()]
    assert sorted(numbers) == list(range(N_TARGETED))
    assert found.facts["candidates_without_targets"] == N_USERS - N_TARGETED
    beside = beside_mean(VECTORS[:N_TARGETED])
    fits = window_fit(reward.scene, np.arange(N_TARGETED), beside, ITEMS)
    assert found.attributes["fits the window"] == pytest.approx(fits[numbers])
    assert found.rewards["value"].to_numpy() == pytest.approx(reward.per_text(np.array(numbers), beside[numbers]))


@pytest.mark.parametrize("apart", ["generator", "style"])
def test_what_is_worded_apart_earns_what_its_texts_say(reward, apart):
    styles = ("plain", "worded")
    rows = [(f"c{n}{style}", f"u{n:04}", "g", f"{style} {n}") for n in range(N_TARGETED) for style in styles]
    texts = candidates(*rows)
    column = texts.schema.get_field_index(apart)
    texts = texts.set_column(column, texts.field(column), pa.array(list(styles) * N_TARGETED))
    wording = {"plain": np.zeros(DIMS), "worded": 4 * np.random.default_rng(6).normal(size=DIMS)}

    def worded(lines: list[str]) -> np.ndarray:
        told = [line.split() for line in lines]
        return np.stack([VECTORS[int(n)] + wording[style] for style, n in told]).astype(np.float32)

    found = RankingJudge(reward, worded, None, seed=0).judge(texts).rewards["value"].to_numpy()
    plain, other = found.reshape(-1, 2).T
    assert plain.mean() > 0.1
    assert other == pytest.approx(plain, abs=2e-3)


def test_the_same_texts_given_to_others_earn_about_nothing(reward):
    controls = judged(reward).facts["controls"]
    assert controls["no profile"] == 0
    assert abs(controls["shuffled"]) < 0.1 < controls["candidates"]
