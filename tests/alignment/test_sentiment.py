"""Classes of ratings, decisions and the trivial rules, against hand-made tables."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.alignment.sentiment import CLASSES, SentimentScale, prior, sentiment_row, trivial_answers
from tests.alignment.rows import CUTOFF

FIVE = SentimentScale(rating_max=5.0)
SCALES = [  # scale, ratings, classes
    (FIVE, [5, 4, 3.5, 3, 2.5, 1], ["like", "like", "neutral", "neutral", "dislike", "dislike"]),
    (SentimentScale(rating_max=10), [8, 7.9, 6, 5.9], ["like", "neutral", "neutral", "dislike"]),
    (SentimentScale(rating_max=5, liked_from=1.0, disliked_below=1.0), [5, 4.9], ["like", "dislike"]),
]


@pytest.mark.parametrize(("scale", "ratings", "expected"), SCALES)
def test_classes_of_ratings(scale, ratings, expected):
    for dtype in (np.float32, np.float64):
        assert [CLASSES[n] for n in scale.classes(np.array(ratings, dtype))] == expected


def interactions(*rows: tuple[str, int, float | None]) -> pa.Table:
    """(user, days before the cutoff, rating) each."""
    users, days, ratings = zip(*rows, strict=True)
    times = pa.array([CUTOFF - timedelta(days=n) for n in days], pa.timestamp("us", tz="UTC"))
    return pa.table({"user_id": list(users), "event_timestamp": times, "rating": pa.array(ratings, pa.float32())})


def test_trivial_rules():
    users = pa.table(
        {"user_id": ["u1", "u2", "u3", "u4"], "cutoff": pa.array([CUTOFF] * 4, pa.timestamp("us", tz="UTC"))}
    )
    seen = interactions(
        *[("u1", 1, 3.0), ("u1", 2, 3.0), ("u1", 3, 5.0), ("u1", 4, None)],  # mode neutral, mean 3.67
        *[("u2", 5, 1.0), ("u2", 1, 5.0)],  # a tie, which the commoner class wins; mean 3
        *[("u3", 0, 1.0), ("u3", -2, 1.0)],  # at and after the cutoff: not known yet
        *[("u9", 1, 4.0), ("u9", 2, 4.0), ("u9", 3, 4.0)],  # not asked about
        ("u4", 9, 1.0),
    )
    told = trivial_answers(seen, users, FIVE)
    named = {rule: [CLASSES[n] for n in answers] for rule, answers in told.items()}
    # Ratings of those asked about: 2 likes, 2 neutral, 2 dislikes; the first wins.
    assert named == {
        "majority": ["like"] * 4,
        "user_mode": ["neutral", "like", "like", "dislike"],
        "user_mean": ["neutral", "neutral", "like", "dislike"],
    }


def test_a_row_of_decisions():
    users = np.array([7, 7, 7, 7, 3, 3])
    truth = np.array([0, 0, 0, 0, 2, 2])
    told = np.array([0, 0, 0, -1, 1, 2])  # -1: unparsable
    row = sentiment_row("x", users, told, truth, seed=0, log_p=np.log(np.full(6, 0.5)))
    assert (row.n, row.n_users) == (6, 2)
    assert row.accuracy == pytest.approx((0.75 + 0.5) / 2)  # users count alike
    assert (row.low, row.high) == (0.5, 0.75)
    # like: precision 1, recall 3/4; neutral: 0; dislike: precision 1, recall 1/2.
    assert row.macro_f1 == pytest.approx((2 * 0.75 / 1.75 + 0 + 2 * 0.5 / 1.5) / 3)
    assert row.mean_log_p == pytest.approx(np.log(0.5))
    assert sentiment_row("x", users[:0], told[:0], truth[:0], seed=0) is None


def test_the_interval_covers_the_accuracy_as_often_as_it_says():
    rng = np.random.default_rng(5)
    truth, users = np.zeros(300, int), np.arange(300)
    rows = [sentiment_row("x", users, np.where(rng.random(300) < 0.6, 0, 1), truth, seed=n) for n in range(100)]
    assert 88 <= sum(row.low <= 0.6 <= row.high for row in rows) <= 99


def test_prior():
    assert prior(np.array([0, 0, 2, 0])) == {"like": 0.75, "neutral": 0.0, "dislike": 0.25}
