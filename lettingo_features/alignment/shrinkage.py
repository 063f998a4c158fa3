"""Rewards of a few targets are mostly noise: each is shrunk towards what texts of its kind earn over all users.

A candidate's value is its own effect plus noise of a known size (`ranking_reward`). Within a user, values are compared
with a prior: a regression, over all users, on what can be seen of a text without its user: who wrote it, in which
style, how long it is, how many names and numbers it has, how many of the names are supported; and on what the judge
measured of it before any target, such as how well it fits its window (`window_fit`). The spread of true effects round
the prior is estimated by moments, and the posterior mean and standard deviation take the place of value
and noise (empirical Bayes; Efron and Morris 1975). Ours: the paper's one correct-or-not answer has no such estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.errors import DataError
from lettingo_features.profiles.support import names_in
from lettingo_features.text_table import aligned

_RIDGE = 1e-3  # of standardised attributes: only keeps those that coincide from being divided by zero


@dataclass(frozen=True)
class Shrinkage:
    """What was learnt about kinds of texts.

    Attributes
    ----------
    effects : dict of str to (float, float)
        By attribute: what one standard deviation of it within a user adds to the reward, and its standard error.
    spread : float
        Standard deviation of true effects round the prior; 0 where values scatter no more than their noise.
    explained : float
        Standard deviation of the prior within a user.
    noise : float
        Root mean square of the rewards' noise, for comparison.
    """

    effects: dict[str, tuple[float, float]]
    spread: float
    explained: float
    noise: float

    def to_json(self) -> dict[str, Any]:
        return {
            "effects": {name: list(effect) for name, effect in self.effects.items()},
            "spread": self.spread,
            "explained": self.explained,
            "noise": self.noise,
        }

    def to_text(self) -> str:
        """A table for a terminal: strongest effects first."""
        strongest = sorted(self.effects.items(), key=lambda item: -abs(item[1][0]) / max(item[1][1], 1e-12))
        rows = [("attribute", "effect of one sd", "standard error")]
        rows += [(name, f"{effect:+.4f}", f"{error:.4f}") for name, (effect, error) in strongest]
        return (
            f"{aligned(rows)}\nwithin users: prior sd {self.explained:.4f}, true spread round it {self.spread:.4f}, "
            f"noise {self.noise:.4f}"
        )


def shrunk(
    rewards: pa.Table,
    candidates: pa.Table,
    measured: Mapping[str, np.ndarray] | None = None,
) -> tuple[pa.Table, Shrinkage]:
    """``rewards`` with ``value`` and ``noise`` replaced by the posterior's; ``raw`` stays. Rows stay in their order.

    ``measured``: `judge.Judged.attributes`.

    Raises
    ------
    DataError
        Noise is missing (a judge with one target knows none), or there are fewer users than attributes.
    """
    noise = rewards["noise"].to_numpy()
    if not (noise > 0).all():
        raise DataError(
            f"{int((~(noise > 0)).sum())} of {len(noise)} rewards have no noise: only rewards over several targets can "
            "be shrunk. Turn shrinkage off for the sentiment judge."
        )
    place = pc.index_in(rewards["candidate_id"], candidates["candidate_id"].combine_chunks())
    user = rewards[c.USER_ID].combine_chunks().dictionary_encode().indices.to_numpy()
    names, raw = _attributes(candidates.take(place))
    if measured:
        names, raw = [*names, *measured], np.column_stack([raw, *measured.values()])
    attributes = _within(raw, user)
    scale = attributes.std(axis=0)
    used = scale > 1e-9
    names, attributes = [n for n, u in zip(names, used, strict=True) if u], attributes[:, used] / scale[used]
    if len(np.unique(user)) <= len(names) + 1:
        raise DataError(
            f"{len(np.unique(user))} users cannot tell {len(names)} attributes of texts apart: explore more."
        )
    values = rewards["value"].to_numpy()
    own = _within(values, user)
    effects, covariance = _regression(attributes, own, user)
    tau2 = _spread(own - attributes @ effects, noise, np.bincount(user)[user])
    prior = attributes @ effects
    kept = tau2 / (tau2 + noise**2)
    posterior = (values - own) + prior + kept * (own - prior)
    prior_error = np.sqrt(np.einsum("nk,kl,nl->n", attributes, covariance, attributes))
    columns = {name: rewards[name] for name in REWARDS.names}
    columns |= {"value": pa.array(posterior), "noise": pa.array(np.sqrt(kept) * noise + prior_error)}
    found = Shrinkage(
        effects={
            name: (float(effect), float(error))
            for name, effect, error in zip(names, effects, np.sqrt(np.diag(covariance)), strict=True)
        },
        spread=tau2**0.5,
        explained=float(prior.std()),
        noise=float(np.sqrt(np.mean(noise**2))),
    )
    return pa.table(columns).cast(REWARDS), found


def _regression(attributes: np.ndarray, own: np.ndarray, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares: effects (K,), and their covariance (K, K) from how they scatter over users.

    Every user counts alike, as in the gate. NOTE: to weigh by the inverse of the noise would let the few users with
    many targets decide, whose effects are others: a year says much of who saw ten films, and little of who saw more.
    """
    gram = attributes.T @ attributes
    inverse = np.linalg.inv(gram + _RIDGE * np.eye(len(gram)) * len(own))
    effects = inverse @ (attributes.T @ own)
    rest = own - attributes @ effects
    of_users = np.stack([np.bincount(user, column * rest) for column in attributes.T], axis=1)
    return effects, inverse @ (of_users.T @ of_users) @ inverse


def _spread(rest: np.ndarray, noise: np.ndarray, sizes: np.ndarray) -> float:
    """Variance of true effects, by moments, over users with several candidates: a single one cannot scatter."""
    several = sizes > 1
    if not several.any():
        return 0.0
    rest, noise, sizes = rest[several], noise[several], sizes[several]
    return float(max(0.0, np.mean(rest**2 * sizes / (sizes - 1) - noise**2)))


def _attributes(candidates: pa.Table) -> tuple[list[str], np.ndarray]:
    """Names and float64 (C, K): what a text shows without its user; unknown support counts as the mean."""
    texts = candidates["text"].to_pylist()
    names = [names_in(text) for text in texts]
    different = np.array([len(set(each)) for each in names])
    columns: dict[str, np.ndarray] = {
        "log words": np.log1p(candidates["n_words"].to_numpy()),
        "different names": np.log1p(different),
        "names said twice": np.array([len(each) for each in names]) - different,
        "lines": np.log1p([text.count("\n") for text in texts]),
        "numbers": np.array([any(char.isdigit() for char in text) for text in texts], dtype=float),
    }
    if candidates["supported"].null_count < len(texts):
        mean = pc.mean(candidates["supported"]).as_py()
        columns["supported"] = pc.fill_null(candidates["supported"], mean).to_numpy()
    for kind in (c.GENERATOR, "style"):
        values = candidates[kind].combine_chunks().dictionary_encode()
        for code, name in enumerate(values.dictionary.to_pylist()):
            columns[f"{kind} {name or '(none)'}"] = (values.indices.to_numpy() == code).astype(float)
    return list(columns), np.stack(list(columns.values()), axis=1)


def _within(values: np.ndarray, user: np.ndarray) -> np.ndarray:
    """``values`` (n,) or (n, k) less their user's mean."""
    counts = np.bincount(user)
    if values.ndim == 1:
        return values - (np.bincount(user, values) / counts)[user]
    return np.stack([_within(column, user) for column in values.T], axis=1)
