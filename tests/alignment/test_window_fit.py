"""The fit of a text to its user's own past, against a slow loop, and who earns it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from lettingo_features.alignment import window_fit as module
from lettingo_features.alignment.window_fit import window_fit
from tests.alignment.small_world import group_of, item_vectors, planted_scene, profile_vectors

N_ITEMS, N_USERS = 120, 80
ITEMS = item_vectors(N_ITEMS)


def scene_of(seen: np.ndarray):
    return replace(planted_scene(), seen=sparse.csr_array(seen.astype(np.float32)))


def by_taste(seed: int = 0, n_items: int = 10) -> np.ndarray:
    """bool (U, I): each user met some items, all of the user's group."""
    rng, seen = np.random.default_rng(seed), np.zeros((N_USERS, N_ITEMS), dtype=bool)
    for user, group in enumerate(group_of(N_USERS)):
        seen[user, rng.choice(np.flatnonzero(group_of(N_ITEMS) == group), n_items, replace=False)] = True
    return seen


def slow(seen: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    found = []
    for row, vector in zip(rows, vectors, strict=True):
        cosines = ITEMS @ vector
        share = [((cosines < one).sum() + (cosines == one).sum() / 2) / N_ITEMS for one in cosines]
        of_user = [np.mean([share[item] for item in np.flatnonzero(past)]) for past in seen]
        found.append(of_user[row] - np.mean(np.delete(of_user, row)))
    return np.array(found)


@pytest.mark.parametrize("block", [3, 256])
def test_as_the_definition_reads(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    seen, rng = by_taste(), np.random.default_rng(1)
    rows = rng.integers(0, N_USERS, 50)
    vectors = profile_vectors(group_of(50), seed=2)
    assert window_fit(scene_of(seen), rows, vectors, ITEMS) == pytest.approx(slow(seen, rows, vectors), abs=1e-6)


def test_the_text_that_tells_the_user_fits():
    scene, rows = scene_of(by_taste()), np.arange(N_USERS)
    right = window_fit(scene, rows, profile_vectors(group_of(N_USERS), seed=3), ITEMS)
    wrong = window_fit(scene, rows, profile_vectors(1 - group_of(N_USERS), seed=3), ITEMS)
    assert (right > wrong).mean() > 0.95
    assert right.mean() > 0.1 > -0.1 > wrong.mean()


def test_texts_of_other_users_fit_nobody():
    scene, rng = scene_of(by_taste()), np.random.default_rng(4)
    vectors = profile_vectors(group_of(N_USERS), seed=5)
    means = [window_fit(scene, np.arange(N_USERS), vectors[rng.permutation(N_USERS)], ITEMS).mean() for _ in range(20)]
    assert abs(np.mean(means)) < 0.02


def test_who_has_no_past_or_no_others_fits_nothing():
    seen = by_taste()
    seen[5] = False
    vectors = profile_vectors(group_of(N_USERS), seed=6)
    found = window_fit(scene_of(seen), np.arange(N_USERS), vectors, ITEMS)
    assert found[5] == 0 and (found != 0).sum() == N_USERS - 1
    alone = np.zeros_like(seen)
    alone[7] = by_taste()[7]
    assert not window_fit(scene_of(alone), np.arange(N_USERS), vectors, ITEMS).any()
