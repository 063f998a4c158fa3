"""Picking a text per user on half of the targets: pays where texts differ by user, and only there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.picks import PICKED, RANDOM, SEEN, SHRUNK, SINGLE, picks
from lettingo_features.errors import DataError
from tests.alignment import rows

N_USERS, N_KINDS, N_TARGETS = 200, 3, 8
USER = np.repeat(np.arange(N_USERS), N_TARGETS)
WORDS = ("one", "one two three", "one two three four five six seven")


def texts(n_users: int = N_USERS) -> pa.Table:
    """A text of each kind for each user, kind by kind; kinds differ by their length."""
    return rows.candidates(
        *(
            (f"{kind}-{user}", f"u{user}", f"kind {kind}", WORDS[kind])
            for kind in range(N_KINDS)
            for user in range(n_users)
        )
    )


def gains(own: float, kinds: tuple[float, ...] = (0.0, 0.0, 0.0), noise: float = 1.0, seed: int = 1) -> np.ndarray:
    """``own``: spread of what a text is worth to its user; ``kinds``: what a kind is worth to all."""
    rng = np.random.default_rng(seed)
    effect = own * rng.normal(size=(N_KINDS, N_USERS)) + np.array(kinds)[:, None]
    return effect[:, USER] + noise * rng.normal(size=(N_KINDS, len(USER)))


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {rule: float(each.mean()) for rule, each in values.items()}


def test_noise_alone_looks_like_a_gain_only_on_the_half_that_picked():
    found = means(picks(gains(own=0.0), USER, texts()).values)
    assert found[SEEN] > 0.3
    for rule in (PICKED, SHRUNK, SINGLE):
        assert found[rule] - found[RANDOM] == pytest.approx(0, abs=0.05)


def test_a_text_that_suits_its_user_is_found():
    found = means(picks(gains(own=1.0), USER, texts()).values)
    assert found[PICKED] - found[RANDOM] > 0.5
    assert found[SHRUNK] - found[RANDOM] > 0.5
    assert found[PICKED] - found[SINGLE] > 0.5
    assert found[SEEN] > found[PICKED]


def test_where_one_kind_is_better_for_all_shrinking_picks_it():
    result = picks(gains(own=0.0, kinds=(0.0, 0.5, 0.0), noise=2.0), USER, texts())
    found = means(result.values)
    assert set(result.single) == {1}
    assert found[SINGLE] == pytest.approx(0.5, abs=0.1)
    assert found[PICKED] < found[SINGLE] - 0.1  # led astray by luck
    assert found[SHRUNK] == pytest.approx(found[SINGLE], abs=0.05)


def test_without_noise_every_half_agrees():
    exact = gains(own=1.0, noise=1e-9)
    result = picks(exact, USER, texts(), splits=3)
    best = exact[:, ::N_TARGETS].max(0)
    assert result.values[PICKED] == pytest.approx(best, abs=1e-6)
    assert result.values[SEEN] == pytest.approx(best, abs=1e-6)
    assert result.values[RANDOM] == pytest.approx(exact[:, ::N_TARGETS].mean(0), abs=1e-6)


def test_users_with_one_target_are_left_out():
    user = np.concatenate([USER, [N_USERS]])
    more = np.concatenate([gains(own=0.0), [[9.0]] * N_KINDS], axis=1)
    result = picks(more, user, texts(N_USERS + 1), splits=1)
    assert result.user.tolist() == list(range(N_USERS))
    assert max(result.values[SEEN]) < 9


def test_the_same_seed_gives_the_same_halves():
    first, again, other = (picks(gains(own=0.5), USER, texts(), 2, seed=seed).values[PICKED] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_refused():
    with pytest.raises(DataError, match="not one of each of 3 kinds for 200 users"):
        picks(gains(0.0), USER, texts(10))
    with pytest.raises(DataError, match="None of 2 users has two targets"):
        picks(np.zeros((N_KINDS, 2)), np.array([0, 1]), texts(2))
