"""What the ranker sees of a (user, item) pair, made by one function for training and for the test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from lettingo_features.columns import ITEM_BEHAVIOUR, USER_BEHAVIOUR
from lettingo_features.errors import DataError


def _numbers(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]


USER_NUMBERS = _numbers(USER_BEHAVIOUR)
ITEM_NUMBERS = _numbers(ITEM_BEHAVIOUR)


@dataclass(frozen=True)
class UserText:
    """What a text says about each of n users, or their raw history in the same form.

    Attributes
    ----------
    vectors : numpy.ndarray
        float32 (n, d), unit length, or zero where there is no text.
    reduced : numpy.ndarray
        float32 (n, k), principal components, NaN where there is no text.
    age_days : numpy.ndarray
        float32 (n,), days from the text's cutoff to the instant of the row, NaN where there is no text.
    """

    vectors: np.ndarray
    reduced: np.ndarray
    age_days: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray, age_days: np.ndarray, reduction: Reduction) -> UserText:
        """From unit vectors (zero = none) and ages (NaN = none): a text is present where both are."""
        present = vectors.any(axis=1) & ~np.isnan(age_days)
        vectors = np.where(present[:, None], vectors, np.float32(0))
        return UserText(vectors, reduction(vectors), np.where(present, age_days, np.nan).astype(np.float32))

    @property
    def present(self) -> np.ndarray:
        """bool (n,)"""
        return ~np.isnan(self.age_days)

    def take(self, rows: np.ndarray | slice) -> UserText:
        return UserText(self.vectors[rows], self.reduced[rows], self.age_days[rows])


@dataclass(frozen=True)
class UserSide:
    """Features of n users (or of n rows): ``numbers`` float32 (n, F), and sparse (n, C) rows over the categories.

    ``shares`` is the share of a category in the user's window; ``rated_shares`` the same where its mean rating is
    known, and ``ratings`` that share times the rating.
    """

    numbers: np.ndarray
    shares: sparse.csr_array
    rated_shares: sparse.csr_array
    ratings: sparse.csr_array
    text: UserText | None = None

    def take(self, rows: np.ndarray | slice) -> UserSide:
        text = None if self.text is None else self.text.take(rows)
        return UserSide(self.numbers[rows], self.shares[rows], self.rated_shares[rows], self.ratings[rows], text)


@dataclass(frozen=True)
class ItemSide:
    """Features of m items (or of m rows).

    ``numbers`` float32 (m, F); ``categories`` sparse (m, C) of ones; ``vectors`` float32 (m, d), unit length or zero;
    ``reduced`` float32 (m, k), NaN where there is no vector.
    """

    numbers: np.ndarray
    categories: sparse.csr_array
    vectors: np.ndarray
    reduced: np.ndarray


class Reduction:
    """Principal components, fitted on training vectors only.

    Parameters
    ----------
    vectors : numpy.ndarray
        float32 (n, d); zero rows (no text) are left out.
    dims : int
    what : str
        Name of the vectors, for the error.

    Raises
    ------
    DataError
        If fewer than ``dims`` + 1 vectors are left, or if they have fewer than ``dims`` dimensions.
    """

    def __init__(self, vectors: np.ndarray, dims: int, what: str) -> None:
        from sklearn.decomposition import PCA

        present = vectors[vectors.any(axis=1)]
        if min(len(present) - 1, present.shape[1]) < dims:
            raise DataError(
                f"{what}: {len(present)} vectors of {present.shape[1]} dimensions cannot give {dims} components. "
                "Bring more of them before the training labels, or lower reduced_dims."
            )
        self._pca = PCA(dims, svd_solver="covariance_eigh").fit(present)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """float32 (n, dims); NaN for zero rows."""
        reduced = self._pca.transform(vectors).astype(np.float32)
        reduced[~vectors.any(axis=1)] = np.nan
        return reduced


@dataclass(frozen=True)
class PairFeatures:
    """Features of (user, item) pairs by what they depend on; columns in the order user, item, pair: ``feature_names``.

    Attributes
    ----------
    user : numpy.ndarray
        float32 (n, Fu)
    item : numpy.ndarray
        float32 (m, Fi)
    pair : tuple of numpy.ndarray
        float32 (n, m) each when crossed: all n x m pairs. (n,) each when aligned: n = m, row r of both sides.
    """

    user: np.ndarray
    item: np.ndarray
    pair: tuple[np.ndarray, ...]

    def matrix(self) -> np.ndarray:
        """float32 (pairs, F), one row per pair, those of a user adjacent; NaN = unknown."""
        shape = self.pair[0].shape
        user = self.user[:, None] if len(shape) == 2 else self.user
        blocks = [np.broadcast_to(side, (*shape, side.shape[-1])) for side in (user, self.item)]
        return np.concatenate([*blocks, np.stack(self.pair, axis=-1)], axis=-1).reshape(np.prod(shape), -1)


def pair_features(users: UserSide, items: ItemSide, *, crossed: bool) -> PairFeatures:
    """The features of (user, item) pairs: the one place where they are made, for training and for the test.

    Parameters
    ----------
    users : UserSide
        n rows.
    items : ItemSide
        m rows.
    crossed : bool
        False (training): n = m and row r is the pair of user row r and item row r. True (test): all n x m pairs.
    """
    text = users.text
    user = [users.numbers]
    pair = [_dot(users.shares, items.categories, crossed), _category_rating(users, items, crossed)]
    if text is not None:
        user += [text.reduced, text.present[:, None], text.age_days[:, None]]
        cosine = _dot(text.vectors, items.vectors, crossed)
        has_text = text.present[:, None] if crossed else text.present
        cosine[~(has_text & items.vectors.any(axis=1))] = np.nan
        pair.append(cosine)
    return PairFeatures(
        user=np.concatenate(user, axis=1, dtype=np.float32),
        item=np.concatenate([items.numbers, items.reduced], axis=1, dtype=np.float32),
        pair=tuple(pair),
    )


def feature_names(reduced_dims: int, with_text: bool) -> list[str]:
    """Names of the columns of ``PairFeatures.matrix``."""
    text = [*(f"text_{n}" for n in range(reduced_dims)), "has_text", "text_age_days"] if with_text else []
    item_text = [f"item_text_{n}" for n in range(reduced_dims)]
    pair = ["category_share", "category_rating", *(["text_cosine"] if with_text else [])]
    return [*USER_NUMBERS, *text, *ITEM_NUMBERS, *item_text, *pair]


def user_side(rows: pa.Table, vocabulary: pa.Array) -> UserSide:
    """Behaviour features of table rows with the columns of ``USER_BEHAVIOUR``; ``vocabulary`` is the categories."""
    shares = _floats(pc.list_flatten(rows["user_top_category_shares"]))
    ratings = _floats(pc.list_flatten(rows["user_top_category_ratings"]))
    rated = np.isfinite(ratings)

    def over_categories(values: np.ndarray) -> sparse.csr_array:
        return _category_matrix(rows["user_top_categories"], vocabulary, values)

    return UserSide(
        numbers=_columns(rows, USER_NUMBERS),
        shares=over_categories(shares),
        rated_shares=over_categories(np.where(rated, shares, 0)),
        ratings=over_categories(np.where(rated, shares * ratings, 0)),
    )


def item_side(
    rows: pa.Table, categories: pa.ChunkedArray, vocabulary: pa.Array, vectors: np.ndarray, reduction: Reduction
) -> ItemSide:
    """Features of table rows with the columns of ``ITEM_BEHAVIOUR``; ``vectors`` as ``unit_vectors`` gives them."""
    return ItemSide(*item_numbers(rows, categories, vocabulary), vectors=vectors, reduced=reduction(vectors))


def item_numbers(
    rows: pa.Table, categories: pa.ChunkedArray, vocabulary: pa.Array
) -> tuple[np.ndarray, sparse.csr_array]:
    """The part of an `ItemSide` that needs no text: ``numbers`` and ``categories``."""
    ones = np.ones(len(pc.list_flatten(categories)), dtype=np.float32)
    return _columns(rows, ITEM_NUMBERS), _category_matrix(categories, vocabulary, ones)


def unit_vectors(column: pa.ChunkedArray, dims: int | None = None) -> np.ndarray:
    """A list<float32> column as float32 (n, d) of unit length; zero where null or empty.

    Raises
    ------
    DataError
        If the lists differ in length, or are not ``dims`` long.
    """
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    present = lengths > 0
    found = np.unique(lengths[present])
    if found.size > 1 or (dims is not None and found.size and found[0] != dims):
        raise DataError(
            f"Embeddings of {found.tolist()} dimensions where {dims or 'one length'} was expected: "
            "vectors of different encoders cannot be compared. Retrieve profiles and items from views of one encoder."
        )
    width = int(found[0]) if found.size else (dims or 0)
    vectors = np.zeros((len(column), width), dtype=np.float32)
    vectors[present] = _floats(pc.list_flatten(column)).reshape(-1, width)
    return normalised(vectors)


def normalised(vectors: np.ndarray) -> np.ndarray:
    """float32 (n, d) rows scaled to unit length; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def _dot(left, right, crossed: bool) -> np.ndarray:
    """Inner products, all pairs or row by row, of dense or of sparse rows; float32."""
    if sparse.issparse(left):
        return (left @ right.T).toarray() if crossed else np.asarray(left.multiply(right).sum(axis=1))
    return left @ right.T if crossed else np.einsum("nd,nd->n", left, right)


def _category_rating(users: UserSide, items: ItemSide, crossed: bool) -> np.ndarray:
    """The user's mean rating over the categories of the item, weighted by their shares; NaN if none is rated."""
    weight = _dot(users.rated_shares, items.categories, crossed)
    total = _dot(users.ratings, items.categories, crossed)
    return np.divide(total, weight, out=np.full_like(weight, np.nan), where=weight > 0)


def _columns(rows: pa.Table, names: list[str]) -> np.ndarray:
    return np.column_stack([_floats(rows[name]) for name in names])


def _floats(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """float32, null as NaN."""
    return np.asarray(pc.cast(column, pa.float32()), dtype=np.float32)


def _category_matrix(lists: pa.ChunkedArray, vocabulary: pa.Array, values: np.ndarray) -> sparse.csr_array:
    """Sparse float32 (n, C) from a list<string> column and one value per element; unknown categories are dropped."""
    row = pc.list_parent_indices(lists).to_numpy()
    column = pc.fill_null(pc.index_in(pc.list_flatten(lists), value_set=vocabulary), -1).to_numpy()
    known = column >= 0
    shape = (len(lists), len(vocabulary))
    return sparse.csr_array((values[known].astype(np.float32), (row[known], column[known])), shape=shape)
