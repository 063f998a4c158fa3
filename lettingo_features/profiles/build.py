"""Profiles as of a cutoff: windows -> summaries -> texts -> vectors -> three feature tables.

Incremental: a user whose newest published window has the same digest costs nothing, so snapshots at an interval only
pay for users who changed. Resumable: chunks are written as parts named by their content's keys, the meta part last,
so a run killed at any point leaves every table readable and the next run does only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from lettingo_features.columns import GENERATOR, GENERATOR_ID, N_INTERACTIONS, USER_ID, WINDOW_DIGEST
from lettingo_features.config import Config
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home
from lettingo_features.profiles.generator import Generator, ProfileRequest
from lettingo_features.profiles.lint import lint
from lettingo_features.profiles.release import Release
from lettingo_features.profiles.summary import SummaryConfig, rating_scale, summarise
from lettingo_features.profiles.summary import summaries as as_facts
from lettingo_features.profiles.tables import drop_orphans, meta_table, write_profiles
from lettingo_features.sql import connect, literal
from lettingo_features.windows import WINDOWS, WindowConfig, create_windows, window_digests

if TYPE_CHECKING:
    from lettingo_features.encoding import SentenceEncoder


class ProfileBuildConfig(Config):
    """How the profiles of one release are built; saved beside the release, and refused when it changes."""

    release: str = "v1"
    "Name of the release: the suffix of its tables and views."
    window: WindowConfig = WindowConfig()
    "What a text may see."
    min_interactions: int = 5
    "Users with fewer interactions in their window get the statistical text: too little for a model to add to."
    style: str = "narrative"
    "Style asked of the language model, one of profiles.generator.STYLES."
    chunk_size: int = 2_048
    "Users per written part: what a killed run repeats at most."
    memory_limit: str = "1GB"
    "DuckDB's share of memory; larger windows spill to disk."


class ProfileBuildReport(Config):
    """What one build did, summed over its cutoffs."""

    release: str
    cutoffs: tuple[datetime, ...]
    users_seen: int
    "User snapshots with a non-empty window."
    users_unchanged: int
    "Of these, skipped: the newest published text already reads the same window."
    written: dict[str, int]
    "Texts written, by generator name."
    fallbacks: int
    "Texts of the language model that were empty after lint; the statistical text took their place."
    lint_findings: int
    seconds: dict[str, float]
    "Wall seconds by stage: windows, text, encode, write."

    def to_text(self) -> str:
        """Two lines for a terminal."""
        written = ", ".join(f"{count:,} by {name}" for name, count in sorted(self.written.items())) or "none"
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        return (
            f"{self.users_seen:,} windows at {len(self.cutoffs)} cutoffs: {self.users_unchanged:,} unchanged, skipped; "
            f"texts written: {written}; {self.fallbacks:,} fell back, {self.lint_findings:,} lint findings\n{spent}"
        )


class ProfileBuild:
    """Builds the profiles of one release.

    Parameters
    ----------
    cold
        Writes for users below ``config.min_interactions``, and wherever ``warm`` fails.
    warm
        Writes for all others.
    encoder
        Anything with ``encoder_id`` and ``encode(texts) -> (n, dim) float32``.

    Raises
    ------
    ConfigError
        The release exists and was built by other generators, windows, prompts or encoders: a version is a name.
    """

    def __init__(
        self, home: Home, config: ProfileBuildConfig, cold: Generator, warm: Generator, encoder: SentenceEncoder
    ) -> None:
        self.home, self.config, self.cold, self.warm, self.encoder = home.create(), config, cold, warm, encoder
        self._counts = {"users_seen": 0, "users_unchanged": 0, "fallbacks": 0, "lint_findings": 0}
        self._written: dict[str, int] = {}
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
            A cutoff lies in the future, or another run holds the release.
        """
        clock = (lambda: now) if now else (lambda: datetime.now(UTC))
        cutoffs = sorted(cutoffs)
        if cutoffs and cutoffs[-1] > clock():
            raise ConfigError(f"The cutoff {cutoffs[-1]} lies after now ({clock()}): a window cannot read the future.")
        self._users = None if users is None else pa.table({USER_ID: users})
        with Release(self.home, self.config.release).lock():
            self._release = Release(self.home, self.config.release)  # read again: the last holder may have written
            self._summary = SummaryConfig(rating_max=self._register(cutoffs))
            drop_orphans(self.home, self.config.release, self.encoder.encoder_id)
            for cutoff in cutoffs:
                self._run_cutoff(cutoff, backfill, clock, progress or _silent)
        return ProfileBuildReport(
            release=self.config.release,
            cutoffs=tuple(cutoffs),
            written=self._written,
            seconds={stage: round(spent, 3) for stage, spent in self._seconds.items()},
            **self._counts,
        )

    def _register(self, cutoffs: Sequence[datetime]) -> float:
        """Keep or check the release's identity; return its rating scale, read before the first cutoff it ever had."""
        identity = {
            "config": self.config.model_dump(mode="json", exclude={"chunk_size", "memory_limit"}),
            "cold": self.cold.generator_id,
            "warm": self.warm.generator_id,
            "warm_name": self.warm.name,
            "encoder": self.encoder.encoder_id,
        }

        def scale() -> float:
            first = literal(min(cutoffs).isoformat())
            before = f"(SELECT * FROM {self.home.scan('interactions')} WHERE event_timestamp < {first}::TIMESTAMPTZ)"
            return rating_scale(connect(self.home.spill), before)

        return self._release.register(identity, scale)

    def _run_cutoff(self, cutoff: datetime, backfill: bool, clock: Callable[[], datetime], progress) -> None:
        with _Stopwatch(self._seconds, "windows"):
            connection = connect(self.home.spill, self.config.memory_limit)
            changed, summaries = self._changed(connection, cutoff)
            connection.close()
        on_time = backfill and not self._release.is_finished(cutoff)
        published = cutoff + timedelta(seconds=self.config.window.publish_lag_s) if on_time else None
        for start in range(0, changed.num_rows, self.config.chunk_size):
            rows = changed.slice(start, self.config.chunk_size)
            self._write_chunk(cutoff, published, clock, rows, summaries.slice(start, self.config.chunk_size))
            progress(start + rows.num_rows, changed.num_rows)
        if self._users is None:
            self._release.finish(cutoff)

    def _changed(self, connection, cutoff: datetime) -> tuple[pa.Table, pa.Table]:
        """Users whose window differs from their newest published one, and their summaries, in the same order."""
        interactions = self.home.scan("interactions")
        create_windows(connection, interactions, [cutoff], self.config.window)
        if self._users is not None:
            connection.register("wanted", self._users)
            connection.execute(f"DELETE FROM {WINDOWS} WHERE user_id NOT IN (SELECT user_id FROM wanted)")
        connection.register("digests", window_digests(connection).to_arrow_table())
        connection.execute(f"CREATE TEMP TABLE published AS {self._published_sql(cutoff)}")
        seen = connection.execute("SELECT count(*) FROM digests").fetchall()[0][0]
        changed = connection.sql(
            """
            SELECT digests.user_id, digests.n_interactions, digests.source_max_ts, digests.window_digest,
                   coalesce(published.event_timestamp = digests.cutoff, false) AS replaces
            FROM digests LEFT JOIN published USING (user_id)
            WHERE published.window_digest IS DISTINCT FROM digests.window_digest
            ORDER BY digests.user_id
            """
        ).to_arrow_table()
        self._counts["users_seen"] += seen
        self._counts["users_unchanged"] += seen - changed.num_rows
        connection.register("changed", changed)
        connection.execute(f"DELETE FROM {WINDOWS} WHERE user_id NOT IN (SELECT user_id FROM changed)")
        summaries = summarise(connection, latest_items_sql(self.home), self._summary).read_all()
        if not summaries[USER_ID].equals(changed[USER_ID]):
            raise DataError("Window summaries and digests name different users: the windows table is inconsistent.")
        return changed, summaries

    def _published_sql(self, cutoff: datetime) -> str:
        """Each user's newest row at or before ``cutoff``."""
        table = meta_table(self.config.release)
        if not self.home.parts(table):
            return (
                "SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR AS window_digest, "
                "NULL::TIMESTAMPTZ AS event_timestamp WHERE false"
            )
        return f"""
            SELECT user_id, window_digest, event_timestamp FROM {self.home.scan(table)}
            WHERE event_timestamp <= TIMESTAMPTZ {literal(cutoff.isoformat())}
            QUALIFY row_number() OVER (
                PARTITION BY user_id ORDER BY event_timestamp DESC, created_timestamp DESC, window_digest) = 1
        """

    def _write_chunk(self, cutoff, published, clock, rows: pa.Table, summaries: pa.Table) -> None:
        """``published`` is None where rows are published when they are written."""
        with _Stopwatch(self._seconds, "text"):
            texts, writers, findings = self._texts(rows, summaries)
        with _Stopwatch(self._seconds, "encode"):
            vectors = self.encoder.encode(texts)
        with _Stopwatch(self._seconds, "write"):
            now = clock()
            late = rows["replaces"].to_pylist()
            meta = {
                GENERATOR: pa.array([writer.name for writer in writers]),
                GENERATOR_ID: pa.array([writer.generator_id for writer in writers]),
                WINDOW_DIGEST: rows[WINDOW_DIGEST],
                N_INTERACTIONS: rows[N_INTERACTIONS],
                "profile_n_words": pa.array([len(text.split()) for text in texts], pa.int64()),
                "profile_n_lint": pa.array(findings, pa.int64()),
            }
            write_profiles(
                self.home,
                self.config.release,
                self.encoder.encoder_id,
                cutoff,
                rows,
                published_at=[now if published is None or is_late else published for is_late in late],
                texts=texts,
                meta=meta,
                vectors=vectors,
            )

    def _texts(self, rows: pa.Table, summaries: pa.Table):
        warm = [n >= self.config.min_interactions for n in rows[N_INTERACTIONS].to_pylist()]
        requests = [
            ProfileRequest(user_id=user_id, summary=facts, style=self.config.style)
            for user_id, facts in as_facts(summaries)
        ]
        written = iter(_write_all(self.warm, [r for r, is_warm in zip(requests, warm, strict=True) if is_warm]))
        linted = [lint(next(written)) if is_warm else ("", 0) for is_warm in warm]
        empty = [index for index, (text, _) in enumerate(linted) if not text]
        for index, text in zip(empty, _write_all(self.cold, [requests[i] for i in empty]), strict=True):
            clean, findings = lint(text)
            linted[index] = (clean, findings + linted[index][1])
        self._counts["fallbacks"] += sum(warm[index] for index in empty)
        self._counts["lint_findings"] += sum(findings for _, findings in linted)
        is_cold = set(empty)
        writers = [self.cold if index in is_cold else self.warm for index in range(len(requests))]
        for writer in writers:
            self._written[writer.name] = self._written.get(writer.name, 0) + 1
        return [text for text, _ in linted], writers, [found for _, found in linted]


class _Stopwatch:
    """Adds the wall seconds of its block to ``seconds[stage]``."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = datetime.now(UTC)

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] += (datetime.now(UTC) - self._start).total_seconds()


def _write_all(generator: Generator, requests: list[ProfileRequest]) -> list[str]:
    texts = [text for batch in generator.write(requests) for text in batch] if requests else []
    if len(texts) != len(requests):
        raise DataError(f"{generator.name} answered {len(texts):,} of {len(requests):,} requests: no text was written.")
    return texts


def _silent(done: int, total: int) -> None:
    pass
