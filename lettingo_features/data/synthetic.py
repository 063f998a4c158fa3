"""A seeded world of users and items whose tastes are known at every instant: demo data, and ground truth for tests.

What drives an interaction: the user's interests of that instant (a category, then an item of it by popularity), some
browsing by popularity alone, and some chance meetings with a category that the user dislikes. Ratings follow the match
of item and taste, a user's bias, the item's quality and noise. So popularity and co-occurrence are worthy baselines,
and whoever reads a history right knows something that they do not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, Field, model_validator

from lettingo_features import columns as c
from lettingo_features.config import Config
from lettingo_features.data import synthetic_words as words
from lettingo_features.data.synthetic_items import Catalogue, numbered
from lettingo_features.data.synthetic_tastes import MIN_CATEGORIES, Tastes, draw_tastes
from lettingo_features.home import write_parquet

DAY_S = 86_400
BLOCK = 256  # users per random stream: all of a block is drawn, so more users never change earlier ones
RAW_TIMESTAMP = "timestamp"  # what exports, and our generic format, call the event's instant
REDRAWS = 4  # tries to find an item that the user has not met yet
_CATALOGUE, _TASTES, _HISTORIES = range(3)


class WorldConfig(Config):
    """Size and temper of a `SyntheticWorld`."""

    seed: int = 0
    """Same config, same tables, byte for byte."""
    n_users: int = Field(default=1_000, ge=1)
    """Users; raising it leaves the histories of the earlier ones as they are."""
    n_items: int = Field(default=1_500, ge=1)
    """Items; half are out from the start, the others appear over the period."""
    n_days: int = Field(default=730, ge=1)
    """Days that the world covers: two years give windows of one year room to move."""
    start: AwareDatetime = datetime(2023, 1, 1, tzinfo=UTC)
    """First instant, UTC."""
    interactions_per_user: float = Field(default=40, gt=0)
    """Mean length of a history; lengths are log-normal, so most are shorter and a few much longer."""
    category_names: tuple[str, ...] = Field(default=words.FILM_CATEGORIES, min_length=MIN_CATEGORIES)
    """Categories, distinct; the first fill more of the catalogue. Other names make another domain of it."""
    changes_per_year: float = Field(default=0.3, ge=0)
    """Mean number of changes of taste per user and year."""
    browsing_share: float = Field(default=0.15, ge=0, le=1)
    """Interactions picked by popularity alone."""
    aversion_share: float = Field(default=0.08, ge=0, le=1)
    """Interactions with the user's disliked category: rated low, so that a history shows what is disliked."""
    unrated_share: float = Field(default=0.0, ge=0, le=1)
    """Interactions without a rating (event_type view)."""
    review_share: float = Field(default=0.15, ge=0, le=1)
    """Rated interactions with a short review."""

    @model_validator(mode="after")
    def _is_possible(self) -> WorldConfig:
        if len(set(self.category_names)) < len(self.category_names):
            raise ValueError("category_names holds a name twice")
        if self.browsing_share + self.aversion_share > 1:
            raise ValueError("browsing_share + aversion_share is above 1: nothing is left for the user's interests")
        return self


class SyntheticWorld:
    """One world: `items`, `interactions`, and the `truth` behind them."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self._duration_s = config.n_days * DAY_S
        rng = np.random.default_rng([config.seed, _CATALOGUE])
        self._catalogue = Catalogue(rng, config.n_items, config.category_names, self._duration_s)

    def items(self) -> pa.Table:
        """The catalogue: schema `columns.ITEMS` without created_timestamp."""
        return self._catalogue.table()

    def interactions(self) -> pa.Table:
        """Everything that happened: schema `columns.INTERACTIONS`, by event_timestamp; a user meets an item once."""
        blocks = pa.concat_tables(self._history(block) for block in range(self._n_blocks))
        return blocks.sort_by([(c.EVENT_TIMESTAMP, "ascending"), (c.USER_ID, "ascending"), (c.ITEM_ID, "ascending")])

    def truth(self, at: datetime) -> pa.Table:
        """Tastes at ``at``: user_id, interests list<string> strongest first, weights list<float> (sum 1), disliked."""
        tastes, n = self._tastes, self.config.n_users
        second = np.full(n, (at - self.config.start).total_seconds())
        weights = tastes.at(np.arange(n), second)
        order = np.argsort(-weights, axis=1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=1)
        held = ranked > 0
        offsets = pa.array(np.r_[0, held.sum(axis=1).cumsum()].astype(np.int32))
        names = self.config.category_names
        return pa.table(
            {
                c.USER_ID: numbered("u", np.arange(n), 6),
                "interests": pa.ListArray.from_arrays(offsets, words.pick(names, order[held])),
                "weights": pa.ListArray.from_arrays(offsets, pa.array(ranked[held], pa.float32())),
                "disliked": words.pick(names, tastes.disliked[:n]),
            }
        )

    @property
    def _n_blocks(self) -> int:
        return -(-self.config.n_users // BLOCK)

    @cached_property
    def _tastes(self) -> Tastes:
        changes = self.config.changes_per_year * self.config.n_days / 365
        n_categories = len(self.config.category_names)
        blocks = [
            draw_tastes(self._stream(_TASTES, block), BLOCK, n_categories, self._duration_s, changes)
            for block in range(self._n_blocks)
        ]
        return Tastes(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))

    def _stream(self, kind: int, block: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, kind, block])

    def _history(self, block: int) -> pa.Table:
        rng = self._stream(_HISTORIES, block)
        user, second = self._visits(rng)
        user = user + block * BLOCK
        weights = self._tastes.at(user, second)
        category = self._sought(rng, user, weights)
        item = self._pick_new(rng, user, category, second)
        rating = self._rate(rng, user, item, weights)
        table = self._table(user, second, item, rating, self._reviews(rng, item, rating))
        return table.filter(pa.array((item >= 0) & (user < self.config.n_users)))

    def _visits(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Who comes when: user 0..BLOCK-1 and second, both (n,), ordered by both. Visits cluster into sessions."""
        mean, sigma = self.config.interactions_per_user, 0.8
        n = np.ceil(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, BLOCK)).astype(int)
        n = np.minimum(n, int(np.ceil(8 * mean)))
        joined = rng.random(BLOCK) ** 1.5 * 0.9 * self._duration_s  # more users join early than late
        user = np.repeat(np.arange(BLOCK), n)
        n_sessions = np.maximum(n // 3, 1)
        first_session = np.cumsum(n_sessions) - n_sessions
        session_start = rng.random(n_sessions.sum())
        session = first_session[user] + (rng.random(len(user)) * n_sessions[user]).astype(int)
        span = self._duration_s - 3 * 3600 - joined[user]  # leaves room for the longest session
        second = joined[user] + session_start[session] * span + np.minimum(rng.exponential(1500, len(user)), 10_000)
        second = np.clip(second, 0, self._duration_s - 1).astype(np.int64)
        order = np.lexsort((second, user))
        return user[order], second[order]

    def _sought(self, rng: np.random.Generator, user: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The category that each visit looks for (n,); -1 browses."""
        interest = (weights.cumsum(axis=1) < rng.random(len(user))[:, None]).sum(axis=1)
        interest = np.minimum(interest, weights.shape[1] - 1)
        why = rng.random(len(user))
        browsing, aversion = self.config.browsing_share, self.config.aversion_share
        category = np.where(why < browsing + aversion, self._tastes.disliked[user], interest)
        return np.where(why < browsing, -1, category)

    def _pick_new(self, rng, user: np.ndarray, category: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Items (n,), -1 where REDRAWS tries found only what the user had met before."""
        item = np.full(len(user), -1)
        for _ in range(REDRAWS):
            draw = rng.random(len(user))  # as many every time: a redraw never shifts another user's stream
            missing = np.flatnonzero(item < 0)
            item[missing] = self._catalogue.pick(category[missing], second[missing], draw[missing])
            pair = user.astype(np.int64) * self.config.n_items + item
            _, first = np.unique(pair, return_index=True)  # rows are in time order per user: keep the first meeting
            again = np.ones(len(user), dtype=bool)
            again[first] = False
            item[again] = -1
        return item

    def _rate(self, rng, user: np.ndarray, item: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Half stars 0.5..5 (n,); NaN where unrated."""
        categories = self._catalogue.categories[item]
        own = categories >= 0
        match = np.where(own, np.take_along_axis(weights, np.maximum(categories, 0), axis=1), 0).max(axis=1)
        match = match / weights.max(axis=1)
        averse = (categories == self._tastes.disliked[user][:, None]).any(axis=1)
        bias = rng.normal(0, 0.35, BLOCK)[user % BLOCK]
        stars = 2.9 + 1.4 * np.sqrt(match) - 1.6 * averse + bias + self._catalogue.quality[item]
        stars = np.clip(np.round(2 * (stars + rng.normal(0, 0.5, len(user)))) / 2, 0.5, 5)
        return np.where(rng.random(len(user)) < self.config.unrated_share, np.nan, stars)

    def _reviews(self, rng, item: np.ndarray, rating: np.ndarray) -> pa.Array:
        catalogue = self._catalogue
        category = words.pick(self.config.category_names, catalogue.categories[item, 0])
        text = words.reviews(rng, rating, category, catalogue.strong[item], catalogue.weak[item])
        written = (rng.random(len(item)) < self.config.review_share) & ~np.isnan(rating)
        return pa.compute.if_else(pa.array(written), text, pa.scalar(None, pa.string()))

    def _table(self, user, second, item, rating, review: pa.Array) -> pa.Table:
        micros = int(self.config.start.timestamp()) * 1_000_000 + second * 1_000_000
        rated = ~np.isnan(rating)
        arrays = {
            c.USER_ID: numbered("u", user, 6),
            c.ITEM_ID: self._catalogue.ids(item),
            c.EVENT_TIMESTAMP: pa.array(micros).cast(c.TIMESTAMP),
            c.CREATED_TIMESTAMP: pa.array(micros + 1).cast(c.TIMESTAMP),  # seen strictly after its instant
            c.RATING: pa.array(rating, pa.float32(), mask=~rated),
            c.EVENT_TYPE: words.pick(["view", "rating"], rated.astype(int)),
            c.REVIEW_TEXT: review,
        }
        return pa.table([arrays[name] for name in c.INTERACTIONS.names], schema=c.INTERACTIONS)


def write_world(world: SyntheticWorld, directory: Path | str) -> list[Path]:
    """Write ``interactions.parquet`` and ``items.parquet`` as a platform would export them; return their paths.

    Columns are named as ingest's generic format expects them by default. created_timestamp is left out: ingest sets it,
    as for any raw data.
    """
    directory = Path(directory)
    interactions = world.interactions().drop_columns([c.CREATED_TIMESTAMP])
    names = [RAW_TIMESTAMP if name == c.EVENT_TIMESTAMP else name for name in interactions.column_names]
    tables = {"interactions": interactions.rename_columns(names), "items": world.items()}
    return [
        write_parquet(directory / f"{name}.parquet", table.to_batches(), table.schema) for name, table in tables.items()
    ]
