"""What a build of profiles did, in numbers."""

from __future__ import annotations

import time
from datetime import datetime

import numpy as np

from lettingo_features.config import Config


class ProfileBuildReport(Config):
    """What one build did, summed over its cutoffs."""

    release: str
    cutoffs: tuple[datetime, ...]
    users_seen: int
    "User snapshots with a non-empty window."
    users_unchanged: int
    "Of these, skipped: the newest published text already reads the same window."
    users_kept: int
    "Of these, changed, but not yet due under the refresh policy."
    users_pending: int
    "Of these, without an answer (failed calls, a spent budget): the next run asks again."
    written: dict[str, int]
    "Texts written, by generator name."
    fallbacks: int
    "Texts of the language model that were empty after lint; the statistical text took their place."
    lint_findings: int
    claims: int
    "Statements written with the interactions that support them."
    claims_dropped: int
    "Claims and references that named no interaction of the window."
    words: dict[str, float]
    "Words per text of this run: mean, and the 5th, 50th and 95th percentile."
    seconds: dict[str, float]
    "Wall seconds by stage: windows, text, encode, write."

    def to_text(self) -> str:
        """A few lines for a terminal."""
        written = ", ".join(f"{count:,} by {name}" for name, count in sorted(self.written.items())) or "none"
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        return (
            f"{self.users_seen:,} windows at {len(self.cutoffs)} cutoffs: {self.users_unchanged:,} unchanged, "
            f"{self.users_kept:,} not yet due; texts written: {written}; {self.users_pending:,} without an answer, "
            f"{self.fallbacks:,} fell back, {self.lint_findings:,} lint findings; {self.claims:,} claims, "
            f"{self.claims_dropped:,} dropped\n{spent}"
        )


class Stopwatch:
    """Adds the wall seconds of its block to ``seconds[stage]``."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] += time.perf_counter() - self._start


def spread(counts: list[int]) -> dict[str, float]:
    """Mean, and 5th, 50th and 95th percentile; empty when there is nothing to count."""
    if not counts:
        return {}
    low, middle, high = np.percentile(counts, [5, 50, 95])
    return {"mean": round(float(np.mean(counts)), 1), "p5": float(low), "p50": float(middle), "p95": float(high)}
