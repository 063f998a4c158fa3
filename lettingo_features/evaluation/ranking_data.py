"""What the arms share: the training queries, both sides of the test, and the texts that tell the arms apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import (
    CATEGORIES,
    EMBEDDING_PROVENANCE,
    EVENT_TIMESTAMP,
    ITEM_ID,
    ITEM_TEXT_EMBEDDING,
    PROFILE_EMBEDDING,
    USER_BEHAVIOUR_PROVENANCE,
    USER_ID,
)
from lettingo_features.errors import DataError
from lettingo_features.evaluation.controls import DAY_US, NEVER, History, foreign_rows, microseconds
from lettingo_features.evaluation.features import (
    ItemSide,
    PairFeatures,
    Reduction,
    UserSide,
    UserText,
    item_side,
    normalised,
    pair_features,
    unit_vectors,
    user_side,
)
from lettingo_features.evaluation.labels import LABEL, QUERY_ID

if TYPE_CHECKING:
    from lettingo_features.evaluation.uplift import ProfileRows, UpliftConfig, UpliftInputs


@dataclass(frozen=True)
class Texts:
    """Texts of the users of the training queries (Q rows) and of the test users (U rows)."""

    train: UserText
    test: UserText


@dataclass(frozen=True)
class Users:
    """Who asks and when: ids (n,), instants and cutoffs of the behaviour features int64 (n,) microseconds, features."""

    ids: pa.Array
    instants: np.ndarray
    cutoffs: np.ndarray
    side: UserSide


class RankingData:
    """Arrays for training and for the test, from the joined tables; training is held once per query, not per row."""

    def __init__(self, inputs: UpliftInputs, config: UpliftConfig) -> None:
        self._config = config
        # Queries adjacent, as LambdaRank wants them; by item id inside, so that the positive has no place of its own.
        self._order = pc.sort_indices(inputs.train, [(QUERY_ID, "ascending"), (ITEM_ID, "ascending")])
        query = inputs.train[QUERY_ID].take(self._order).to_numpy()
        first, self._query_of_row, self.group_sizes = np.unique(
            query, return_index=True, return_inverse=True, return_counts=True
        )[1:]
        self._first_rows = self._order.take(pa.array(first))
        self.labels = inputs.train[LABEL].take(self._order).to_numpy()

        self.item_ids = inputs.items[ITEM_ID].combine_chunks()
        self.history = History.of(inputs.history, self.item_ids)
        vocabulary = pc.unique(pc.list_flatten(inputs.items[CATEGORIES])).sort()
        self.train = _users(inputs.train.take(self._first_rows), None, vocabulary)
        self.test = _users(inputs.test_users, inputs.split.test_start, vocabulary)

        item_vectors = unit_vectors(inputs.items[ITEM_TEXT_EMBEDDING])
        seen_early = np.zeros(len(self.item_ids), dtype=bool)
        seen_early[self.history.item[self.history.instant < _us(inputs.split.train_start)]] = True
        reduction = Reduction(item_vectors[seen_early], config.reduced_dims, "item texts before the training labels")
        self.items = item_side(inputs.items, inputs.items[CATEGORIES], vocabulary, item_vectors, reduction)
        rows = inputs.train.take(self._order)
        self._train_items = self._items_of_rows(rows, inputs.items, vocabulary, reduction)

    def _items_of_rows(self, rows: pa.Table, items: pa.Table, vocabulary: pa.Array, reduction: Reduction) -> ItemSide:
        """The item side of the training rows: features as of the label, categories (which do not change) by id."""
        place = pc.index_in(rows[ITEM_ID], value_set=self.item_ids)
        if place.null_count:
            raise DataError(
                f"{place.null_count} of {len(place)} training rows name items that are not among the "
                f"{len(self.item_ids)} available at test_start. Take labels and items from one split."
            )
        vectors = unit_vectors(rows[ITEM_TEXT_EMBEDDING], self.items.vectors.shape[1])
        return item_side(rows, items[CATEGORIES].take(place), vocabulary, vectors, reduction)

    def train_matrix(self, texts: Texts | None) -> np.ndarray:
        """float32 (N, F) of the training rows, queries adjacent; aligned with ``labels`` and ``group_sizes``."""
        users = replace(self.train.side, text=texts.train if texts else None)
        return pair_features(users.take(self._query_of_row), self._train_items, crossed=False).matrix()

    def test_features(self, texts: Texts | None, users: slice) -> PairFeatures:
        """The test users in ``users``, crossed with every item."""
        side = replace(self.test.side, text=texts.test if texts else None)
        return pair_features(side.take(users), self.items, crossed=True)

    def profile_texts(self, rows: ProfileRows, what: str) -> Texts:
        """The profiles of one generator; their components are fitted on those of the training queries."""
        dims = self.items.vectors.shape[1]
        train, test = (
            (
                unit_vectors(table[PROFILE_EMBEDDING], dims),
                _age_days(users.instants, microseconds(table[EMBEDDING_PROVENANCE.cutoff_at])),
            )
            for table, users in ((rows.train.take(self._first_rows), self.train), (rows.test, self.test))
        )
        return self._texts(train, test, what)

    def history_texts(self) -> Texts:
        """Mean item text of each user's history up to the cutoff of the behaviour features: no text about the user."""

        def mean_items(users: Users) -> tuple[np.ndarray, np.ndarray]:
            windows = self.history.windows(
                users.ids, users.cutoffs, self._config.history_days, self._config.history_newest
            )
            return normalised(windows @ self.items.vectors), _age_days(users.instants, users.cutoffs)

        return self._texts(mean_items(self.train), mean_items(self.test), "histories")

    def shuffled_texts(self, texts: Texts, seed: int) -> Texts:
        """Another user's text in the place of each text; who has one, and its age, stay."""

        def foreign(text: UserText, users: Users) -> UserText:
            donors = foreign_rows(users.ids, users.instants, text.present, seed)
            return replace(text, vectors=text.vectors[donors], reduced=text.reduced[donors])

        return Texts(foreign(texts.train, self.train), foreign(texts.test, self.test))

    def _texts(self, train: tuple, test: tuple, what: str) -> Texts:
        reduction = Reduction(train[0], self._config.reduced_dims, f"{what} of the training queries")
        return Texts(UserText.of(*train, reduction), UserText.of(*test, reduction))


def _users(rows: pa.Table, instant, vocabulary: pa.Array) -> Users:
    """``instant`` is that of all rows, or None: each row's own ``event_timestamp``."""
    instants = microseconds(rows[EVENT_TIMESTAMP]) if instant is None else np.full(rows.num_rows, _us(instant))
    return Users(
        ids=rows[USER_ID].combine_chunks(),
        instants=instants,
        cutoffs=microseconds(rows[USER_BEHAVIOUR_PROVENANCE.cutoff_at]),
        side=user_side(rows, vocabulary),
    )


def _us(instant) -> int:
    return round(instant.timestamp() * 1_000_000)


def _age_days(instants: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
    """float32, NaN where there is no cutoff."""
    return np.where(cutoffs == NEVER, np.nan, (instants - cutoffs) / DAY_US).astype(np.float32)
