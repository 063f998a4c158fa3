"""Shrinkage on planted rewards: value = what the user adds + what the kind adds + what the text adds + known noise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.shrinkage import shrunk
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.errors import DataError
from tests.alignment.rows import candidates, rewards

N_USERS, N_TEXTS = 60, 6
KIND, SPREAD, NOISE = 0.3, 0.2, 0.3  # of a text with numbers over one without; of texts of a kind; known


def planted(seed: int, kind: float = KIND, spread: float = SPREAD, generators: int = 1):
    """Rewards, candidates and the true value of each candidate, N_TEXTS a user, half of them with a number."""
    rng = np.random.default_rng(seed)
    n = N_USERS * N_TEXTS
    user, place = np.arange(n) // N_TEXTS, np.arange(n) % N_TEXTS
    numbered = (place >= N_TEXTS // 2).astype(int)
    texts = [f"a text {'with 7' if has else 'with no'} in it" for has in numbered]
    found = candidates(*((f"c{k:04}", f"u{user[k]:02}", f"g{place[k] % generators}", texts[k]) for k in range(n)))
    truth = rng.normal(0, 2, N_USERS)[user] + kind * numbered + rng.normal(0, spread, n)
    noise = NOISE * rng.uniform(0.5, 1.5, n)
    values = truth + noise * rng.normal(size=n)
    given = rewards(dict(zip(found["candidate_id"].to_pylist(), values.tolist(), strict=True)))
    given = with_column(with_column(given, "user_id", found["user_id"]), "noise", pa.array(noise))
    return given, found, truth


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def within(values: np.ndarray) -> np.ndarray:
    by_user = np.reshape(values, (N_USERS, N_TEXTS))
    return (by_user - by_user.mean(axis=1, keepdims=True)).ravel()


def test_planted_effect_spread_and_values_are_found():
    z, spreads, noises, closer, calibrated = [], [], [], [], []
    for seed in range(40):
        given, found, truth = planted(seed)
        after, learnt = shrunk(given, found)
        assert after.schema == REWARDS
        effect, error = learnt.effects["numbers"]  # an attribute of 0 and 1, half each: one sd is one half
        z.append((effect - KIND / 2) / error)
        spreads.append(learnt.spread)
        noises.append(learnt.noise)
        raw, posterior = (within(table["value"].to_numpy()) - within(truth) for table in (given, after))
        closer.append(np.mean(posterior**2) / np.mean(raw**2))
        calibrated.append(np.mean((posterior / after["noise"].to_numpy()) ** 2))
    assert abs(np.mean(z)) < 4 / np.sqrt(40)  # no bias
    assert 0.7 < np.std(z) < 1.35  # and the standard error is one: chi-square of 40, both tails under 1 %
    assert np.mean(spreads) == pytest.approx(SPREAD, abs=0.02)
    assert np.mean(noises) == pytest.approx(NOISE * np.sqrt(1 + 1 / 12), rel=0.02)
    assert np.mean(closer) < 0.55 and max(closer) < 0.8  # tau2 / (tau2 + noise2) is 0.3, and the mean is shared
    assert 0.6 < np.mean(calibrated) < 1.0  # stated noise is not too small


def test_user_level_stays():
    given, found, _ = planted(0)
    after, _ = shrunk(given, found)
    levels = [table["value"].to_numpy().reshape(N_USERS, N_TEXTS).mean(axis=1) for table in (given, after)]
    # Noisier texts are shrunk more, which moves a user's mean by less than its own noise.
    assert levels[1] == pytest.approx(levels[0], abs=3 * NOISE / np.sqrt(N_TEXTS))
    assert np.corrcoef(*levels)[0, 1] > 0.99


@pytest.mark.parametrize("generators", [2, 3])
def test_coinciding_attributes_have_finite_errors(generators):
    """Of two generators one is the other's opposite within a user; with three they add up to one."""
    found_by_seed = []
    for seed in range(30):
        given, found, _ = planted(seed, kind=0.0, generators=generators)
        boost = np.array([name == "g1" for name in found["generator"].to_pylist()]) * 0.4
        given = with_column(given, "value", pa.array(given["value"].to_numpy() + boost))
        _, learnt = shrunk(given, found)
        # What the generator adds over the others: its own dummy less what the others' say.
        effect, error = learnt.effects["generator g1"]
        assert error < 0.1
        found_by_seed.append((effect, error))
    effects, errors = np.array(found_by_seed).T
    assert effects.std() == pytest.approx(errors.mean(), rel=0.4)
    assert (effects / errors > 2).mean() > 0.9


def test_nothing_but_noise_keeps_nothing():
    """With no spread a posterior is what its kind earns: values of one kind and user are one."""
    zeros = 0
    for seed in range(10):
        given, found, _ = planted(seed, spread=0.0)
        after, learnt = shrunk(given, found)
        by_kind = after["value"].to_numpy().reshape(N_USERS, 2, N_TEXTS // 2)
        if learnt.spread == 0:
            zeros += 1
            assert np.ptp(by_kind, axis=2).max() < 1e-9
        else:
            assert learnt.spread < 0.12
    assert zeros >= 2


def test_users_with_one_candidate_say_nothing_of_the_spread():
    given, found, _ = planted(0)
    _, learnt = shrunk(given, found)
    alone = rewards({f"v{n}": 5.0 * n for n in range(600)}, noise=1.0)
    alone = with_column(alone, "user_id", pa.array([f"alone {n}" for n in range(600)]))
    texts = candidates(*((f"v{n}", f"alone {n}", "g0", "a text without in it") for n in range(600)))
    after, both = shrunk(pa.concat_tables([given, alone]), pa.concat_tables([found, texts]))
    assert both.spread == pytest.approx(learnt.spread, rel=1e-6)
    assert after["value"].to_pylist()[-600:] == pytest.approx(alone["value"].to_pylist())


def test_rows_stay_in_their_order():
    given, found, _ = planted(1)
    after, learnt = shrunk(given, found)
    for column in set(REWARDS.names) - {"value", "noise"}:
        assert after[column].equals(given[column])
    order = np.random.default_rng(0).permutation(given.num_rows)
    mixed, again = shrunk(given.take(order), found.take(order[::-1]))
    assert mixed["candidate_id"].equals(given["candidate_id"].take(order))
    assert mixed["value"].to_numpy() == pytest.approx(after["value"].to_numpy()[order])
    assert mixed["noise"].to_numpy() == pytest.approx(after["noise"].to_numpy()[order])
    assert again.spread == pytest.approx(learnt.spread)


@pytest.mark.parametrize("noise", [0.0, -1.0, float("nan"), None])
def test_missing_noise_is_refused(noise):
    given, found, _ = planted(0)
    values = given["noise"].to_pylist()
    values[3] = values[5] = noise
    with pytest.raises(DataError, match="2 of 360 rewards have no noise"):
        shrunk(with_column(given, "noise", pa.array(values, pa.float64())), found)


def test_more_attributes_than_users_are_refused():
    given, found, _ = planted(0)
    head = given.slice(0, 2 * N_TEXTS), found.slice(0, 2 * N_TEXTS)
    with pytest.raises(DataError, match=r"2 users cannot tell . attributes"):
        shrunk(*head)


def test_what_was_learnt_can_be_read():
    given, found, _ = planted(0, generators=2)
    _, learnt = shrunk(given, found)
    told = learnt.to_json()
    assert told["spread"] == learnt.spread and told["effects"]["numbers"] == list(learnt.effects["numbers"])
    assert set(learnt.effects) == {"numbers", "generator g0", "generator g1"}  # what does not vary is not named
    lines = learnt.to_text().splitlines()
    strength = {name: abs(effect / error) for name, (effect, error) in learnt.effects.items()}
    assert lines[2].startswith(max(strength, key=strength.get)) and f"noise {learnt.noise:.4f}" in lines[-1]


def test_what_a_judge_measured_is_an_attribute_as_well():
    given, found, truth = planted(3, kind=0.0, spread=0.4)
    rng = np.random.default_rng(0)
    measured = {"told": truth + rng.normal(0, 0.2, len(truth)), "nothing": rng.normal(size=len(truth))}
    before, _ = shrunk(given, found)
    after, learnt = shrunk(given, found, measured=measured)
    effect, error = learnt.effects["told"]
    assert effect > 8 * error
    assert abs(learnt.effects["nothing"][0]) < 3 * learnt.effects["nothing"][1]
    left = [np.mean((within(table["value"].to_numpy()) - within(truth)) ** 2) for table in (before, after)]
    assert left[1] < left[0] / 2
