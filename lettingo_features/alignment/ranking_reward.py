"""The ranking reward: how much likelier a candidate makes what its user liked later, for a frozen linear ranker.

The ranker is a conditional logit over every available item that the user has not met: behaviour (popularity, ratings,
categories, co-occurrence) and the cosine of profile and item text. It is fitted once, on users who are not explored,
and frozen before any candidate is judged. Ours: LettinGo (section 3.2.2) asks for one correct class of one item.

Two utilities. *matched*: among the items that behaviour alone ranks nearest to the target, the share that the profile
puts below it, less the same share for the targets of other users, which a text reaches by sounding like what everybody
likes: what is left is what it says of its user and behaviour does not. Without a profile that is 0, and with another
user's it is about 0 on average. *log_likelihood*: of the target under the whole ranker, less the same
without a profile. The ranker was fitted for it, but one popular target moves it more than any text does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from lettingo_features.alignment.scene import Scene
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.columns import USER_ID
from lettingo_features.config import Config
from lettingo_features.errors import DataError
from lettingo_features.evaluation.controls import ItemKnn
from lettingo_features.evaluation.features import ITEM_NUMBERS
from lettingo_features.generation.engine import content_id

if TYPE_CHECKING:
    from lettingo_features.encoding import SentenceEncoder

BLOCK = 256  # candidates scored at once: some ten MB of scores
_GATHERED = 4_096  # comparisons of a target with its matched items at once: as much
_COUNTS = [name for name in ITEM_NUMBERS if name.startswith("item_count")]
BEHAVIOUR = (*ITEM_NUMBERS, "category_share", "category_rating", "neighbours")


class RankingRewardConfig(Config):
    """How the ranker is fitted and what it says."""

    utility: Literal["matched", "log_likelihood"] = "matched"
    "What a text is worth for one target; see the module."
    n_matched: int = Field(1_000, ge=1)
    "Items that a target is compared with, of those that behaviour ranks nearest to it."
    n_others: int = Field(1_000, ge=1)
    "Other users at most, whose targets a text is judged on for comparison; more are drawn from, once for all texts."
    seed: int = 0
    "Of that draw."
    l2: float = 1e-2
    "Weight of the squared coefficients in the mean loss; features are standardised."
    prior_targets: float = Field(4.0, gt=0)
    "Targets that the pooled variance counts for beside a user's own: most users have one to three targets."


@dataclass(frozen=True)
class FrozenRanker:
    """Coefficients of a conditional logit; ``behaviour`` float64 (F,) and ``text`` (2,), and those without a profile.

    ``text`` weighs the cosine of profile and item, and the item's cosine with the mean profile, which takes out what
    all texts share.
    """

    behaviour: np.ndarray
    text: np.ndarray
    without_profile: np.ndarray
    mean_profile: np.ndarray  # float32 (d,)
    scale: np.ndarray  # float64 (F, 2): mean and spread of the behaviour features
    fit: dict[str, float]

    @property
    def identity(self) -> str:
        """Content hash of every number that shapes a score."""
        parts = (self.behaviour, self.text, self.without_profile, self.mean_profile, self.scale)
        return content_id("frozen_ranker", *(part.tobytes().hex() for part in parts))

    def facts(self) -> dict[str, Any]:
        """For reports: coefficients by name, of standardised features, and the mean loss of the fit."""
        behaviour = dict(zip(BEHAVIOUR, self.behaviour.tolist(), strict=True))
        return {"behaviour": behaviour, "text": self.text.tolist(), **self.fit}


def fit_ranker(
    scene: Scene, item_vectors: np.ndarray, profile_vectors: np.ndarray, config: RankingRewardConfig
) -> FrozenRanker:
    """Fit on every user of ``scene`` by maximum likelihood (L-BFGS, deterministic).

    Parameters
    ----------
    item_vectors, profile_vectors
        float32 (I, d) and (U, d), unit length: row by row the scene's items, and one profile per user.
    """
    raw = _behaviour(scene)
    mean, spread = raw.mean(axis=(0, 1), dtype=np.float64), raw.std(axis=(0, 1), dtype=np.float64)
    scale = np.stack([mean, np.where(spread > 0, spread, 1.0)], axis=1)
    features = _scaled(raw, scale)
    mean_profile = profile_vectors.mean(axis=0)
    text = np.stack(
        [profile_vectors @ item_vectors.T, np.broadcast_to(item_vectors @ mean_profile, features.shape[:2])], axis=-1
    )
    without, _ = _maximum_likelihood(features, scene, config.l2)
    with_text, loss = _maximum_likelihood(np.concatenate([features, text * _TEXT_SCALE], axis=-1), scene, config.l2)
    n = features.shape[-1]
    return FrozenRanker(with_text[:n], with_text[n:] * _TEXT_SCALE, without, mean_profile, scale, {"loss": loss})


_NEAR_OTHERS = 200  # items that a target of another user is compared with: there are many targets, so few will do
_MOST_OTHERS = 6_000  # targets, for memory and time where users have many
_TEXT_SCALE = np.float32(10)  # one over the spread of a cosine over items, about 0.1: as the standardised features


class RankingReward:
    """Scores of a frozen ranker for many texts of the users of one scene.

    ``identity`` is the content hash of the judge; two with one identity give the same rewards. ``item_vectors`` are
    those of the scene's items, float32 (I, d), by the reader that it was made with.
    """

    def __init__(
        self, ranker: FrozenRanker, scene: Scene, item_vectors: np.ndarray, config: RankingRewardConfig
    ) -> None:
        self.ranker, self.scene, self.config = ranker, scene, config
        self.identity = content_id("ranking_reward", ranker.identity, config.model_dump_json())
        self.item_vectors = item_vectors
        features = _scaled(_behaviour(scene), ranker.scale)
        shared = (item_vectors @ ranker.mean_profile) * ranker.text[1]
        self._base = (features @ ranker.behaviour + shared).astype(np.float32)
        self._blocked = scene.seen.toarray() != 0
        without = (features @ ranker.without_profile).astype(np.float32)
        if config.utility == "matched":
            self._near = _nearest(without, self._blocked, scene, config.n_matched)
            self._others = _drawn_targets(scene, config)
            few = np.random.default_rng(config.seed).permutation(self._near.shape[1])[:_NEAR_OTHERS]
            self._near_others = self._near[:, few]
            self._no_profile = np.zeros(len(scene.target_user))
        else:
            self._no_profile = _target_log_likelihood(without, self._blocked, np.arange(len(without)), scene)

    def per_target(self, user_rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Utility of each text for each target of its user less that without a profile, float64, target by target.

        ``user_rows`` int64 (C,): the scene's row of each text's user; ``vectors`` float32 (C, d). Texts come one after
        the other, each with the targets of its user in the scene's order; `target_counts` says how many.
        """
        parts = []
        for start in range(0, len(user_rows), BLOCK):
            rows = user_rows[start : start + BLOCK]
            scores = vectors[start : start + BLOCK] @ self.item_vectors.T
            if self.config.utility == "log_likelihood":
                scores = self._base[rows] + scores * self.ranker.text[0]
            parts.append(self.of_scores(rows, scores))
        return np.concatenate(parts) if parts else np.zeros(0)

    def of_scores(self, user_rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """As `per_target`, of a ranking that needs no text, such as popularity: ``scores`` float32 (C, I).

        *log_likelihood* takes them as logits, *matched* for their order alone.
        """
        if self.config.utility == "matched":
            gained = self._own_share(scores, user_rows)
        else:
            gained = _target_log_likelihood(scores, self._blocked[user_rows], user_rows, self.scene)
        return gained - self._no_profile[_targets_of(user_rows, self.scene)]

    def _own_share(self, cosines: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Share of matched items below each target, less the text's mean share over the others' targets.

        Every other user counts alike, as every user does in a mean reward: otherwise the few with many targets would
        stand for all, and a text that suits the rest would earn something with any of them.
        """
        targets, scene = _targets_of(rows, self.scene), self.scene
        text = np.repeat(np.arange(len(rows)), self.target_counts(rows))
        unmet = np.full((len(rows), cosines.shape[1] + 1), np.nan, dtype=np.float32)  # the last: where no item is near
        unmet[:, :-1] = np.where(self._blocked[rows], np.nan, cosines)  # nor is the user's past compared with
        own = _share_below(unmet, text, targets, self._near, scene)
        every = np.repeat(np.arange(len(rows)), len(self._others))
        others = np.tile(self._others, len(rows))
        shares = _share_below(unmet, every, others, self._near_others, scene).reshape(len(rows), -1)
        of = scene.target_user[self._others]
        weight = (1 / np.bincount(scene.target_user)[of]) * ((of != rows[:, None]) & ~np.isnan(shares))
        total = weight.sum(axis=1)
        mean = np.where(total > 0, (np.nan_to_num(shares) * weight).sum(axis=1) / np.maximum(total, 1e-12), 0.5)
        return own - mean[text]

    def target_counts(self, user_rows: np.ndarray) -> np.ndarray:
        """int64 (C,): targets of each text's user."""
        return np.bincount(self.scene.target_user, minlength=len(self.scene.user_ids))[user_rows]

    def per_text(self, user_rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """float64 (C,): mean of `per_target` over the targets of each text's user."""
        return self._means(user_rows, self.per_target(user_rows, vectors))

    def _means(self, user_rows: np.ndarray, gains: np.ndarray) -> np.ndarray:
        counts = self.target_counts(user_rows)
        text = np.repeat(np.arange(len(user_rows)), counts)
        return np.bincount(text, gains, minlength=len(user_rows)) / counts

    def rewards(self, candidates: pa.Table, vectors: np.ndarray) -> pa.Table:
        """The ``REWARDS`` of ``candidates`` (schema ``CANDIDATES``), whose texts ``vectors`` (C, d) encode.

        ``noise`` is the standard error of a candidate's mean over targets, as if the targets were drawn again, of what
        is its own: a user's targets are easier or harder for all of the user's candidates alike. The squares of two
        noises add up to that of their margin, on average over a user's pairs.
        """
        rows = self.scene.rows_of(candidates[USER_ID])
        gains, counts = self.per_target(rows, vectors), self.target_counts(rows)
        value = self._means(rows, gains)
        noise = standard_errors(gains, rows, counts, self.config.prior_targets)
        no_profile = np.bincount(self.scene.target_user, self._no_profile, minlength=len(self.scene.user_ids))
        n = len(rows)
        columns = {
            "candidate_id": candidates["candidate_id"],
            USER_ID: candidates[USER_ID],
            "reward": pa.array([self.identity] * n),
            "value": pa.array(value),
            "raw": pa.array(value),
            "noise": pa.array(noise),
            "no_profile": pa.array(no_profile[rows] / counts),
            "n_targets": pa.array(counts),
            "correct": pa.nulls(n, pa.bool_()),
            "answer": pa.array([""] * n),
        }
        return pa.table(columns).cast(REWARDS)


def item_vectors(scene: Scene, encoder: SentenceEncoder) -> np.ndarray:
    """float32 (I, d): the scene's item texts, by the encoder that serves the profiles."""
    return encoder.encode(scene.item_texts)


def _behaviour(scene: Scene) -> np.ndarray:
    """float32 (U, I, len(BEHAVIOUR)): what a ranker knows without a text; counts as log(1 + n), unknown as the mean."""
    n_users, n_items = scene.seen.shape
    features = np.zeros((n_users, n_items, len(BEHAVIOUR)), dtype=np.float32)
    numbers = scene.item_numbers.copy()
    logged = [ITEM_NUMBERS.index(name) for name in (*_COUNTS, "item_days_since_last", "item_age_days")]
    numbers[:, logged] = np.log1p(np.maximum(numbers[:, logged], 0))
    known = ~np.isnan(numbers)
    mean = np.where(known, numbers, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)  # 0 where nothing is rated
    features[:, :, : len(ITEM_NUMBERS)] = np.where(known, numbers, mean)
    categories = scene.item_categories
    features[:, :, -3] = (scene.users.shares @ categories.T).toarray()
    weight = (scene.users.rated_shares @ categories.T).toarray()
    total = (scene.users.ratings @ categories.T).toarray()
    mean = total.sum() / max(weight.sum(), 1e-9)
    features[:, :, -2] = np.divide(total, weight, out=np.full_like(weight, mean), where=weight > 0)
    features[:, :, -1] = np.log1p(ItemKnn(scene.history).scores(scene.seen))
    return features


def _scaled(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((features - scale[:, 0]) / scale[:, 1]).astype(np.float32)


def _maximum_likelihood(features: np.ndarray, scene: Scene, l2: float) -> tuple[np.ndarray, float]:
    """Coefficients float64 (F,) and the mean negative log-likelihood of the targets."""
    from scipy.optimize import minimize

    blocked = scene.seen.toarray() != 0
    user, item = scene.target_user, scene.target_item
    weight = np.bincount(user, minlength=len(features)) / len(user)  # a user's share of the targets
    wanted = features[user, item].mean(axis=0, dtype=np.float64)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.where(blocked, -np.inf, features @ coefficients.astype(np.float32))
        top = scores.max(axis=1, keepdims=True)
        odds = np.exp(scores - top)
        total = odds.sum(axis=1, keepdims=True)
        log_total = (top + np.log(total))[:, 0]
        expected = np.einsum("u,ui,uif->f", weight, odds / total, features, optimize=True)
        value = weight @ log_total - wanted @ coefficients + l2 / 2 * coefficients @ coefficients
        return float(value), expected - wanted + l2 * coefficients

    found = minimize(loss, np.zeros(features.shape[-1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    if not np.isfinite(found.fun):
        raise DataError(f"The ranker cannot be fitted on {len(user)} targets: its loss is {found.fun}.")
    return found.x, float(found.fun)


def _drawn_targets(scene: Scene, config: RankingRewardConfig) -> np.ndarray:
    """int64: all targets of ``n_others`` users or of all, but of no more users than `_MOST_OTHERS` targets are of."""
    users, counts = np.unique(scene.target_user, return_counts=True)
    drawn = np.random.default_rng(config.seed).permutation(len(users))[: config.n_others]
    kept = drawn[: max(2, int(np.searchsorted(np.cumsum(counts[drawn]), _MOST_OTHERS, side="right")))]
    return np.flatnonzero(np.isin(scene.target_user, users[kept]))


def _targets_of(rows: np.ndarray, scene: Scene) -> np.ndarray:
    """int64: the scene's targets of each row's user, one user after the other; targets are sorted by user."""
    start = np.searchsorted(scene.target_user, rows, side="left")
    counts = np.searchsorted(scene.target_user, rows, side="right") - start
    offsets = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(start - offsets, counts)


def _nearest(scores: np.ndarray, blocked: np.ndarray, scene: Scene, n: int) -> np.ndarray:
    """int32 (N, n): for each target the other items, unmet by its user, whose score is nearest; -1 where fewer are."""
    near = np.full((len(scene.target_user), min(n, scores.shape[1] - 1)), -1, dtype=np.int32)
    for place, (user, item) in enumerate(zip(scene.target_user, scene.target_item, strict=True)):
        free = ~blocked[user]
        free[item] = False
        others = np.flatnonzero(free)
        if len(others) > n:
            distance = np.abs(scores[user, others] - scores[user, item])
            others = others[np.argpartition(distance, n - 1)[:n]]
        near[place, : len(others)] = others
    return near


def _share_below(
    cosines: np.ndarray, text: np.ndarray, targets: np.ndarray, near: np.ndarray, scene: Scene
) -> np.ndarray:
    """float64, aligned with ``text`` and ``targets``: of the items near a target the share with a smaller cosine.

    Items whose cosine is NaN are not compared with; a target whose own is NaN has the share NaN.
    """
    shares = np.empty(len(text))
    for start in range(0, len(text), _GATHERED):
        part = slice(start, start + _GATHERED)
        own = cosines[text[part], scene.target_item[targets[part]]][:, None]
        others = cosines[text[part, None], near[targets[part]]]
        below, above = (others < own).sum(axis=1), (others > own).sum(axis=1)
        compared = np.maximum((~np.isnan(others)).sum(axis=1), 1)
        shares[part] = np.where(np.isnan(own[:, 0]), np.nan, 0.5 + (below - above) / (2 * compared))  # ties count half
    return shares


def _target_log_likelihood(scores: np.ndarray, blocked: np.ndarray, rows: np.ndarray, scene: Scene) -> np.ndarray:
    """float64: log p of each target of each row's user, in the order of `_targets_of`."""
    scores = np.where(blocked, -np.inf, scores)
    top = scores.max(axis=1)
    log_total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    targets = _targets_of(rows, scene)
    counts = np.bincount(scene.target_user, minlength=len(scene.user_ids))[rows]
    text = np.repeat(np.arange(len(rows)), counts)
    return (scores[text, scene.target_item[targets]] - log_total[text]).astype(np.float64)


def standard_errors(gains: np.ndarray, rows: np.ndarray, counts: np.ndarray, prior: float) -> np.ndarray:
    """float64 (C,): the noise of `RankingReward.rewards`; variances are shrunk towards the pooled one.

    ``gains`` as `RankingReward.per_target` gives them, of texts of the users ``rows`` int64 (C,), ``counts`` int64 (C,)
    for each; all texts of a user have the same targets in the same order.
    """
    text = np.repeat(np.arange(len(rows)), counts)
    place = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = int(counts.max()) if len(counts) else 1
    target = rows[text] * width + place
    of_target = np.bincount(target, gains) / np.maximum(np.bincount(target), 1)
    own = gains - of_target[target]
    mean = np.bincount(text, own, minlength=len(rows)) / counts
    squares = np.bincount(text, (own - mean[text]) ** 2, minlength=len(rows))
    several = (counts - 1).sum()
    pooled = squares.sum() / several if several else np.mean(own**2)  # one target each: an upper bound, never 0
    variance = (squares + prior * pooled) / (counts - 1 + prior)
    n_texts = np.bincount(rows)[rows]
    centred = np.where(n_texts > 1, n_texts / np.maximum(n_texts - 1, 1), 1)  # `own` lost what goes into the mean
    return np.sqrt(variance * centred / counts)
