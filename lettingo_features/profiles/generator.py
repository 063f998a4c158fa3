"""What every generator is asked and answers: a summary in, a text out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lettingo_features.errors import ConfigError

STYLES = ("narrative", "brief", "bullets", "analyst")

Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """One profile to write.

    Parameters
    ----------
    user_id
        Only for the random stream; it never enters a prompt or a text.
    summary
        One row of `summary.SUMMARY` as a dict.
    style
        One of `STYLES`; a generator with a single way of writing ignores it.

    Raises
    ------
    ConfigError
        The style is unknown.
    """

    user_id: str
    summary: Mapping[str, Any]
    style: str = "narrative"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError(f"No style '{self.style}': choose one of {', '.join(STYLES)}.")

    def stream(self, seed: int) -> int:
        """Seed of this user's random stream, 0 <= stream < 2**63: order, batches and resuming change nothing."""
        digest = hashlib.sha256(f"{seed}\x1f{self.user_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


class Generator(Protocol):
    """Writes profiles; two generators with one ``generator_id`` write the same texts."""

    @property
    def name(self) -> str:
        """Short name for tables and reports."""
        ...

    @property
    def generator_id(self) -> str:
        """Content hash (`content_id`) of all that shapes a text: model, prompt, sampling, code version."""
        ...

    def write(self, requests: Sequence[ProfileRequest], progress: Progress | None = None) -> Iterator[list[str]]:
        """Batches of texts, in the order of ``requests``: one text per request."""
        ...
