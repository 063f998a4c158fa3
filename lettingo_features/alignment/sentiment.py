"""Like, neutral or dislike: classes of ratings, how well they were foretold, and the trivial rules to beat.

Accuracy on classes this skewed flatters: a majority rule reaches 0.56 to 0.95 on public data. So each table has
macro-F1, the class prior, and the rows majority, user's mode and user's mean (PAPERS.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lettingo_features import columns as c
from lettingo_features.config import Config
from lettingo_features.evaluation.statistics import Bootstrap

CLASSES = ("like", "neutral", "dislike")
UNPARSABLE = -1
"""Stands for an answer that is none of `CLASSES`: wrong, whatever the truth."""

_RESAMPLES, _CONFIDENCE = 1000, 0.95
_SAID = ("judged", "unparsable", "not_answered")  # also where there are none


class SentimentScale(Config):
    """Where a rating turns from dislike to neutral to like; LettinGo publishes no mapping. As `SummaryConfig`'s."""

    rating_max: float = Field(gt=0)
    """Top of the rating scale (`profiles.summary.rating_scale`); the thresholds are shares of it, so scales compare."""
    liked_from: float = 0.8
    """Share of rating_max from which a rating is a like: 4 of 5."""
    disliked_below: float = 0.6
    """Share of rating_max below which a rating is a dislike: under 3 of 5."""

    def classes(self, ratings: np.ndarray) -> np.ndarray:
        """Indices into `CLASSES`, int64 (N,), of finite ratings (N,)."""
        share = np.asarray(ratings, np.float64) / self.rating_max
        return np.where(share >= self.liked_from, 0, np.where(share < self.disliked_below, 2, 1))


@dataclass(frozen=True, slots=True)
class SentimentRow:
    """How one way of foretelling did.

    Parameters
    ----------
    n
        Decisions; several of one user where several candidates were judged.
    accuracy, low, high
        Mean over users of the share foretold right, and its 95 % interval (bootstrap over users).
    macro_f1
        Over all decisions and the three classes; an unparsable answer misses its class.
    mean_log_p
        Mean log-probability of the true class; None where only answers are known.
    """

    name: str
    n: int
    n_users: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    mean_log_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """Rewards and what they are worth."""

    rewards: pa.Table
    """Schema `tables.REWARDS`, in the order of the candidates; those that got no answer are left out."""
    counts: dict[str, int]
    """Where every candidate went: judged, unparsable (judged wrong), and why users were left out; rows_trimmed: recent
    interactions that some users' prompts had no room for. Of all prompts, controls included: prompt_too_long,
    not_answered, and of those pending, which a later run asks again."""
    prior: dict[str, float]
    """Share of each class among the targets."""
    scale: SentimentScale
    rows: list[SentimentRow]
    """All candidates, each generator; the controls: no profile, shuffled profile (another user's), trivial rules."""

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "prior": self.prior,
            "scale": self.scale.model_dump(),
            "rows": [row.to_json() for row in self.rows],
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        s = self.scale
        shares = ", ".join(f"{name} {share:.3f}" for name, share in self.prior.items())
        counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in self.counts.items() if n or name in _SAID)
        width = max(len("judge sees"), *(len(row.name) for row in self.rows)) if self.rows else 10
        head = f"{'judge sees':<{width}}  decisions   users  accuracy [95 % interval]  macro-F1  log p(true)"
        lines = [
            f"like from {s.liked_from * s.rating_max:g}, dislike below {s.disliked_below * s.rating_max:g} of "
            f"{s.rating_max:g}; prior: {shares}",
            counts,
            head,
        ]
        for row in self.rows:
            log_p = "-" if row.mean_log_p is None else f"{row.mean_log_p:.4f}"
            interval = f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]"
            numbers = f"{row.n:>9,}  {row.n_users:>6,}  {interval:<24}  {row.macro_f1:>8.3f}  {log_p:>11}"
            lines.append(f"{row.name:<{width}}  {numbers}")
        return "\n".join(lines)


def sentiment_row(
    name: str, users: np.ndarray, told: np.ndarray, truth: np.ndarray, seed: int, log_p: np.ndarray | None = None
) -> SentimentRow | None:
    """The row of decisions ``told`` (N,) against ``truth`` (N,), indices into `CLASSES`; None for no decision.

    ``users`` (N,) has any number that names the user, ``log_p`` float (N,) the log-probability of the true class.
    """
    from sklearn.metrics import f1_score

    if not len(users):
        return None
    _, user = np.unique(users, return_inverse=True)
    right = np.bincount(user, told == truth) / np.bincount(user)
    low, high = Bootstrap(len(right), _RESAMPLES, _CONFIDENCE, seed).interval(right[None])
    macro_f1 = f1_score(truth, told, labels=range(len(CLASSES)), average="macro", zero_division=0)
    mean_log_p = None if log_p is None else float(log_p.mean())
    return SentimentRow(name, len(users), len(right), float(right.mean()), low, high, float(macro_f1), mean_log_p)


def trivial_answers(interactions: pa.Table, users: pa.Table, scale: SentimentScale) -> dict[str, np.ndarray]:
    """What rules without any text answer for each of ``users``, int64 (U,) each, from earlier ratings alone.

    ``majority``: the most frequent class of all earlier ratings. ``user_mode``: the user's own most frequent class, a
    tie goes to the commoner one. ``user_mean``: the class of the user's mean rating. Without earlier ratings a user
    gets the majority; without any ratings, that is the first class.

    Parameters
    ----------
    interactions
        user_id, event_timestamp, rating; those at or after the user's cutoff do not count.
    users
        user_id, cutoff; one row each.
    """
    user = pc.index_in(interactions[c.USER_ID], users[c.USER_ID].combine_chunks())
    ratings = interactions[c.RATING].cast(pa.float64())
    early = pc.less(interactions[c.EVENT_TIMESTAMP], users[c.CUTOFF].take(user))  # null for a user not asked about
    kept = pc.fill_null(pc.and_(early, pc.is_finite(ratings)), False)
    ratings = ratings.filter(kept).to_numpy()
    of = user.filter(kept).to_numpy()
    n = len(users)
    counts = np.zeros((n, len(CLASSES)), int)
    np.add.at(counts, (of, scale.classes(ratings)), 1)
    overall = counts.sum(0)
    majority = np.full(n, overall.argmax())
    seen = counts.sum(1)
    mode = (counts + overall / (1 + overall.sum())).argmax(1)  # the second term is below 1: it only breaks ties
    means = np.bincount(of, ratings, n) / np.maximum(seen, 1)
    return {
        "majority": majority,
        "user_mode": np.where(seen > 0, mode, majority),
        "user_mean": np.where(seen > 0, scale.classes(means), majority),
    }


def prior(truth: np.ndarray) -> dict[str, float]:
    """Share of each class among ``truth`` (N,), indices into `CLASSES`."""
    shares = np.bincount(truth, minlength=len(CLASSES)) / max(1, len(truth))
    return dict(zip(CLASSES, shares.tolist(), strict=True))
