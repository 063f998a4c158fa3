"""Which users with a changed window are worth a new text."""

from __future__ import annotations

import re

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import ConfigError

_DAYS = re.compile(r"(\d+(?:\.\d+)?)d")


class RefreshPolicy(Config):
    """A user whose window changed is written again once either bound is reached; without bounds, at once.

    Interactions that arrive late, and deleted ones, change the window without making it newer, so under a policy they
    wait for ``days``. A user without a text is always written. A window that became empty keeps its last text: only
    erasure removes what was published.
    """

    interactions: int | None = Field(default=None, ge=1)
    """New interactions, counted from the newest one that the last text saw."""
    days: float | None = Field(default=None, gt=0)
    """Days since the cutoff of the last text."""

    @classmethod
    def parse(cls, bounds: tuple[str, ...]) -> RefreshPolicy:
        """``("5", "30d")`` -> five interactions or thirty days.

        Raises
        ------
        ConfigError
            A bound is neither a whole number nor a number of days.
        """
        found: dict[str, float] = {}
        for bound in bounds:
            if bound.isdecimal() and int(bound):
                found["interactions"] = int(bound)
            elif days := _DAYS.fullmatch(bound):
                found["days"] = float(days.group(1))
            else:
                raise ConfigError(f"Refresh after '{bound}'? Give a number of interactions (5) or of days (30d).")
        return cls(**found)

    def due_sql(self, fresh: str, age_days: str) -> str:
        """SQL of a boolean: is a changed window due, given the SQL of its new interactions and of the text's age?"""
        bounds = []
        if self.interactions is not None:
            bounds.append(f"{fresh} >= {self.interactions}")
        if self.days is not None:
            bounds.append(f"{age_days} >= {self.days}")
        return f"({' OR '.join(bounds)})" if bounds else "true"
