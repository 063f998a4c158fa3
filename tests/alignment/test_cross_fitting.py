"""Two halves, each judged by the other's ranker, on a world of two tastes; and a scene of a random split."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.cross_fitting import CrossFittedReward, halves
from lettingo_features.alignment.ranking_reward import RankingRewardConfig
from lettingo_features.alignment.scene import build_random_split_scene, build_scene
from lettingo_features.data.ingest import ingest
from lettingo_features.data.mapping import ColumnMapping
from lettingo_features.errors import DataError
from lettingo_features.home import Home
from tests.alignment import rows

N_USERS, N_ITEMS = 40, 60
NOW = datetime(2024, 6, 1, tzinfo=UTC)
CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)
USERS = pa.array([f"u{user:02}" for user in range(N_USERS)])
TASTE = np.arange(N_USERS) % 2  # and items: the even ones are of the first category


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Home, pa.Table]:
    """A home, and the targets that it does not hold: six each, of the user's taste; histories know no taste."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("two-tastes")
    past, targets = ["user_id,item_id,rating,timestamp"], []
    for user, taste in enumerate(TASTE):
        wanted = rng.choice(np.arange(taste, N_ITEMS, 2), 6, replace=False)
        free = np.setdiff1d(np.arange(N_ITEMS), wanted)
        met = np.concatenate([rng.choice(free[free % 2 == kind], 5, replace=False) for kind in (0, 1)])
        instants = CUTOFF.timestamp() - rng.integers(1, 86_400 * 30, 10)
        past += [f"u{user:02},i{item:02},4,{at:.0f}" for item, at in zip(met, instants, strict=True)]
        targets += [{"user_id": f"u{user:02}", "item_id": f"i{item:02}"} for item in wanted]
    (folder / "events.csv").write_text("\n".join(past) + "\n")
    items = [f"i{item:02},Film {item},{'Drama' if item % 2 else 'Comedy'}" for item in range(N_ITEMS)]
    (folder / "items.csv").write_text("\n".join(["item_id,title,categories", *items]) + "\n")
    home = Home(folder / "home").create()
    ingest([folder / "events.csv", folder / "items.csv"], home, format="table", mapping=ColumnMapping(), now=NOW)
    return home, pa.Table.from_pylist(targets)


@pytest.fixture(scope="module")
def scenes(world):
    home, targets = world
    return tuple(build_random_split_scene(home, CUTOFF, half, targets) for half in halves(USERS, seed=0))


def directions(users: pa.Array) -> np.ndarray:
    """The vector of each user's taste, with a little of the user's own."""
    numbers = np.array([int(user[1:]) for user in users.to_pylist()])
    rng = np.random.default_rng(1)
    vectors = np.eye(8)[TASTE[numbers]] + 0.1 * rng.normal(size=(N_USERS, 8))[numbers]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


ITEMS = np.eye(8, dtype=np.float32)[np.arange(N_ITEMS) % 2]


@pytest.fixture(scope="module", params=["matched", "log_likelihood"])
def judge(request, scenes) -> CrossFittedReward:
    users = pa.concat_arrays([scene.user_ids for scene in scenes])
    return CrossFittedReward(
        scenes, ITEMS, directions(users), RankingRewardConfig(utility=request.param, n_matched=20, n_others=30)
    )


def test_halves_are_disjoint_whole_and_the_same_in_any_order():
    first, second = halves(USERS, seed=3)
    assert sorted(first.to_pylist() + second.to_pylist()) == USERS.to_pylist()
    assert len(first) == len(second)
    assert all(a.equals(b) for a, b in zip(halves(USERS[::-1], seed=3), (first, second), strict=True))
    assert not halves(USERS, seed=4)[0].equals(first)


def test_the_own_taste_earns_and_the_other_loses(judge):
    own = directions(judge.user_ids)
    other = own[:, [1, 0, *range(2, 8)]]
    right, wrong = (judge.user_means(judge.gains(vectors)) for vectors in (own, other))
    assert right.mean() > 0.05
    assert wrong.mean() < -0.05
    assert (right > wrong).mean() > 0.95
    assert min(judge.text_weights()) > 0


def test_no_user_is_judged_by_a_ranker_that_saw_their_text(scenes):
    """Other texts for the fit of the first half change the rewards of the second half, and no other."""
    users = pa.concat_arrays([scene.user_ids for scene in scenes])
    config = RankingRewardConfig(utility="log_likelihood")
    texts = directions(users)
    n_first = len(scenes[0].user_ids)
    changed = texts.copy()
    changed[:n_first] = texts[:n_first][::-1]
    before, after = (CrossFittedReward(scenes, ITEMS, fit, config).gains(texts) for fit in (texts, changed))
    of_first = np.arange(len(before)) < len(scenes[0].target_user)
    assert (before[of_first] == after[of_first]).all()
    assert np.abs(before[~of_first] - after[~of_first]).min() > 1e-6


def test_rewards_are_the_means_of_the_gains(judge):
    users = judge.user_ids.to_pylist()
    texts = rows.candidates(*((f"c{user}", user, "kind", f"text of {user}") for user in sorted(users)))
    order = [sorted(users).index(user) for user in users]
    vectors = directions(pa.array(sorted(users)))
    table = judge.rewards(texts, vectors)
    assert table["user_id"].to_pylist() == users  # half by half, and within a half as the candidates came
    assert set(table["reward"].to_pylist()) == {judge.identity}
    means = judge.user_means(judge.gains(vectors[order]))
    assert table["value"].to_numpy() == pytest.approx(means, abs=1e-5)


def test_a_ranking_without_a_text(judge, scenes):
    """One order of the items for everybody follows one taste, and fails the other."""
    by_category = np.where(np.arange(N_ITEMS) % 2, 1.0, -1.0).astype(np.float32)
    drama, comedy = (judge.user_means(judge.gains_of_scores(sign * by_category)) for sign in (1, -1))
    likes_drama = np.array([TASTE[int(user[1:])] for user in judge.user_ids.to_pylist()]) == 1
    assert drama[likes_drama].min() > comedy[likes_drama].max()
    assert drama[~likes_drama].max() < comedy[~likes_drama].min()


def test_refused(scenes):
    vectors = directions(pa.concat_arrays([scenes[0].user_ids, scenes[0].user_ids]))
    with pytest.raises(DataError, match="20 users are in both scenes"):
        CrossFittedReward((scenes[0], scenes[0]), ITEMS, vectors, RankingRewardConfig())


def test_a_random_split_has_targets_of_any_time_and_build_scene_has_not(world):
    home, targets = world
    early = pa.array([CUTOFF - timedelta(days=20)] * len(targets), pa.timestamp("us", tz="UTC"))
    timed = targets.append_column("event_timestamp", early)
    with pytest.raises(DataError, match="240 of 240 targets lie before"):
        build_scene(home, CUTOFF, USERS, timed, 0)
    scene = build_random_split_scene(home, CUTOFF, USERS, timed)
    assert (scene.counts["users"], scene.counts["targets"]) == (N_USERS, 240)
    assert not scene.seen[scene.target_user, scene.target_item].any()


def test_what_the_home_holds_is_no_target(world):
    home, targets = world
    met = pa.table({"user_id": ["u00"], "item_id": [_met(home)]})
    scene = build_random_split_scene(home, CUTOFF, USERS, pa.concat_tables([targets, met]))
    assert (scene.counts["targets"], scene.counts["targets_met_before"]) == (240, 1)


def _met(home: Home) -> str:
    from lettingo_features.sql import connect

    sql = f"SELECT item_id FROM {home.scan('interactions')} WHERE user_id = 'u00' ORDER BY item_id LIMIT 1"
    return connect().execute(sql).fetchall()[0][0]
