"""Per-user metrics of two generators with a planted difference, as a frozen ranker would give them.

Each user has one relevant item and a chance of their own that a ranker places it among the best 20; metrics follow from
its place, so values are mostly 0, tied and discrete, as nDCG is. The two generators' texts change the place of some
users' items only. A gain replaces the candidate's place by a good one for a share of users that gives just that gain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lettingo_features.alignment.gate import GateConfig, MinimumEffect, PairedMetric, decide
from lettingo_features.alignment.verdict import Verdict

World = Callable[[np.random.Generator, int, float], list[PairedMetric]]

PLACES = 21  # 0 is the first place, 20 is none of the twenty
_PLACE = np.arange(PLACES)
METRICS = {  # value by place
    "nDCG@10": np.where(_PLACE < 10, 1 / np.log2(_PLACE + 2), 0.0),
    "R@20": np.where(_PLACE < 20, 1.0, 0.0),
    "RR@10": np.where(_PLACE < 10, 1 / (_PLACE + 1.0), 0.0),
}
_FOUND = np.append(1 / (_PLACE[:-1] + 1.0), 0.0) / np.sum(1 / (_PLACE[:-1] + 1.0))  # places of items that are found
FOUND = (0.5, 1.5)  # beta distribution over users of the chance that the item is found: mean 0.25
CHANGED = 0.4  # share of users whose ranking the text changes
BASE = 0.25 * float(_FOUND @ METRICS["nDCG@10"])  # mean nDCG@10 without a gain


def planted(rng: np.random.Generator, n_users: int, gain: float = 0.0) -> list[PairedMetric]:
    """``METRICS`` of ``n_users`` whose expected nDCG@10 the candidate raises by ``gain``; lowers it if negative."""
    chance = rng.beta(*FOUND, size=n_users)
    released = _places(rng, chance)
    candidate = np.where(rng.random(n_users) < CHANGED, _places(rng, chance), released)
    to = METRICS["nDCG@10"][0] if gain > 0 else 0.0  # the first place, or none
    touched = rng.random(n_users) < gain / (to - BASE)
    candidate[touched] = 0 if gain > 0 else PLACES - 1
    return [PairedMetric(name, values[candidate], values[released]) for name, values in METRICS.items()]


def heavy(rng: np.random.Generator, n_users: int, gain: float = 0.0) -> list[PairedMetric]:
    """A log-likelihood whose differences have a t distribution with 3 degrees of freedom, and are 0 for a quarter."""
    released = rng.normal(-3.0, 1.0, size=n_users)
    noise = rng.standard_t(3, size=n_users) * (rng.random(n_users) < 0.75)
    return [PairedMetric("log-likelihood", released + 0.2 * noise + gain, released)]


def skewed(rng: np.random.Generator, n_users: int, gain: float = 0.0) -> list[PairedMetric]:
    """Without a gain, a mean of 0 that is not symmetric: one user in ten loses what the others gain together.

    Sign flips are exact only for exchangeable arms: with equal means alone they promote such a candidate too often.
    """
    released = rng.random(n_users)
    differences = np.where(rng.random(n_users) < 0.1, -0.27, 0.03) + rng.normal(0, 0.01, n_users)
    return [PairedMetric("nDCG@10", released + differences + gain, released)]


def identical(rng: np.random.Generator, n_users: int, gain: float = 0.0) -> list[PairedMetric]:
    """Two generators that write the same texts, but for one user in a hundred."""
    noise = rng.normal(size=n_users) * (rng.random(n_users) < 0.01)
    released = rng.random(n_users)
    return [PairedMetric("nDCG@10", released + noise + gain, released)]


def gates(
    world: World,
    n_users: int,
    gain: float,
    minimum: float,
    n_gates: int,
    n_metrics: int,
    seed: int,
    pilot: bool = False,
) -> list[Verdict]:
    """Verdicts on independent users; with ``pilot`` a first gate on ``n_users`` only says how many the second needs."""
    verdicts = []
    for number in range(n_gates):
        config = GateConfig(
            permutations=499, resamples=200, minimum_effect=MinimumEffect(absolute=minimum), seed=number
        )
        rng = np.random.default_rng([seed, number])
        size = n_users
        if pilot:
            needed = decide(world(rng, n_users, gain)[:n_metrics], config=config).comparisons[0].users_needed
            size = n_users if needed is None else needed
        verdicts.append(decide(world(rng, size, gain)[:n_metrics], config=config))
    return verdicts


def _places(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    found = rng.choice(PLACES, size=len(chance), p=_FOUND)
    return np.where(rng.random(len(chance)) < chance, found, PLACES - 1)
