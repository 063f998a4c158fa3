"""What every family of reward looks like to the loop: candidates in, their rewards and what the judge found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Judged:
    """Rewards and what they are worth."""

    rewards: pa.Table
    """Schema `tables.REWARDS`, without the guards' terms; candidates of users who cannot be judged are left out."""
    targets: pa.Table
    """user_id, item_id, event_timestamp: the held-out items that the candidates were judged on."""
    facts: dict[str, Any]
    """For ``reward.json`` and the report; ``controls`` among them: mean reward by what the judge was shown."""
    text: str
    """For a terminal."""
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    """float64, one per row of ``rewards``: what was measured of each text without a target, for `shrinkage`."""


class Judge(Protocol):
    """A frozen judge of the explored users of one run."""

    def judge(self, candidates: pa.Table) -> Judged:
        """Reward ``candidates`` (schema `tables.CANDIDATES`), whose texts are scrubbed already: all of a run at once,
        since a text may be read beside the other texts of its writer (`shared_wording`).

        Raises
        ------
        DataError
            None of them can be judged, or calls are still without an answer: run again.
        """
        ...
