"""Profiles as of a cutoff: windows -> summaries -> texts -> vectors -> feature tables.

Incremental: a user whose newest published window has the same digest costs nothing, so snapshots at an interval only
pay for users who changed. Resumable: chunks are written as parts named by their content's keys, the meta part last,
so a run killed at any point leaves every table readable and the next run does only what is missing. Two runs of one
release may work side by side: the ledger shares the calls out, and what one has written the other leaves alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from lettingo_features.columns import (
    CALL_KEY,
    GENERATOR,
    GENERATOR_ID,
    ITEM_ID,
    N_INTERACTIONS,
    USER_ID,
    WINDOW_DIGEST,
)
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home
from lettingo_features.profiles.build_report import ProfileBuildReport, Stopwatch, spread
from lettingo_features.profiles.due import Due, find_due, still_due
from lettingo_features.profiles.generator import Draft, Generator, ProfileRequest
from lettingo_features.profiles.lint import MAX_WORDS, lint
from lettingo_features.profiles.refresh import RefreshPolicy
from lettingo_features.profiles.release import Release
from lettingo_features.profiles.summary import SummaryConfig, rating_scale
from lettingo_features.profiles.tables import drop_orphans, meta_table, write_profiles
from lettingo_features.sql import connect, literal
from lettingo_features.windows import WindowConfig

if TYPE_CHECKING:
    from lettingo_features.encoding import SentenceEncoder


class ProfileBuildConfig(Config):
    """How the profiles of one release are built; saved beside the release, and refused when it changes."""

    release: str = Field(default="v1", pattern=r"^[a-z0-9_]+$")
    "Name of the release: the suffix of its tables and views."
    window: WindowConfig = WindowConfig()
    "What a text may see."
    min_interactions: int = 5
    "Users with fewer interactions in their window get the statistical text: too little for a model to add to."
    max_words: int = Field(default=MAX_WORDS, ge=1)
    "Words after which a text ends at its last whole sentence."
    style: str = "narrative"
    "Style asked of the language model, one of profiles.generator.STYLES."
    chunk_size: int = 2_048
    "Users per written part."
    refresh: RefreshPolicy = RefreshPolicy()
    "When a changed window is worth a new text; may change from run to run."
    memory_limit: str = "1GB"
    "DuckDB's share of memory; larger windows spill to disk."

    @model_validator(mode="after")
    def _reachable(self) -> ProfileBuildConfig:
        shown, bound = self.window.recent_k + self.window.long_k, self.refresh.interactions
        if bound is not None and bound > shown:
            raise ConfigError(
                f"A refresh after {bound} interactions never comes: a window holds {shown}. Lower it, or give a bound "
                "in days instead."
            )
        return self


class ProfileBuild:
    """Builds the profiles of one release.

    Parameters
    ----------
    cold
        Writes for users below ``config.min_interactions``, and wherever ``warm`` fails.
    warm
        Writes for all others.
    encoder
        Anything with ``encoder_id``, ``dim`` and ``encode(texts) -> (n, dim) float32``.

    Raises
    ------
    ConfigError
        The release exists and was built by other generators, windows, prompts or encoders: a version is a name.
    """

    def __init__(
        self, home: Home, config: ProfileBuildConfig, cold: Generator, warm: Generator, encoder: SentenceEncoder
    ) -> None:
        self.home, self.config, self.cold, self.warm, self.encoder = home.create(), config, cold, warm, encoder
        self._counts: Counter[str] = Counter()
        self._n_words: list[int] = []
        self._written: Counter[str] = Counter()
        self._seconds = {"windows": 0.0, "text": 0.0, "encode": 0.0, "write": 0.0}

    def run(
        self,
        cutoffs: Sequence[datetime],
        *,
        backfill: bool = True,
        now: datetime | None = None,
        users: pa.Array | pa.ChunkedArray | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProfileBuildReport:
        """Build every cutoff in time order, for all users or for ``users`` (ids) only.

        ``backfill=True`` publishes a row at ``cutoff + publish_lag``, when a job run at the cutoff would have; False
        (a live run) publishes when it is written. A row of a cutoff that an earlier run finished, or that replaces one
        of the same cutoff, comes from interactions that arrived late: it is always published when it is written, as it
        could not have been served before. ``now`` stands for the clock in tests. ``progress(done, total)`` is called
        with user counts of the current cutoff.

        Raises
        ------
        ConfigError
            A cutoff lies in the future, or the release was built with other settings.
        """
        clock = (lambda: now) if now else (lambda: datetime.now(UTC))
        cutoffs = sorted(cutoffs)
        if cutoffs and cutoffs[-1] > clock():
            raise ConfigError(f"The cutoff {cutoffs[-1]} lies after now ({clock()}): a window cannot read the future.")
        self._users = None if users is None else pa.table({USER_ID: users})
        self._release = Release(self.home, self.config.release)
        with self._release.lock():
            self._summary = SummaryConfig(rating_max=self._register(cutoffs))
            drop_orphans(self.home, self.config.release, self.encoder.encoder_id)
        for cutoff in cutoffs:
            self._run_cutoff(cutoff, backfill, clock, progress or _silent)
        return ProfileBuildReport(
            release=self.config.release,
            cutoffs=tuple(cutoffs),
            written=self._written,
            words=spread(self._n_words),
            seconds={stage: round(spent, 3) for stage, spent in self._seconds.items()},
            **{name: self._counts[name] for name in _COUNTS},
        )

    def plan(self, cutoffs: Sequence[datetime], sample: int) -> list[tuple[int, list[ProfileRequest]]]:
        """What `run` would ask the language model at each cutoff, in time order: how many requests, and up to
        ``sample`` of them, evenly drawn. Nothing is written or registered."""
        known = Release(self.home, self.config.release).rating_max
        summary = SummaryConfig(rating_max=known or self._scale(min(cutoffs)))
        assumed, planned = None, []
        for cutoff in sorted(cutoffs):
            with closing(
                find_due(self.home, self.config, summary, cutoff, self.warm.reads_history, assumed=assumed)
            ) as due:
                written = due.as_published(cutoff)
                assumed = written if assumed is None else pa.concat_tables([assumed, written])
                warm = np.flatnonzero(due.rows[N_INTERACTIONS].to_numpy() >= self.config.min_interactions)
                chosen = warm[np.unique(np.linspace(0, len(warm) - 1, min(sample, len(warm))).astype(int))]
                planned.append((len(warm), due.sampled(chosen)))
        return planned

    def _register(self, cutoffs: Sequence[datetime]) -> float:
        """Keep or check the release's identity; return its rating scale, read before the first cutoff it ever had."""
        identity = {
            "config": self.config.model_dump(mode="json", exclude={"chunk_size", "memory_limit", "refresh"}),
            "cold": self.cold.generator_id,
            "warm": self.warm.generator_id,
            "warm_name": self.warm.name,
            "encoder": self.encoder.encoder_id,
            "vector_length": self.encoder.dim,
        }

        return self._release.register(identity, lambda: self._scale(min(cutoffs)))

    def _scale(self, first: datetime) -> float:
        at = f"{literal(first.isoformat())}::TIMESTAMPTZ"
        before = f"(SELECT * FROM {self.home.scan('interactions')} WHERE event_timestamp < {at})"
        return rating_scale(connect(self.home.spill), before)

    def _run_cutoff(self, cutoff: datetime, backfill: bool, clock: Callable[[], datetime], progress) -> None:
        known = self._meta_parts()  # before the look at what is published: what another run adds later is seen
        with Stopwatch(self._seconds, "windows"):
            due = find_due(self.home, self.config, self._summary, cutoff, self.warm.reads_history, self._users)
            self._counts.update(due.counts)
        with closing(due):
            self._write_due(due, known, cutoff, backfill, clock, progress)

    def _write_due(self, due: Due, known: frozenset[str], cutoff: datetime, backfill: bool, clock, progress) -> None:
        """Chunk by chunk; ``known`` are the parts that were there before ``due`` was found."""
        pending = self._counts["users_pending"]
        for start in range(0, due.rows.num_rows, self.config.chunk_size):
            end = min(start + self.config.chunk_size, due.rows.num_rows)
            with Stopwatch(self._seconds, "windows"):
                requests = due.requests(start, end)
            with Stopwatch(self._seconds, "text"):
                texts = self._texts(requests)
            with self._release.lock():
                on_time = backfill and not self._release.is_finished(cutoff)
                published = cutoff + timedelta(seconds=self.config.window.publish_lag_s) if on_time else None
                rows = due.rows.slice(start, end - start)
                before = self._meta_parts()
                # What another run wrote since is at least as new: it stays, and the next run compares it.
                still = still_due(self.home, self.config.release, cutoff, rows, before - known)
                self._counts["users_pending"] += sum(
                    text.writer is None and is_due for text, is_due in zip(texts, still, strict=True)
                )
                wanted = [text.writer is not None and is_due for text, is_due in zip(texts, still, strict=True)]
                if any(wanted):
                    chosen = [text for text, is_wanted in zip(texts, wanted, strict=True) if is_wanted]
                    self._write_chunk(cutoff, published, clock, rows.filter(pa.array(wanted)), chosen)
                    known |= self._meta_parts() - before
            progress(end, due.rows.num_rows)
        if self._users is None and self._counts["users_pending"] == pending:
            with self._release.lock():
                self._release.finish(cutoff)

    def _meta_parts(self) -> frozenset[str]:
        return frozenset(path.name for path in self.home.parts(meta_table(self.config.release)))

    def _write_chunk(self, cutoff, published, clock, rows: pa.Table, texts: list[_Text]) -> None:
        """``published`` is None where rows are published when they are written."""
        with Stopwatch(self._seconds, "encode"):
            vectors = self.encoder.encode([text.text for text in texts])
        with Stopwatch(self._seconds, "write"):
            now = clock()
            late = rows["replaces"].to_pylist()
            n_words = [len(text.text.split()) for text in texts]
            claims = [text.claims for text in texts]
            meta = {
                GENERATOR: pa.array([text.writer.name for text in texts]),
                GENERATOR_ID: pa.array([text.writer.generator_id for text in texts]),
                WINDOW_DIGEST: rows[WINDOW_DIGEST],
                N_INTERACTIONS: rows[N_INTERACTIONS],
                "profile_n_words": pa.array(n_words, pa.int64()),
                "profile_n_lint": pa.array([text.n_lint for text in texts], pa.int64()),
                "profile_n_claims": pa.array([len(mine) for mine in claims], pa.int64()),
                "profile_n_dropped": pa.array([text.n_dropped for text in texts], pa.int64()),
                CALL_KEY: pa.array([text.call_key for text in texts], pa.string()),
            }
            write_profiles(
                self.home,
                self.config.release,
                self.encoder.encoder_id,
                cutoff,
                rows,
                published_at=[now if published is None or is_late else published for is_late in late],
                texts=[text.text for text in texts],
                meta=meta,
                vectors=vectors,
                claims=claims,
            )
        self._n_words += n_words
        self._written.update(text.writer.name for text in texts)
        self._counts["fallbacks"] += sum(text.fell_back for text in texts)
        self._counts["lint_findings"] += sum(text.n_lint for text in texts)
        self._counts["claims"] += sum(map(len, claims))
        self._counts["claims_dropped"] += sum(text.n_dropped for text in texts)

    def _texts(self, requests: list[ProfileRequest]) -> list[_Text]:
        """One text per request; without a writer where no answer came."""
        warm = [request.summary["n_interactions"] >= self.config.min_interactions for request in requests]
        drafts = iter(_write_all(self.warm, [r for r, is_warm in zip(requests, warm, strict=True) if is_warm]))
        texts = [
            self._warm_text(r, next(drafts)) if is_warm else None for r, is_warm in zip(requests, warm, strict=True)
        ]
        cold = [index for index, text in enumerate(texts) if text is None or not (text.text or text.writer is None)]
        for index, draft in zip(cold, _write_all(self.cold, [requests[i] for i in cold]), strict=True):
            clean, n_lint = lint(draft.text, self.config.max_words)
            tried = texts[index]
            n_lint += tried.n_lint if tried else 0
            texts[index] = _Text(clean, self.cold, n_lint, fell_back=tried is not None)
        return texts

    def _warm_text(self, request: ProfileRequest, draft: Draft) -> _Text:
        if draft.pending:
            return _Text("", None)
        clean, n_lint = lint(draft.text, self.config.max_words)
        items = request.history.field(ITEM_ID).to_pylist() if draft.claims else []
        claims = [(claim.text, [items[n - 1] for n in claim.interactions]) for claim in draft.claims]
        return _Text(clean, self.warm, n_lint + draft.n_lint, claims, draft.n_dropped, draft.call_key)


_COUNTS = (
    "users_seen",
    "users_unchanged",
    "users_kept",
    "users_pending",
    "fallbacks",
    "lint_findings",
    "claims",
    "claims_dropped",
)


class _Text(NamedTuple):
    """A text after lint; ``writer`` is None where nothing was written."""

    text: str
    writer: Generator | None
    n_lint: int = 0
    claims: Sequence[tuple[str, Sequence[str]]] = ()
    n_dropped: int = 0
    call_key: str = ""
    fell_back: bool = False


def _write_all(generator: Generator, requests: list[ProfileRequest]) -> list[Draft]:
    drafts = [draft for batch in generator.write(requests) for draft in batch] if requests else []
    if len(drafts) != len(requests):
        raise DataError(
            f"{generator.name} answered {len(drafts):,} of {len(requests):,} requests: no text was written."
        )
    return drafts


def _silent(done: int, total: int) -> None:
    pass
