"""The ranking reward on planted scenes, where the right text is known, and against slow loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from lettingo_features.alignment import ranking_reward as rr
from lettingo_features.alignment.ranking_reward import FrozenRanker, RankingReward, RankingRewardConfig, fit_ranker
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.errors import DataError
from lettingo_features.evaluation.features import ITEM_NUMBERS
from tests.alignment.rows import candidates
from tests.alignment.small_world import group_of, item_vectors, planted_scene, profile_vectors

UTILITIES = ["matched", "log_likelihood"]
N_ITEMS = 120
ITEMS = item_vectors(N_ITEMS)


@pytest.fixture(scope="module")
def ranker() -> FrozenRanker:
    scene = planted_scene(seed=1)
    return fit_ranker(scene, ITEMS, profile_vectors(group_of(80), seed=1), RankingRewardConfig())


def judge(ranker, utility, scene=None, **config) -> RankingReward:
    return RankingReward(ranker, scene or planted_scene(), ITEMS, RankingRewardConfig(utility=utility, **config))


def texts_of(scene, groups: list[np.ndarray]) -> tuple[pa.Table, np.ndarray]:
    """One candidate per user and entry of ``groups``, which says the group that each user's text speaks of."""
    users = scene.user_ids.to_pylist()
    rows = [(f"{user}-{n}", user, "g", f"text {n} of {user}") for n in range(len(groups)) for user in users]
    vectors = np.concatenate([profile_vectors(each, seed=10 + n) for n, each in enumerate(groups)])
    return candidates(*rows), vectors


@pytest.mark.parametrize("utility", UTILITIES)
def test_own_group_earns_more_than_the_other(ranker, utility):
    scene, own = planted_scene(), group_of(80)
    found = judge(ranker, utility).rewards(*texts_of(scene, [own, 1 - own]))
    assert found.schema == REWARDS
    right, wrong = found["value"].to_numpy().reshape(2, -1)
    assert (right > wrong).mean() > 0.9
    assert right.mean() > 0.1 > -0.1 > wrong.mean()
    assert found["raw"].equals(found["value"]) and found["n_targets"].to_pylist() == [4] * 160


def test_texts_of_other_users_earn_nothing_when_matched(ranker):
    scene = planted_scene(n_users=200, seed=3)
    given = profile_vectors(group_of(200), seed=4)
    ranks = RankingReward(ranker, scene, ITEMS, RankingRewardConfig())
    means = []
    for seed in range(8):
        table, _ = texts_of(scene, [group_of(200)])
        order = np.random.default_rng(seed).permutation(200)
        means.append(np.mean(ranks.rewards(table, given[order])["value"].to_numpy()))
    own = np.mean(ranks.rewards(table, given)["value"].to_numpy())
    assert own > 0.2
    assert abs(np.mean(means)) < 0.01
    assert np.abs(means).max() < 0.08  # one shuffle of 200 users


def test_sounding_like_what_everybody_likes_earns_nothing_when_matched(ranker):
    scene = planted_scene(n_users=400, likes=0.5)  # tastes do not differ ...
    quality = np.random.default_rng(0).random(N_ITEMS).astype(np.float32)
    quality[scene.target_item] += 0.5  # ... and what is liked can be told from its vector
    items = np.concatenate([ITEMS, quality[:, None]], axis=1)
    praise = np.zeros((400, 17), dtype=np.float32)
    praise[:, -1] = 1
    widened = replace(ranker, mean_profile=np.append(ranker.mean_profile, np.float32(0)))
    ranks = RankingReward(widened, scene, items, RankingRewardConfig())
    shares = ranks.per_target(np.arange(400), praise)
    assert abs(shares.mean()) < 0.02
    assert shares.std() > 0.1  # though it says much about single targets


@pytest.mark.parametrize("utility", UTILITIES)
def test_no_profile_is_zero(ranker, utility):
    if utility == "log_likelihood":  # a ranker that reads no text: with and without a profile are one
        ranker = replace(ranker, text=np.zeros(2), behaviour=ranker.without_profile)
    found = judge(ranker, utility).per_target(np.arange(80), np.zeros((80, 16), dtype=np.float32))
    assert found == pytest.approx(np.zeros(320), abs=1e-6)


def test_log_likelihood_equals_an_explicit_softmax(ranker):
    scene = planted_scene(n_users=6, seed=7)
    rows = np.array([4, 0, 4, 2])
    vectors = profile_vectors(np.array([0, 1, 1, 0]), seed=8)
    features = (rr._behaviour(scene).astype(np.float64) - ranker.scale[:, 0]) / ranker.scale[:, 1]
    seen = scene.seen.toarray() > 0
    expected = []
    for row, vector in zip(rows, vectors, strict=True):
        for target in scene.target_item[scene.target_user == row]:
            log_p = []
            for profile in (True, False):
                scores = {}
                for item in np.flatnonzero(~seen[row]):
                    if profile:
                        score = features[row, item] @ ranker.behaviour
                        score += ranker.text @ [vector @ ITEMS[item], ranker.mean_profile @ ITEMS[item]]
                    else:
                        score = features[row, item] @ ranker.without_profile
                    scores[item] = score
                log_p.append(scores[target] - np.log(sum(np.exp(score) for score in scores.values())))
            expected.append(log_p[0] - log_p[1])
    found = judge(ranker, "log_likelihood", scene).per_target(rows, vectors)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n_matched", [1, 7, 113, 5_000])  # 113 = items less the target and six that were met
def test_matched_share_equals_a_slow_loop(ranker, n_matched):
    scene = planted_scene(n_users=6, seed=7)
    rows = np.array([5, 1, 1])
    vectors = np.round(profile_vectors(np.array([0, 1, 0]), seed=8))  # few values: cosines tie
    items = np.round(ITEMS)
    features = (rr._behaviour(scene).astype(np.float64) - ranker.scale[:, 0]) / ranker.scale[:, 1]
    scores = features @ ranker.without_profile
    targets = list(zip(scene.target_user.tolist(), scene.target_item.tolist(), strict=True))
    ties = 0

    def share(row: int, vector: np.ndarray, user: int, target: int) -> float | None:
        """Of the items near the target of ``user``, those below it for the reader ``row``; both have not met them."""
        nonlocal ties
        if scene.seen[row, target]:
            return None
        free = [item for item in range(N_ITEMS) if item != target and not scene.seen[user, item]]
        near = sorted(free, key=lambda item: abs(scores[user, item] - scores[user, target]))[:n_matched]
        cosines = [vector @ items[item] for item in near if not scene.seen[row, item]]
        own = vector @ items[target]
        ties += sum(each == own for each in cosines)
        points = [1.0 if each < own else 0.5 if each == own else 0.0 for each in cosines]
        return sum(points) / len(points) if points else 0.5

    expected = []
    for row, vector in zip(rows, vectors, strict=True):
        of_users = []  # each other user counts once
        for other in sorted({user for user, _ in targets} - {row}):
            each = [share(row, vector, user, target) for user, target in targets if user == other]
            of_users += [(one, sum(e is not None for e in each)) for one in each if one is not None]
        n = {user: sum(u == user for u, _ in targets) for user, _ in targets}
        others = sum(one / n[row] for one, _ in of_users) / sum(1 / n[row] for _ in of_users)
        expected += [share(row, vector, u, t) - others for u, t in targets if u == row]
    config = RankingRewardConfig(n_matched=n_matched)
    assert RankingReward(ranker, scene, items, config).per_target(rows, vectors) == pytest.approx(expected, abs=1e-6)
    assert ties


def test_a_user_with_many_targets_weighs_as_one_with_few(ranker):
    scene = planted_scene(n_users=80, seed=7)
    times = np.where(scene.target_user == 3, 50, 1)
    heavy = replace(
        scene, target_user=np.repeat(scene.target_user, times), target_item=np.repeat(scene.target_item, times)
    )
    vectors = profile_vectors(group_of(80))
    rows = np.flatnonzero(np.arange(80) != 3)
    found, expected = (
        RankingReward(ranker, each, ITEMS, RankingRewardConfig()).per_target(rows, vectors[rows])
        for each in (heavy, scene)
    )
    assert found == pytest.approx(expected, abs=1e-6)


def test_items_that_were_met_are_not_compared_with(ranker):
    """A text that describes what its user saw would otherwise lose to the very items that it was written from."""
    scene = planted_scene(n_users=4, seed=7)
    vectors = profile_vectors(group_of(4))
    before = RankingReward(ranker, scene, ITEMS, RankingRewardConfig()).per_target(np.arange(4), vectors)
    moved = ITEMS.copy()
    moved[scene.seen[[0]].toarray()[0] > 0] *= -9  # what user 0 met
    after = RankingReward(ranker, scene, moved, RankingRewardConfig()).per_target(np.arange(4), vectors)
    assert after[:4].tolist() == before[:4].tolist()
    assert after[4:].tolist() != before[4:].tolist()  # others may be shown it


def test_a_user_alone_who_met_all_other_items_has_nothing_to_compare(ranker):
    scene = planted_scene(n_users=1)
    seen = np.ones((1, N_ITEMS), dtype=np.float32)
    seen[0, 3] = 0
    scene = replace(scene, seen=sparse.csr_array(seen), target_user=np.array([0]), target_item=np.array([3]))
    assert judge(ranker, "matched", scene).per_target(np.array([0]), ITEMS[:1]).tolist() == [0]


@pytest.mark.parametrize("utility", UTILITIES)
def test_texts_come_in_any_order_and_repeated(ranker, utility):
    scene = planted_scene(n_users=8, seed=5)
    drop = np.array([0, 1, 5, 6, 7, 20])  # users with 2, 1, 3 and 4 targets
    scene = replace(
        scene, target_user=np.delete(scene.target_user, drop), target_item=np.delete(scene.target_item, drop)
    )
    ranks = judge(ranker, utility, scene)
    rows = np.array([7, 1, 0, 1, 5, 7])
    vectors = profile_vectors(rows % 2, seed=6)
    assert ranks.target_counts(rows).tolist() == [4, 1, 2, 1, 3, 4]
    singly = [ranks.per_target(rows[n : n + 1], vectors[n : n + 1]) for n in range(6)]
    assert ranks.per_target(rows, vectors) == pytest.approx(np.concatenate(singly), abs=1e-5)
    assert ranks.per_target(np.zeros(0, dtype=np.int64), vectors[:0]).shape == (0,)


def test_blocks_change_nothing(ranker, monkeypatch):
    scene = planted_scene()
    rows, vectors = np.arange(80), profile_vectors(group_of(80))
    whole = judge(ranker, "log_likelihood").per_target(rows, vectors)
    monkeypatch.setattr(rr, "BLOCK", 7)
    assert judge(ranker, "log_likelihood", scene).per_target(rows, vectors) == pytest.approx(whole, abs=1e-5)


def test_gradient_equals_finite_differences(monkeypatch):
    scene = planted_scene(n_users=30)
    features = np.random.default_rng(0).normal(size=(30, N_ITEMS, 4))
    caught = {}

    def spy(fun, start, **options):
        caught["loss"] = fun
        return real(fun, start, **options)

    import scipy.optimize

    real = scipy.optimize.minimize
    monkeypatch.setattr(scipy.optimize, "minimize", spy)
    rr._maximum_likelihood(features, scene, l2=0.3)
    at, step = np.array([0.5, -1.0, 0.25, 2.0]), 2.0**-10  # exact in float32
    _, gradient = caught["loss"](at)
    for k in range(4):
        move = np.eye(4)[k] * step
        slope = (caught["loss"](at + move)[0] - caught["loss"](at - move)[0]) / (2 * step)
        assert gradient[k] == pytest.approx(slope, abs=1e-4)


def test_planted_coefficients_are_found():
    """Targets drawn from a conditional logit of known coefficients, on items that were not met."""
    scene, rng = planted_scene(n_users=60, seed=2), np.random.default_rng(3)
    profiles = profile_vectors(group_of(60), seed=2)
    features = rr._behaviour(scene).astype(np.float64)
    features = (features - features.mean(axis=(0, 1))) / features.std(axis=(0, 1))
    planted = np.zeros(features.shape[-1])
    planted[[3, -1]] = 0.8, -0.5
    scores = features @ planted + 5.0 * (profiles @ ITEMS.T) - 3.0 * (ITEMS @ profiles.mean(axis=0))
    scores[scene.seen.toarray() > 0] = -np.inf
    chance = np.exp(scores - scores.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    items = np.concatenate([rng.choice(N_ITEMS, 200, p=row) for row in chance])
    scene = replace(scene, target_user=np.repeat(np.arange(60), 200), target_item=items)
    found = fit_ranker(scene, ITEMS, profiles, RankingRewardConfig(l2=1e-6))
    assert found.behaviour == pytest.approx(planted, abs=0.08)
    assert found.text[0] == pytest.approx(5.0, abs=0.3)
    assert found.text[1] == pytest.approx(-3.0, abs=0.6)
    assert found.fit["loss"] < np.log(N_ITEMS - 6)  # better than chance


def test_fit_reads_no_met_item(ranker):
    """Whatever met items look like, their scores stand in no denominator: move one and only its vector's mean moves."""
    scene = planted_scene(n_users=20, seed=1)
    never = np.setdiff1d(np.arange(N_ITEMS), scene.target_item)[:1]
    seen = scene.seen.toarray()
    seen[:, never] = 1  # everybody met it
    scene = replace(scene, seen=sparse.csr_array(seen))
    moved = ITEMS.copy()
    moved[never] *= -5
    profiles = profile_vectors(group_of(20))
    found = [fit_ranker(scene, each, profiles, RankingRewardConfig()) for each in (ITEMS, moved)]
    assert found[0].identity == found[1].identity


def test_unrated_data_can_be_ranked():
    scene = planted_scene(n_users=20)
    numbers = scene.item_numbers.copy()
    numbers[:, [ITEM_NUMBERS.index("item_mean_rating"), ITEM_NUMBERS.index("item_std_rating")]] = np.nan
    none = sparse.csr_array(scene.users.shares.shape, dtype=np.float32)
    scene = replace(scene, item_numbers=numbers, users=replace(scene.users, rated_shares=none, ratings=none))
    found = fit_ranker(scene, ITEMS, profile_vectors(group_of(20)), RankingRewardConfig())
    assert np.isfinite(found.behaviour).all() and found.text[0] > 1


def test_features_that_are_no_numbers_are_refused():
    scene = planted_scene(n_users=20)
    profiles = profile_vectors(group_of(20))
    profiles[3] = np.nan
    with pytest.raises(DataError, match="on 80 targets"):
        fit_ranker(scene, ITEMS, profiles, RankingRewardConfig())


def test_frozen(ranker):
    again = fit_ranker(planted_scene(seed=1), ITEMS, profile_vectors(group_of(80), seed=1), RankingRewardConfig())
    assert again.identity == ranker.identity
    scene, before = planted_scene(), ranker.identity
    table, vectors = texts_of(scene, [group_of(80)])
    ranks = judge(ranker, "log_likelihood")
    first = ranks.rewards(table, vectors)
    assert ranks.rewards(table, vectors).equals(first) and ranker.identity == before
    assert set(first["reward"].to_pylist()) == {ranks.identity}
    changed = [ranker]
    for name in ("behaviour", "text", "without_profile", "mean_profile", "scale"):
        for place in range(getattr(ranker, name).size):
            values = getattr(ranker, name).copy()
            values.flat[place] = np.nextafter(values.flat[place], np.inf, dtype=values.dtype)
            changed.append(replace(ranker, **{name: values}))
    assert len({each.identity for each in changed}) == len(changed)
    judges = [judge(each, utility) for each in changed[:2] for utility in UTILITIES]
    judges += [judge(ranker, "matched", n_matched=5), judge(ranker, "matched", seed=1)]
    assert len({each.identity for each in judges}) == 6


def test_noise_is_what_drawing_the_targets_again_gives(ranker):
    """Bootstrap over each user's targets of what is a candidate's own: its gain less the mean over the candidates."""
    scene = planted_scene(n_users=40, n_targets=12, seed=9)
    groups = [group_of(40), 1 - group_of(40), group_of(40), np.zeros(40, dtype=int)]
    table, vectors = texts_of(scene, groups)
    ranks = judge(ranker, "matched", scene, prior_targets=1e-9)  # each candidate by its own targets
    found = ranks.rewards(table, vectors)
    gains = ranks.per_target(scene.rows_of(table["user_id"]), vectors).reshape(4, 40, 12)
    assert found["value"].to_numpy() == pytest.approx(gains.mean(axis=2).ravel())
    own = gains - gains.mean(axis=0)
    drawn = np.random.default_rng(0).integers(0, 12, size=(2_000, 12))
    errors = own[:, :, drawn].mean(axis=3).std(axis=2).ravel() * np.sqrt(12 / 11)
    ratio = found["noise"].to_numpy() / errors / np.sqrt(4 / 3)  # four candidates: a quarter went into their mean
    assert ratio.mean() == pytest.approx(1, abs=0.02) and np.abs(ratio - 1).max() < 0.1
    margins = [(a, b) for a in range(4) for b in range(a)]
    drawn_again = np.mean([(gains[a] - gains[b])[:, drawn].mean(axis=2).var(axis=1) * 12 / 11 for a, b in margins])
    noise = found["noise"].to_numpy().reshape(4, 40)
    assert np.mean([noise[a] ** 2 + noise[b] ** 2 for a, b in margins]) == pytest.approx(drawn_again, rel=0.03)
    pooled = judge(ranker, "matched", scene, prior_targets=1e9).rewards(table, vectors)["noise"].to_numpy()
    assert np.ptp(pooled) < 1e-6 and pooled[0] ** 2 == pytest.approx(np.mean(found["noise"].to_numpy() ** 2), rel=1e-6)


def test_noise_where_every_user_has_one_target(ranker):
    scene = planted_scene(n_targets=1)
    found = judge(ranker, "matched", scene).rewards(*texts_of(scene, [group_of(80), 1 - group_of(80)]))
    assert (found["noise"].to_numpy() > 0).all()  # unknown is not none


def test_strangers_are_refused(ranker):
    with pytest.raises(DataError, match="1 of 1 users"):
        judge(ranker, "matched").rewards(candidates(("a", "nobody", "g", "t")), ITEMS[:1])
