"""The reference ranker: LightGBM LambdaRank, small and deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.evaluation.tree_scoring import MAX_LEAVES

if TYPE_CHECKING:
    import lightgbm


class RankerConfig(Config):
    """Fixed for every arm: nothing is tuned on the test, and there is no early stopping to tune it by accident.

    Small on purpose: the cost of an uplift table is users x items x trees x arms x seeds.
    """

    trees: int = Field(60, ge=1)
    "Boosting rounds."
    leaves: int = Field(15, ge=2, le=MAX_LEAVES)
    "Leaves per tree; bounded by the scorer."
    learning_rate: float = Field(0.1, gt=0)
    "Shrinkage per tree."
    min_rows_per_leaf: int = Field(50, ge=1)
    "Rows that a leaf needs at least; about two queries, so that no leaf remembers one query."
    feature_share: float = Field(0.8, gt=0, le=1)
    "Share of the features offered to each tree; with the share of queries, what the seeds vary."
    query_share: float = Field(0.8, gt=0, le=1)
    "Share of the queries shown to each tree."


def train_ranker(
    matrix: np.ndarray, labels: np.ndarray, group_sizes: np.ndarray, config: RankerConfig, seed: int
) -> lightgbm.Booster:
    """Fit one ranker.

    Parameters
    ----------
    matrix : numpy.ndarray
        float32 (N, F), NaN = unknown; rows of a query are adjacent.
    labels : numpy.ndarray
        int (N,), 1 = the positive of its query.
    group_sizes : numpy.ndarray
        int (Q,), rows per query; sums to N.
    config : RankerConfig
    seed : int
        Of the feature and query sampling.
    """
    import lightgbm

    parameters = {
        "objective": "lambdarank",
        "num_leaves": config.leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_rows_per_leaf,
        "feature_fraction": config.feature_share,
        "bagging_fraction": config.query_share,
        "bagging_freq": 1,
        "bagging_by_query": True,
        "num_threads": 1,  # one order of sums everywhere, and no waiting for each other on a busy machine
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,  # otherwise a timing decides how sums are added up
        "verbose": -1,
    }
    rows = lightgbm.Dataset(matrix, labels, group=group_sizes, params={"num_threads": 1, "verbose": -1})
    return lightgbm.train(parameters, rows, num_boost_round=config.trees)
