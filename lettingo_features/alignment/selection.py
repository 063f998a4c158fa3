"""Which point of a training is kept: the one whose texts for held-back users are worth most, at about the same length.

A preference training goes on to shorten texts, or to lengthen them, after it has stopped to make them better, so its
end is seldom its best point (ours; LettinGo takes the end). Neither pairs nor gate may hold the users asked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from lettingo_features.config import Config

Score = Callable[[Path], tuple[float, float]]
"""Directory of a whole model -> mean reward and median words of the texts that it writes at temperature 0."""


class SelectionConfig(Config):
    """Points that are looked at, and which may be kept."""

    points: int = Field(default=8, ge=2)
    """Evenly spaced over the training, its end included; each costs a checkpoint on disk, optimizer included, and a
    text per held-back user."""
    length_ratio: float = Field(default=1.4, gt=1)
    """Median words at most so many times the base's, and at least one part in so many. The gate's guardrail, of medians
    as well, is a little wider, 1.5: its users are others."""


@dataclass(frozen=True)
class Scorer:
    """What a model's texts are worth; ``identity`` is the content hash of users, reward and reader."""

    score: Score
    identity: str


@dataclass(frozen=True)
class Point:
    """A model on the way: ``step`` 0 is the base."""

    step: int
    value: float
    words: float


def best_point(points: Sequence[Point], config: SelectionConfig) -> Point:
    """Of the points after the first, which is the base: the largest value within the limits on length, the earliest of
    equals. Where none is within them, the one nearest to the base's length.
    """
    base, *later = points

    def stretch(point: Point) -> float:
        return abs(math.log(max(point.words, 1.0) / max(base.words, 1.0)))

    within = [point for point in later if stretch(point) <= math.log(config.length_ratio)]
    return max(within, key=lambda point: point.value) if within else min(later, key=stretch)
