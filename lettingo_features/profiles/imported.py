"""Profiles that were written elsewhere, as a release of their own: stated windows, no call.

A text can only be a feature if it is known what it saw, so the end of the window must be stated and each user must
have an interaction in it; who has none is set aside and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from pydantic import Field

from lettingo_features import columns as c
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.generation.engine import content_id
from lettingo_features.home import Home
from lettingo_features.profiles.lint import lint
from lettingo_features.profiles.release import Release
from lettingo_features.profiles.tables import drop_orphans, meta_table, text_table, write_profiles
from lettingo_features.sql import connect, literal, quote
from lettingo_features.windows import WindowConfig, create_windows, window_digests

if TYPE_CHECKING:
    from lettingo_features.encoding import SentenceEncoder


class ImportConfig(Config):
    """What is known of the texts."""

    release: str = Field(pattern=r"^[a-z0-9_]+$")
    "Release that they become: the suffix of its tables and views."
    generator: str = Field(min_length=1)
    "Who wrote them, for tables and reports."
    cutoff: datetime
    "End of the window that the writer saw: every interaction that it may have read is older."
    published_at: datetime | None = None
    "When the texts could have been served; None: now, when they are imported."
    window: WindowConfig
    "The rest of the window: how far back, how many interactions."
    max_words: int = Field(default=1_000, ge=1)
    "Words after which a text ends at its last whole sentence; an encoder reads fewer."
    chunk_size: int = Field(default=2_048, ge=1)
    "Users per written part."


class ImportReport(Config):
    """Where every row went."""

    release: str
    rows: int
    written: int
    unchanged: int
    "The same text for the same window is there already."
    set_aside: dict[str, int]
    "Rows that cannot become features, by reason; they lie in the quarantine."
    lint_findings: int

    def to_text(self) -> str:
        """One line for a terminal."""
        aside = ", ".join(f"{n:,} {reason}" for reason, n in self.set_aside.items()) or "none"
        return (
            f"{self.rows:,} rows: {self.written:,} written to release {self.release}, {self.unchanged:,} unchanged; "
            f"set aside: {aside}; {self.lint_findings:,} lint findings"
        )


def read_profiles(
    path: Path | str, user_column: str, text_column: str, where: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """(user ids, texts) of a file, see `read_texts`."""
    rows = read_texts(path, user_column, text_column, where)
    return rows[c.USER_ID].to_pylist(), rows["text"].to_pylist()


def read_texts(
    path: Path | str, user_column: str, text_column: str, where: Sequence[str] = (), end_column: str | None = None
) -> pa.Table:
    """user_id, text and window_end of a CSV (may be gzipped), JSON lines or parquet file.

    Ids and texts are text, "" where there is none; ``window_end`` is an instant, UTC where it has no zone, and null
    where the file does not state it.

    Parameters
    ----------
    where
        ``column=value`` conditions, all of which a row must meet; values are compared as text.
    end_column
        End of the window that a text was written from; a file may lack it.

    Raises
    ------
    DataError
        The file or a column is missing, or the file, or an instant in it, cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}: give a CSV, JSON lines or parquet file with one text per user.")
    kinds = {".parquet": "read_parquet({})", ".jsonl": "read_json({}, format='newline_delimited')"}
    reader = kinds.get(path.suffix, "read_csv({}, all_varchar = true)").format(literal(str(path)))
    conditions = [condition.partition("=") for condition in where]
    connection = connect()
    connection.execute("SET preserve_insertion_order = true")  # several texts of one user are draws, in their order
    try:
        present = [name for name, *_ in connection.sql(f"DESCRIBE SELECT * FROM {reader}").fetchall()]
        missing = sorted({user_column, text_column, *(name for name, _, _ in conditions)} - set(present))
        if missing:
            raise DataError(f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(present)}.")
        clauses = ["true", *(f"{quote(name)}::VARCHAR = {literal(value)}" for name, _, value in conditions)]
        end = f"{quote(end_column)}::VARCHAR" if end_column in present else "NULL"
        return connection.sql(
            f"""SELECT coalesce({quote(user_column)}::VARCHAR, '') AS user_id,
                       coalesce({quote(text_column)}::VARCHAR, '') AS text, nullif({end}, '')::TIMESTAMPTZ AS window_end
                FROM {reader} WHERE {" AND ".join(clauses)}"""
        ).to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error


def import_profiles(
    home: Home, config: ImportConfig, user_ids: Sequence[str], texts: Sequence[str], encoder: SentenceEncoder
) -> ImportReport:
    """Make ``texts`` (one per user, aligned with ``user_ids``) the profiles of a release at ``config.cutoff``.

    The same import twice changes nothing. Another text for the same user and window replaces the first from now on.

    Raises
    ------
    ConfigError
        The cutoff has no zone, lies in the future or after ``published_at``; or the release was made otherwise.
    DataError
        No row can become a feature.
    """
    now = datetime.now(UTC)
    published = config.published_at or now
    if config.cutoff.tzinfo is None or not config.cutoff <= published <= now:
        raise ConfigError(
            f"The window ends at {config.cutoff} and the texts were published at {published}: both need a time zone, "
            f"the window ends first, and neither lies after now ({now:%Y-%m-%d %H:%M} UTC)."
        )
    windows = _windows(home, config)
    linted = {user: lint(text or "", config.max_words) for user, text in zip(user_ids, texts, strict=True)}
    aside = _set_aside(user_ids, linted, windows)
    usable = [user in linted and user not in aside for user in windows[c.USER_ID].to_pylist()]
    rows = windows.filter(pa.array(usable, pa.bool_()))
    if not rows.num_rows:
        raise DataError(
            f"None of {len(user_ids):,} rows can become a feature: {dict(Counter(aside.values()))}. Are the ids those "
            f"of the interactions in {home.root}, and does the window end at {config.cutoff}?"
        )
    release = Release(home, config.release)
    with release.lock():
        stated = config.model_dump(mode="json", exclude={"chunk_size", "published_at", "cutoff"})
        release.register({"imported": stated, "encoder": encoder.encoder_id, "vector_length": encoder.dim}, lambda: 0.0)
        drop_orphans(home, config.release, encoder.encoder_id)
        known = _known(home, config)
        changed = [known.get(user) != linted[user][0] for user in rows[c.USER_ID].to_pylist()]
        kept = [known.get(user) is not None for user in rows[c.USER_ID].to_pylist()]
        new = rows.append_column("replaces", pa.array(kept, pa.bool_())).filter(pa.array(changed, pa.bool_()))
        for start in range(0, new.num_rows, config.chunk_size):
            _write(home, config, encoder, new.slice(start, config.chunk_size), linted, published, now)
    _quarantine(home, config, [(u, aside[u], text) for u, text in zip(user_ids, texts, strict=True) if u in aside])
    return ImportReport(
        release=config.release,
        rows=len(user_ids),
        written=new.num_rows,
        unchanged=rows.num_rows - new.num_rows,
        set_aside=dict(Counter(aside[user] for user in user_ids if user in aside)),
        lint_findings=sum(linted[user][1] for user in new[c.USER_ID].to_pylist()),
    )


def _windows(home: Home, config: ImportConfig) -> pa.Table:
    connection = connect(home.spill)
    create_windows(connection, home.scan("interactions"), [config.cutoff], config.window)
    return window_digests(connection).order(c.USER_ID).to_arrow_table()


def _set_aside(user_ids: Sequence[str], linted: dict, windows: pa.Table) -> dict[str, str]:
    """User -> why the user's rows cannot become a feature."""
    seen, times = set(windows[c.USER_ID].to_pylist()), Counter(user_ids)
    reasons = {}
    for user, n in times.items():
        if not user:
            reasons[user] = "no user id"
        elif n > 1:
            reasons[user] = "several texts for one user"
        elif not linted[user][0]:
            reasons[user] = "no text"
        elif user not in seen:
            reasons[user] = "no interaction in the window"
    return reasons


def _known(home: Home, config: ImportConfig) -> dict[str, str]:
    """User -> newest text of this cutoff."""
    if not home.parts(meta_table(config.release)):
        return {}
    at = literal(config.cutoff.isoformat())
    rows = connect(home.spill).execute(
        f"SELECT user_id, arg_max(profile_text, created_timestamp) FROM {home.scan(text_table(config.release))} "
        f"WHERE event_timestamp = {at}::TIMESTAMPTZ GROUP BY user_id"
    )
    return dict(rows.fetchall())


def _write(home, config, encoder, rows: pa.Table, linted, published: datetime, now: datetime) -> None:
    texts = [linted[user][0] for user in rows[c.USER_ID].to_pylist()]
    n = len(texts)
    meta = {
        c.GENERATOR: pa.array([config.generator] * n),
        c.GENERATOR_ID: pa.array([content_id("imported", config.generator)] * n),
        c.WINDOW_DIGEST: rows[c.WINDOW_DIGEST],
        c.N_INTERACTIONS: rows[c.N_INTERACTIONS],
        "profile_n_words": pa.array([len(text.split()) for text in texts], pa.int64()),
        "profile_n_lint": pa.array([linted[user][1] for user in rows[c.USER_ID].to_pylist()], pa.int64()),
        "profile_n_claims": pa.array([0] * n, pa.int64()),
        "profile_n_dropped": pa.array([0] * n, pa.int64()),
        c.CALL_KEY: pa.array([""] * n),
    }
    # What replaces a text that was there could not have been served before now.
    times = [
        max(now, published + timedelta(microseconds=1)) if late else published for late in rows["replaces"].to_pylist()
    ]
    vectors = encoder.encode(texts)
    write_profiles(
        home, config.release, encoder.encoder_id, config.cutoff, rows, times, texts=texts, meta=meta, vectors=vectors
    )


def _quarantine(home: Home, config: ImportConfig, rows: list[tuple[str, str, str]]) -> None:
    """Keep (user, reason, text) of every row that was set aside."""
    if not rows:
        return
    home.quarantine.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"user_id": user, "reason": why, "profile": text}) for user, why, text in sorted(rows)]
    (home.quarantine / f"profiles-{config.release}-{content_id(*lines)[:16]}.jsonl").write_text("\n".join(lines) + "\n")
