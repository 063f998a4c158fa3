"""The gate's evaluator: a ranker of another family than the reward.

The reward ranks linearly. Here the ranker is LambdaRank over trees, with behaviour features beside the text, which is
read as its words (TF-IDF of the catalogue, reduced by truncated SVD: latent semantic analysis, Deerwester et al. 1990).
It is trained on users and times before the gate's, on texts of every kind that was explored, so that it prefers no
style by habit; then it is frozen, and every compared generator is ranked by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from lettingo_features.alignment.scene import Scene
from lettingo_features.config import Config
from lettingo_features.errors import DataError
from lettingo_features.evaluation.features import ItemSide, Reduction, UserText, normalised, pair_features
from lettingo_features.evaluation.full_ranking import FullRanking, Outcome
from lettingo_features.evaluation.ranker import RankerConfig, train_ranker
from lettingo_features.evaluation.tree_scoring import TreeScorer


class EvaluatorConfig(Config):
    """How the evaluator reads and ranks."""

    ranker: RankerConfig = RankerConfig()
    "The trees."
    topics: int = Field(128, ge=2)
    "Dimensions of the word space."
    reduced_dims: int = Field(8, ge=1)
    "Principal components of item and profile vectors as features of their own."
    negatives: int = Field(50, ge=1)
    "Items per training target, drawn uniformly from those that the user has not met."
    block_rows: int = Field(200_000, ge=1)
    "(user, item) pairs scored at once."
    seed: int = 0
    "Of negatives, trees and tie-breaking."


class Words:
    """Texts as vectors of their words, in a space made from a catalogue alone.

    Parameters
    ----------
    item_texts
        Of the catalogue; sets vocabulary, weights and topics. English function words are left out: titles and prose
        share them without meaning the same.
    """

    def __init__(self, item_texts: Sequence[str], topics: int, seed: int) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._weights = TfidfVectorizer(sublinear_tf=True, min_df=2, strip_accents="unicode", stop_words="english")
        try:
            counts = self._weights.fit_transform(item_texts)
        except ValueError:  # no text, or no word that two of them have
            counts = np.zeros((len(item_texts), 0))
        if counts.shape[1] <= 2:
            raise DataError(f"{len(item_texts)} item texts share {counts.shape[1]} words: too few to compare texts by.")
        self._topics = TruncatedSVD(min(topics, counts.shape[1] - 1), random_state=seed).fit(counts)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, topics), unit length; zero where no word is known."""
        return normalised(self._topics.transform(self._weights.transform(texts)).astype(np.float32))


class Evaluator:
    """Trained once; `judge` ranks the items for any texts of a later scene's users.

    Parameters
    ----------
    scene
        U training users and their targets.
    user_rows, texts
        One training text per entry: the scene's row of its user, int64 (T,), and the text. Several texts of one user
        each ask about all of the user's targets.
    """

    def __init__(self, scene: Scene, user_rows: np.ndarray, texts: Sequence[str], config: EvaluatorConfig) -> None:
        self.config = config
        self._words = Words([text for text in scene.item_texts if text], config.topics, config.seed)
        vectors = self._words(scene.item_texts)
        self._item_reduction = Reduction(vectors, config.reduced_dims, "item words")
        text_vectors = self._words(texts)
        self._text_reduction = Reduction(text_vectors, config.reduced_dims, "profile words")
        users = replace(scene.users.take(user_rows), text=self._text(text_vectors))
        items = self._items(scene, vectors)
        query_text, item, label, sizes = _queries(scene, user_rows, config)
        features = pair_features(users.take(query_text), _take(items, item), crossed=False)
        self._trees = TreeScorer(train_ranker(features.matrix(), label, sizes, config.ranker, config.seed))

    def judge(self, scene: Scene, texts: Sequence[str]) -> Outcome:
        """Rank all available items that a user has not met, for each user of ``scene`` with a text each ('' none)."""
        if len(texts) != len(scene.user_ids):
            raise DataError(f"{len(texts)} texts for {len(scene.user_ids)} users: give one each, '' for none.")
        items = self._items(scene, self._words(scene.item_texts))
        users = replace(scene.users, text=self._text(self._words(texts)))
        ranking = FullRanking(
            scene.user_ids.to_pylist(),
            scene.seen,
            (scene.target_user, scene.target_item),
            self.config.block_rows,
            self.config.seed,
        )

        def scores(block: slice) -> list[np.ndarray]:
            return [self._trees.scores(pair_features(users.take(block), items, crossed=True))]

        return ranking.judge(scores)[0]

    def _text(self, vectors: np.ndarray) -> UserText:
        """Texts of one age: all were written at the scene's cutoff."""
        return UserText.of(vectors, np.zeros(len(vectors), dtype=np.float32), self._text_reduction)

    def _items(self, scene: Scene, vectors: np.ndarray) -> ItemSide:
        return ItemSide(scene.item_numbers, scene.item_categories, vectors, self._item_reduction(vectors))


def _take(items: ItemSide, rows: np.ndarray) -> ItemSide:
    return ItemSide(items.numbers[rows], items.categories[rows], items.vectors[rows], items.reduced[rows])


def _queries(scene: Scene, user_rows: np.ndarray, config: EvaluatorConfig):
    """Rows of the training matrix, queries adjacent: text, item and label of each row, and the size of each query."""
    rng = np.random.default_rng(config.seed)
    blocked = scene.seen.toarray() != 0
    blocked[scene.target_user, scene.target_item] = True  # what a user liked later is no negative
    text, item, label, sizes = [], [], [], []
    for place, user in enumerate(user_rows):
        free = np.flatnonzero(~blocked[user])
        for target in scene.target_item[scene.target_user == user]:
            drawn = rng.choice(free, size=min(config.negatives, len(free)), replace=False)
            rows = np.sort(np.append(drawn, target))  # by item, so that the target has no place of its own
            text.append(np.full(len(rows), place))
            item.append(rows)
            label.append((rows == target).astype(int))
            sizes.append(len(rows))
    return np.concatenate(text), np.concatenate(item), np.concatenate(label), np.array(sizes)
