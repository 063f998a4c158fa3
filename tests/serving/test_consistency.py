"""Offline against online: what counts as equal, and what is found when it is not."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import STRINGS, TIMESTAMP, VECTOR
from lettingo_features.errors import ServingError
from serving.consistency import compare

AT = datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
SECONDS = 1767225600

OFFLINE = pa.table(
    {
        "user_id": ["u1", "u2"],
        "n": pa.array([3, None], pa.int64()),
        "mean": pa.array([0.1, float("nan")], pa.float32()),
        "text": ["likes drama", None],
        "at": pa.array([AT, None], TIMESTAMP),
        "vector": pa.array([[0.1, 0.2], None], VECTOR),
        "tags": pa.array([["a", "b"], []], STRINGS),
    }
)


def online(**changed) -> dict[str, list]:
    answer = {
        "user_id": ["u2", "u1"],  # in another order: rows are matched by key
        "n": [None, 3],
        "mean": [None, 0.10000000149011612],  # float32(0.1), written as a double; NaN offline is null online
        "text": [None, "likes drama"],
        "at": [None, SECONDS],  # whole seconds, rounded down
        "vector": [None, np.array([0.1, 0.2], np.float32)],
        "tags": [None, ["a", "b"]],  # an empty list comes back as nothing
        "not_asked": [1, 2],  # more online than offline is no difference
    }
    return {**answer, **changed}


def test_equal():
    report = compare(OFFLINE, online(), ["user_id"]).require_equal()
    assert (report.n_rows, report.n_columns, report.n_values) == (2, 6, 12)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("n", [None, 4]),
        ("n", [0, 3]),  # a number where nothing was known
        ("mean", [None, float(np.nextafter(np.float32(0.1), np.float32(1)))]),  # the next float32: one bit
        ("mean", [None, -0.1]),
        ("text", [None, "likes drama "]),
        ("at", [None, SECONDS + 1]),
        ("vector", [None, np.array([0.2, 0.1], np.float32)]),  # order counts
        ("vector", [None, np.array([0.1], np.float32)]),  # length counts
        ("tags", [None, ["b", "a"]]),
    ],
)
def test_one_value_differs(column, values):
    report = compare(OFFLINE, online(**{column: values}), ["user_id"])
    assert report.mismatches == {column: 1}
    with pytest.raises(ServingError, match=f"1 of 2 values of '{column}'.*worst: u[12], {column}"):
        report.require_equal()


def test_worst_comes_first():
    table = pa.table({"user_id": ["u1", "u2", "u3"], "x": pa.array([1.0, 1.0, 1.0], pa.float32())})
    report = compare(table, {"user_id": ["u1", "u2", "u3"], "x": [1.5, 9.0, 1.0]}, ["user_id"])
    assert [mismatch.key for mismatch in report.worst] == [("u2",), ("u1",)]


def test_column_and_row_that_are_not_online():
    answer = {name: values[1:] for name, values in online().items() if name != "text"}  # u1 only, no text
    report = compare(OFFLINE, answer, ["user_id"])
    assert (report.missing_rows, report.missing_columns, report.mismatches) == (1, ["text"], {})
    with pytest.raises(ServingError, match=r"the whole column 'text', 1 rows"):
        report.require_equal()


def test_rows_of_two_keys():
    pairs = pa.table({"user_id": ["u", "u"], "item_id": ["a", "b"], "n": [1, 2]})
    answer = {"user_id": ["u", "u"], "item_id": ["b", "a"], "n": [2, 1]}
    assert compare(pairs, answer, ["user_id", "item_id"]).equal
