"""One global time split (see the traps in PAPERS.md).

::

    history            train labels              test labels
    ───────────────┬───────────────────────┬──────────────────────┐
              train_start             test_start                 end
              (belongs to train)      (belongs to test)          (newest interaction, inside)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class SplitConfig(Config):
    """Shares of the time split, what counts as relevant, and the caps that keep an evaluation in minutes."""

    train_share: float = Field(0.20, gt=0, lt=1)
    "Share of all interactions whose positives become training labels: those just before the test period."
    test_share: float = Field(0.15, gt=0, lt=1)
    "Share of all interactions, the newest, that form the test period."
    positive_share: float = Field(0.8, gt=0, le=1)
    "An interaction is relevant from this share of the rating scale on: 4 of 5, 8 of 10."
    rating_max: float | None = None
    "Top of the rating scale; None takes the largest rating of the data. Events without a rating are relevant."
    negatives: int = Field(20, ge=1)
    "Sampled negatives per training query; the test ranks every item, this only bounds the size of the training set."
    popular_share: float = Field(0.0, ge=0, le=1)
    """Share of the negatives drawn by popularity before the label; the rest is uniform over the available items, as the
    test ranks them all. Popular negatives teach a ranker to distrust popularity: with half of them the row without
    profiles fell behind plain popularity."""
    max_queries: int = Field(4_000, ge=1)
    "Training queries kept, by seeded sample."
    max_test_users: int = Field(600, ge=1)
    "Test users kept, by seeded sample; each is ranked against every available item."
    seed: int = 0
    "Seed of both samples and of the negatives; each query has its own stream, so the caps change no draw."


@dataclass(frozen=True)
class Split:
    """Instants (UTC) of the split: train labels in ``[train_start, test_start)``, test in ``[test_start, end]``."""

    train_start: datetime
    test_start: datetime
    end: datetime


def time_split(connection: DuckDBPyConnection, interactions_sql: str, config: SplitConfig) -> Split:
    """Cut the interactions by time, at quantiles of ``event_timestamp``; a boundary instant belongs to the later side.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Session in UTC.
    interactions_sql : str
        Anything that may stand after FROM, with the columns of ``columns.INTERACTIONS``.
    config : SplitConfig

    Raises
    ------
    DataError
        If one of the three parts would be empty: too few interactions, or too few distinct instants.
    """
    if config.train_share + config.test_share >= 1:
        raise DataError(
            f"train_share {config.train_share} + test_share {config.test_share} leave no history. Lower one of them."
        )
    [(first, train_start, test_start, end, n)] = connection.execute(
        f"""SELECT min(event_timestamp), quantile_disc(event_timestamp, $train), quantile_disc(event_timestamp, $test),
                   max(event_timestamp), count(*)
            FROM {interactions_sql}""",
        {"train": 1 - config.test_share - config.train_share, "test": 1 - config.test_share},
    ).fetchall()
    if not n or not first < train_start < test_start <= end:
        raise DataError(
            f"{n} interactions between {first} and {end} cannot be cut into history, training and test by time. "
            "Bring more interactions, or other shares."
        )
    return Split(train_start, test_start, end)


def history(connection: DuckDBPyConnection, interactions_sql: str, before: datetime) -> pa.Table:
    """``user_id, item_id, event_timestamp`` of all interactions strictly before ``before``, oldest first."""
    return connection.sql(
        f"""SELECT user_id, item_id, event_timestamp FROM {interactions_sql} WHERE event_timestamp < $before
            ORDER BY event_timestamp, user_id, item_id""",
        params={"before": before},
    ).to_arrow_table()
