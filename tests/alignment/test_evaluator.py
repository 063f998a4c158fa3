"""The gate's evaluator on planted scenes: texts name what their users like, in the catalogue's words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lettingo_features.alignment.evaluator import Evaluator, EvaluatorConfig, Words
from lettingo_features.errors import DataError
from lettingo_features.evaluation.ranker import RankerConfig
from tests.alignment.small_world import WORDS, group_of, planted_scene, profile_texts

CONFIG = EvaluatorConfig(ranker=RankerConfig(trees=30, min_rows_per_leaf=20), reduced_dims=3, negatives=20)
NDCG = 0
U = 80


def training(seed: int = 1):
    """A scene and texts of three kinds for each user: two of its own group, and one that says nothing."""
    scene = planted_scene(n_users=U, seed=seed)
    texts = [*profile_texts(group_of(U), seed=2), *profile_texts(group_of(U), seed=3), *["Watches a lot."] * U]
    return scene, np.tile(np.arange(U), 3), texts


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(*training(), CONFIG)


def ndcg(evaluator: Evaluator, texts: list[str], scene=None) -> np.ndarray:
    return evaluator.judge(scene or planted_scene(n_users=U), texts).values[:, NDCG]


def test_own_texts_rank_better(evaluator):
    own, none = (ndcg(evaluator, texts) for texts in (profile_texts(group_of(U)), [""] * U))
    wrong = ndcg(evaluator, profile_texts(1 - group_of(U)))
    vague = ndcg(evaluator, ["Watches a lot."] * U)
    assert own.shape == (U,) and (own >= 0).all() and (own <= 1).all()
    assert own.mean() > 1.3 * none.mean() and own.mean() > 1.3 * vague.mean()
    assert wrong.mean() < none.mean()  # a wrong text does harm


def test_shuffled_texts_rank_worse(evaluator):
    texts = profile_texts(group_of(U))
    own = ndcg(evaluator, texts).mean()
    shuffled = [ndcg(evaluator, [texts[n] for n in np.random.default_rng(s).permutation(U)]).mean() for s in range(5)]
    assert own > max(shuffled)


def test_frozen(evaluator):
    texts = profile_texts(group_of(U))
    first = ndcg(evaluator, texts)
    ndcg(evaluator, profile_texts(1 - group_of(U)))
    assert ndcg(evaluator, texts).tolist() == first.tolist()
    again = Evaluator(*training(), CONFIG)
    assert ndcg(again, texts).tolist() == first.tolist()
    other = Evaluator(*training(), CONFIG.model_copy(update={"seed": 1}))
    assert ndcg(other, texts).tolist() != first.tolist()


def test_same_words_same_outcome(evaluator):
    """What a text looks like is not read: only its words that the catalogue has."""
    texts = profile_texts(group_of(U))
    dressed = [f"- {text.upper()}\n- Xyzzy plugh, 4711!" for text in texts]
    given, found = (evaluator.judge(planted_scene(n_users=U), each) for each in (texts, dressed))
    assert found.values.tolist() == given.values.tolist() and found.tied.tolist() == given.tied.tolist()


def test_unknown_words_are_no_text(evaluator):
    assert ndcg(evaluator, ["Xyzzy plugh."] * U).tolist() == ndcg(evaluator, [""] * U).tolist()


def test_a_user_does_not_depend_on_the_others_texts(evaluator):
    texts = profile_texts(group_of(U))
    changed = [*texts[:40], *profile_texts(1 - group_of(U))[40:]]
    one, other = ndcg(evaluator, texts), ndcg(evaluator, changed)
    assert one[:40].tolist() == other[:40].tolist() and one[40:].tolist() != other[40:].tolist()
    assert ndcg(Evaluator(*training(), replace_blocks()), texts).tolist() == one.tolist()


def replace_blocks() -> EvaluatorConfig:
    return CONFIG.model_copy(update={"block_rows": 1})  # one user at once


def test_met_items_are_not_ranked(evaluator):
    """A user who has met all but the targets has them on top, whatever the text."""
    from scipy import sparse

    scene = planted_scene(n_users=U)
    seen = np.ones(scene.seen.shape, dtype=np.float32)
    seen[scene.target_user, scene.target_item] = 0
    assert ndcg(evaluator, [""] * U, replace(scene, seen=sparse.csr_array(seen))).tolist() == [1] * U


def test_texts_that_say_nothing_teach_no_use_of_texts():
    scene, rows, _ = training()
    foreign = profile_texts(np.random.default_rng(0).permutation(group_of(U)))  # of anybody's group
    dull = Evaluator(scene, rows[:U], foreign, CONFIG)
    own, wrong = (ndcg(dull, profile_texts(each)).mean() for each in (group_of(U), 1 - group_of(U)))
    taught = Evaluator(scene, rows[:U], profile_texts(group_of(U), seed=2), CONFIG)
    taught_own, taught_wrong = (ndcg(taught, profile_texts(each)).mean() for each in (group_of(U), 1 - group_of(U)))
    assert taught_own - taught_wrong > 3 * abs(own - wrong)


@pytest.mark.parametrize("n", [0, U - 1, U + 1])
def test_one_text_per_user(evaluator, n):
    with pytest.raises(DataError, match=f"{n} texts for {U} users"):
        ndcg(evaluator, ["sailor"] * n)


CATALOGUE = [f"{a} {b} {c}" for group in WORDS for a, b, c in (group[:3], group[1:4], group[2:5], group[::2])]


def test_words_are_the_catalogues():
    words = Words(["once only", *CATALOGUE], topics=2, seed=0)
    vectors = words(["a sailor's tale", "a SAILOR!", "Xyzzy", "", "once only", "anchor", "dune"])
    assert vectors.dtype == np.float32 and vectors.shape == (7, 2)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert not vectors[[2, 3, 4]].any()  # unknown, none, and of a single item
    assert np.linalg.norm(vectors[[0, 1, 5, 6]], axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert vectors[0] @ vectors[5] > 0.5 > vectors[0] @ vectors[6]  # met in the same items, or not


def test_function_words_say_nothing():
    words = Words([f"the {text} and its {text}" for text in CATALOGUE], topics=2, seed=0)
    vectors = words(["the and its", "the anchor", "anchor"])
    assert not vectors[0].any()
    assert vectors[1] == pytest.approx(vectors[2], abs=1e-6)


def test_accents_and_case_are_folded():
    vectors = Words(["Café noir bleu", "café noir bleu", "rouge vert jaune", "rouge vert jaune"], 3, 0)(
        ["cafe", "CAFÉ"]
    )
    assert vectors[0].any() and vectors[0] == pytest.approx(vectors[1])


TOO_FEW = [  # texts, how many words they share
    ([], 0),
    (["", ""], 0),
    (["alpha", "beta"], 0),
    (["alpha beta", "alpha beta"], 2),
]


@pytest.mark.parametrize(("texts", "n"), TOO_FEW)
def test_a_catalogue_without_words_is_refused(texts, n):
    with pytest.raises(DataError, match=f"{len(texts)} item texts share {n} words"):
        Words(texts, 8, 0)
