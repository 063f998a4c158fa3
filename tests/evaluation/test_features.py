"""The matrix by hand, and the same numbers for training rows and for the test's cross product."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.errors import DataError
from lettingo_features.evaluation.features import (
    ITEM_NUMBERS,
    USER_NUMBERS,
    Reduction,
    UserText,
    feature_names,
    item_side,
    pair_features,
    unit_vectors,
    user_side,
)

VOCABULARY = pa.array(["comedy", "drama", "noir"])


def users(rows):
    """(first number, categories, shares, ratings) as a table with the columns of the user's behaviour."""
    numbers, categories, shares, ratings = zip(*rows, strict=True)
    columns = {name: pa.array(numbers, pa.float32()) for name in USER_NUMBERS}
    columns["user_top_categories"] = pa.array(categories, pa.list_(pa.string()))
    columns["user_top_category_shares"] = pa.array(shares, pa.list_(pa.float32()))
    columns["user_top_category_ratings"] = pa.array(ratings, pa.list_(pa.float32()))
    return user_side(pa.table(columns), VOCABULARY)


class KeepFirst:
    """A reduction that can be checked by eye: the first number of the vector."""

    def __call__(self, vectors):
        return np.where(vectors.any(axis=1, keepdims=True), vectors[:, :1], np.nan).astype(np.float32)


def items(rows):
    """(number, categories, vector) as an item side."""
    numbers, categories, vectors = zip(*rows, strict=True)
    table = pa.table({name: pa.array(numbers, pa.float32()) for name in ITEM_NUMBERS})
    lists = pa.chunked_array([pa.array(categories, pa.list_(pa.string()))])
    vectors = unit_vectors(pa.chunked_array([pa.array(vectors, pa.list_(pa.float32()))]))
    return item_side(table, lists, VOCABULARY, vectors, KeepFirst())


USERS = [
    (1.0, ["comedy", "drama"], [0.5, 0.25], [4.0, 2.0]),
    (2.0, ["noir"], [1.0], [None]),  # never rated
    (None, None, None, None),  # no behaviour row at all
    (4.0, ["western", "drama"], [0.5, 0.5], [5.0, 3.0]),  # western is no category of any item
]
ITEMS = [
    (10.0, ["comedy", "drama"], [3.0, 4.0]),
    (20.0, ["noir"], [0.0, 2.0]),
    (None, None, None),  # nothing known
    (40.0, ["drama"], [-1.0, 0.0]),
]
TEXT = UserText.of(
    np.array([[1, 0], [0, 1], [0, 0], [0.6, 0.8]], dtype=np.float32),
    np.array([5, np.nan, 7, 9]),  # the second has no cutoff and the third no vector: neither has a text
    KeepFirst(),
)


def with_text():
    side = users(USERS)
    return type(side)(side.numbers, side.shares, side.rated_shares, side.ratings, TEXT)


def test_by_hand():
    matrix = pair_features(with_text(), items(ITEMS), crossed=True).matrix()
    names = feature_names(1, with_text=True)
    assert matrix.shape == (16, len(names))
    assert matrix.dtype == np.float32
    column = {name: matrix[:, n].reshape(4, 4) for n, name in enumerate(names)}
    nan = np.nan
    expected = {
        "user_count_7d": [[1] * 4, [2] * 4, [nan] * 4, [4] * 4],
        "item_count_7d": [[10, 20, nan, 40]] * 4,
        "item_text_0": [[0.6, 0, nan, -1]] * 4,
        "category_share": [[0.75, 0, 0, 0.25], [0, 1, 0, 0], [0] * 4, [0.5, 0, 0, 0.5]],
        # (0.5 * 4 + 0.25 * 2) / 0.75; noir is unrated; the last user's western matches nothing
        "category_rating": [[10 / 3, nan, nan, 2], [nan] * 4, [nan] * 4, [3, nan, nan, 3]],
        "text_cosine": [[0.6, 0, nan, -1], [nan] * 4, [nan] * 4, [1.0, 0.8, nan, -0.6]],
        "text_0": [[1] * 4, [nan] * 4, [nan] * 4, [0.6] * 4],
        "has_text": [[1] * 4, [0] * 4, [0] * 4, [1] * 4],
        "text_age_days": [[5] * 4, [nan] * 4, [nan] * 4, [9] * 4],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("side", [users(USERS), with_text()], ids=["no text", "text"])
def test_training_rows_equal_the_cross_product(side):
    crossed = pair_features(side, items(ITEMS), crossed=True).matrix()
    user, item = np.divmod(np.arange(16), 4)
    rows = items([ITEMS[n] for n in item])
    aligned = pair_features(side.take(user), rows, crossed=False).matrix()
    np.testing.assert_allclose(aligned, crossed, rtol=1e-6, atol=1e-7)


def test_arms_differ_by_the_text_columns_only():
    without = pair_features(users(USERS), items(ITEMS), crossed=True).matrix()
    with_one = pair_features(with_text(), items(ITEMS), crossed=True).matrix()
    names = feature_names(1, with_text=True)
    shared = [names.index(name) for name in feature_names(1, with_text=False)]
    np.testing.assert_array_equal(with_one[:, shared], without)
    assert set(names) - {names[n] for n in shared} == {"text_0", "has_text", "text_age_days", "text_cosine"}


def test_blocks_equal_the_whole():
    side = with_text()
    whole = pair_features(side, items(ITEMS), crossed=True).matrix()
    parts = [
        pair_features(side.take(block), items(ITEMS), crossed=True).matrix() for block in (slice(0, 3), slice(3, 6))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-7)


def test_unit_vectors():
    column = pa.chunked_array([[[3.0, 4.0], None], [[], [0.0, 0.0], [0.0, -2.0]]], pa.list_(pa.float32()))
    np.testing.assert_allclose(unit_vectors(column), [[0.6, 0.8], [0, 0], [0, 0], [0, 0], [0, -1]], rtol=1e-6)
    with pytest.raises(DataError, match="different encoders"):
        unit_vectors(column, dims=3)
    with pytest.raises(DataError, match=r"\[1, 2\] dimensions"):
        unit_vectors(pa.chunked_array([[[1.0], [1.0, 2.0]]], pa.list_(pa.float32())))


def test_reduction_ignores_missing_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    holes = np.concatenate([vectors, np.zeros((20, 6), dtype=np.float32)])
    full, holed = Reduction(vectors, 3, "items"), Reduction(holes, 3, "items")
    np.testing.assert_allclose(holed(holes)[:50], full(vectors), rtol=1e-5, atol=1e-6)
    assert np.isnan(holed(holes)[50:]).all()
    with pytest.raises(DataError, match="profiles: 3 vectors of 6 dimensions cannot give 3 components"):
        Reduction(holes[47:], 3, "profiles")
