"""The ranking reward as a judge: users with a target, users without one, and strangers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.ranking_judge import RankingJudge
from lettingo_features.alignment.ranking_reward import RankingReward, RankingRewardConfig, fit_ranker
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.alignment.window_fit import window_fit
from tests.alignment.rows import candidates
from tests.alignment.small_world import group_of, item_vectors, planted_scene, profile_vectors

N_USERS, N_TARGETED, N_ITEMS = 80, 60, 120
ITEMS = item_vectors(N_ITEMS)
WHOLE = planted_scene()


@pytest.fixture(scope="module")
def reward() -> RankingReward:
    fitted = planted_scene(seed=1)
    config = RankingRewardConfig()
    ranker = fit_ranker(fitted, ITEMS, profile_vectors(group_of(N_USERS), seed=1), config)
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


VECTORS = profile_vectors(group_of(N_USERS + 1), seed=2)
TEXTS = candidates(
    *((f"c{n}", f"u{n:04}", "g", f"text {n}") for n in reversed(range(N_USERS))), ("x", "?", "g", "text 80")
)


def judged(reward: RankingReward, texts: pa.Table = TEXTS):
    explored = pa.array([*WHOLE.user_ids.to_pylist(), "?"])  # the last has no history
    return RankingJudge(
        reward, lambda lines: VECTORS[[int(line.split()[1]) for line in lines]], None, explored, 0
    ).judge(texts)


def test_who_has_no_target_has_no_reward_but_a_fit(reward):
    found = judged(reward)
    rows = {row["user_id"]: (place, row) for place, row in enumerate(found.rewards.to_pylist())}
    assert found.rewards.schema == REWARDS and set(rows) == set(WHOLE.user_ids.to_pylist())  # and no stranger
    seen = np.arange(N_USERS)
    fits = window_fit(WHOLE.seen, seen, VECTORS[:N_USERS], ITEMS)
    for n, user in enumerate(WHOLE.user_ids.to_pylist()):
        place, row = rows[user]
        assert found.attributes["fits the window"][place] == pytest.approx(fits[n])
        assert row["candidate_id"] == f"c{n}" and row["reward"] == reward.identity
        if n < N_TARGETED:
            assert row["n_targets"] == 4 and np.isfinite(row["noise"])
        else:
            assert (row["value"], row["raw"], row["noise"], row["n_targets"]) == (0, 0, np.inf, 0)
    assert found.facts["candidates_without_targets"] == N_USERS - N_TARGETED + 1


def test_they_change_no_reward_of_the_others(reward):
    alone = TEXTS.filter(pa.array([user < f"u{N_TARGETED:04}" for user in TEXTS["user_id"].to_pylist()]))
    few, all_ = judged(reward, alone), judged(reward)
    assert all_.rewards.slice(0, N_TARGETED).equals(few.rewards)
    assert all_.facts["controls"] == few.facts["controls"]
    assert np.array_equal(all_.attributes["fits the window"][:N_TARGETED], few.attributes["fits the window"])
