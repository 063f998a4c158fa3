"""What every generator is asked and answers: a summary in, a text out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lettingo_features.errors import ConfigError
from lettingo_features.profiles.structured import Claim

if TYPE_CHECKING:
    import pyarrow as pa

STYLES = ("narrative", "brief", "bullets", "analyst")

Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator wrote for one request, before lint.

    Parameters
    ----------
    text
        "" where the caller must fall back or wait.
    claims
        Of structured output; each names at least one interaction of the window.
    n_dropped
        Claims and references that named none, and were dropped.
    n_lint
        Lint findings that the generator removed itself.
    pending
        True if nothing was written because no answer came (a failed call, a spent budget): a later run asks again.
    call_key
        Of the call in the ledger (`generation.engine.call_key`); "" without one.
    """

    text: str
    claims: tuple[Claim, ...] = ()
    n_dropped: int = 0
    n_lint: int = 0
    pending: bool = False
    call_key: str = ""


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
    history
        The window's interactions, newest first, of type `history.ROW`; None unless the generator reads them
        (`Generator.reads_history`).
    draw
        Which of several texts for one user and window: each has a random stream of its own.

    Raises
    ------
    ConfigError
        The style is unknown.
    """

    user_id: str
    summary: Mapping[str, Any]
    style: str = "narrative"
    history: pa.StructArray | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError(f"No style '{self.style}': choose one of {', '.join(STYLES)}.")

    def stream(self, seed: int) -> int:
        """Seed of this draw's random stream, 0 <= stream < 2**63: order, batches and resuming change nothing."""
        drawn = f"\x1f{self.draw}" if self.draw else ""
        digest = hashlib.sha256(f"{seed}\x1f{self.user_id}{drawn}".encode()).digest()
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

    @property
    def reads_history(self) -> bool:
        """True if `ProfileRequest.history` must be filled."""
        ...

    def write(self, requests: Sequence[ProfileRequest], progress: Progress | None = None) -> Iterator[list[Draft]]:
        """Batches of drafts, in the order of ``requests``: one draft per request."""
        ...
