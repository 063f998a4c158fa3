"""Guards of a reward: against texts that please the judge without describing the person.

Four, each of which can be switched off and says what it found: numbers that smuggle a rating into the text are scrubbed
before any judge reads it (`rating_scrub`); a text that names the very item it is judged on is looked for
(`target_naming`); supported claims may earn something, and length beyond a norm may cost something.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lettingo_features.alignment.tables import REWARDS
from lettingo_features.config import Config


class GuardConfig(Config):
    """Which guards are on; weights are in units of the reward."""

    scrub_ratings: bool = True
    """Numbers that say how this person rates are taken out before any judge reads the text: a mean rating is no taste,
    and a judge who is told it is right more often than one who reads a profile."""
    target_independence: bool = True
    """Report how often a text names the title of its own held-out target."""
    faithfulness_weight: float = Field(default=0.0, ge=0)
    """Times the share of supported claims, added to the reward; a text whose share is unknown gets the mean."""
    length_weight: float = Field(default=0.0, ge=0)
    """Taken from the reward for each word above the norm."""
    length_norm: int = Field(default=80, ge=1)
    """Words that cost nothing."""


def guarded(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> pa.Table:
    """``rewards`` with ``value`` = ``raw`` plus the terms for faithfulness and length; all else stays as it is.

    ``value = raw + faithfulness_weight * supported - length_weight * max(0, n_words - length_norm)``, with the
    mean of the others for a ``supported`` that is unknown: neither gain nor loss beside them.
    """
    bonus, cost = _terms(rewards, candidates, config)
    value = pc.subtract(pc.add(rewards["raw"], bonus), cost)
    return rewards.set_column(REWARDS.get_field_index("value"), "value", value)


def guard_effects(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> dict[str, Any]:
    """What `guarded` does to ``rewards``: means of its terms, and how many rewards each one touches."""
    bonus, cost = _terms(rewards, candidates, config)
    supported = candidates["supported"].take(_row_of(rewards, candidates))
    return {
        **config.model_dump(),
        "n": len(rewards),
        "n_support_unknown": supported.null_count,
        "mean_supported": pc.mean(supported).as_py(),
        "mean_faithfulness_term": pc.mean(bonus).as_py(),
        "n_over_length_norm": pc.sum(pc.greater(_words_over(rewards, candidates, config), 0)).as_py() or 0,
        "mean_length_penalty": pc.mean(cost).as_py(),
    }


def _terms(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    supported = candidates["supported"].take(_row_of(rewards, candidates))
    supported = pc.fill_null(supported, pc.mean(supported).as_py() or 0.0)
    over = pc.cast(_words_over(rewards, candidates, config), pa.float64())
    return pc.multiply(supported, config.faithfulness_weight), pc.multiply(over, config.length_weight)


def _words_over(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> pa.ChunkedArray:
    words = candidates["n_words"].take(_row_of(rewards, candidates))
    return pc.max_element_wise(pc.subtract(words, config.length_norm), 0)


def _row_of(rewards: pa.Table, candidates: pa.Table) -> pa.Array:
    return pc.index_in(rewards["candidate_id"], candidates["candidate_id"].combine_chunks())
