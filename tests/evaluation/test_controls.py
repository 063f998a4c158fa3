"""Controls against brute force and hand-written histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.errors import DataError
from lettingo_features.evaluation.controls import NEVER, History, ItemKnn, foreign_rows, microseconds, random_scores

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ITEMS = pa.array(["a", "b", "c", "d"])


def history(rows):
    users, items, days = zip(*rows, strict=True)
    times = pa.array([START + day * DAY for day in days], pa.timestamp("us", tz="UTC"))
    return History.of(pa.table({"user_id": users, "item_id": items, "event_timestamp": times}), ITEMS)


def us(day):
    return int((START + day * DAY).timestamp() * 1e6)


def test_popularity_is_as_of_the_instant():
    found = history(
        [
            ("u", "a", 0),  # older than 30 days
            ("u", "b", 10),  # first instant of the window: inside
            ("v", "b", 20),  # inside
            ("w", "c", 39),  # inside
            ("w", "d", 40),  # at the instant: outside
            ("w", "x", 39),  # no candidate
        ]
    )
    assert found.popularity(START + 40 * DAY, days=30).tolist() == [0, 2, 1, 0]


def test_item_knn_equals_brute_force():
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(12)}", str(rng.choice(ITEMS.to_pylist())), int(rng.integers(30))) for _ in range(40)]
    found = history(rows)
    matrix = found.matrix().toarray()
    assert set(np.unique(matrix)) <= {0.0, 1.0}  # repeated interactions count once
    expected = np.zeros_like(matrix)
    for user in range(matrix.shape[0]):
        for item in range(4):
            for other in range(4):
                both = np.sum(matrix[:, item] * matrix[:, other])
                cosine = both / np.sqrt(matrix[:, item].sum() * matrix[:, other].sum())
                expected[user, item] += matrix[user, other] * cosine
    assert ItemKnn(found).scores(found.matrix()) == pytest.approx(expected, rel=1e-5)


def test_item_nobody_touched_scores_zero():
    found = history([("u", "a", 1), ("u", "b", 2), ("v", "a", 3)])
    assert ItemKnn(found).scores(found.matrix())[:, 2:].tolist() == [[0, 0], [0, 0]]


def test_windows():
    found = history(
        [
            ("u", "a", 1),
            ("u", "b", 5),
            ("u", "c", 8),
            ("u", "b", 9),
            ("u", "d", 10),
            ("v", "a", 9),
        ]
    )
    asked = [  # user, end (day), items in [end - 5 days, end), newest 3
        ("u", 10, "bc"),  # 5 is the first instant of the window, b counts once, d at the end itself is outside
        ("u", 11, "bcd"),  # c, b, d are the newest three
        ("u", 1, ""),  # nothing before the first one
        ("v", 11, "a"),  # not u's
        ("w", 11, ""),  # unknown user
        ("u", None, ""),  # no cutoff
    ]
    ends = np.array([NEVER if end is None else us(end) for _, end, _ in asked])
    rows = found.windows(pa.array([user for user, _, _ in asked]), ends, days=5, newest=3).toarray()
    assert ["".join(np.array(ITEMS.to_pylist())[row > 0]) for row in rows] == [items for _, _, items in asked]
    assert rows.max() == 1


def test_random_scores_depend_on_user_and_seed_only():
    both = random_scores(["u", "v"], 5, seed=0)
    assert both[1].tolist() == random_scores(["v"], 5, seed=0)[0].tolist()
    assert both[1].tolist() != random_scores(["v"], 5, seed=1)[0].tolist()


def test_foreign_rows_give_nobody_their_own():
    users = pa.array([f"u{n % 7}" for n in range(40)])
    instants = np.random.default_rng(0).permutation(40)
    present = np.arange(40) % 5 > 0
    donors = foreign_rows(users, instants, present, seed=0)
    names = np.array(users.to_pylist())
    assert (donors[~present] == np.flatnonzero(~present)).all()  # who has none, keeps none
    assert present[donors[present]].all()  # and nobody is given one that does not exist
    assert (names[donors[present]] != names[present]).all()
    givers = {(name, giver) for name, giver in zip(names[present], names[donors[present]], strict=True)}
    assert len(givers) == 7 == len({giver for _, giver in givers})  # one giver per user, one taker per giver
    assert donors.tolist() == foreign_rows(users, instants, present, seed=0).tolist()
    assert donors.tolist() != foreign_rows(users, instants, present, seed=1).tolist()


def test_foreign_rows_follow_time():
    #        u's rows at 3, 1, 2; v's at 30, 10: u's first takes v's first ..., and v's first takes u's first ...
    users = pa.array(["u", "u", "u", "v", "v"])
    donors = foreign_rows(users, np.array([3, 1, 2, 30, 10]), np.ones(5, dtype=bool), seed=0)
    assert donors.tolist() == [4, 4, 3, 2, 1]  # u's third finds v's two used up and starts again


def test_one_profile_cannot_be_shuffled():
    with pytest.raises(DataError, match="1 of 2 users"):
        foreign_rows(pa.array(["u", "v"]), np.zeros(2), np.array([True, False]), seed=0)


def test_microseconds():
    times = pa.chunked_array([pa.array([START, None], pa.timestamp("ns", tz="UTC"))])
    assert microseconds(times).tolist() == [us(0), NEVER]
