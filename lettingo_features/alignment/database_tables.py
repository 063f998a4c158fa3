"""SQL tables of the alignment loop: releases, and what each was trained on down to users, windows and rewards.

What changes here changes in a new file of ``migrations/versions`` and in ``SCHEMA.revision``.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
)

from lettingo_features.errors import DatabaseError
from lettingo_features.generation.database import Schema

SCHEMA = Schema(
    noun="alignment database",
    migrations="lettingo_features.alignment:migrations",
    version_table="alignment_version",
    revision="0002",
    error=DatabaseError,
    if_damaged="Restore it from a backup.",
    go_on="Then run again: each step finds what it has stored.",
    durable=True,
)

metadata = MetaData()

runs = Table(
    "alignment_runs",
    metadata,
    Column("run", String, primary_key=True),
    Column("rule", String, nullable=False),  # how pairs were chosen, as JSON
    Column("n_pairs", Integer, nullable=False),
    Column("digest", String(64), nullable=False),  # of the run's pairs, candidates and rewards
    Column("stored_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

windows = Table(  # what the generator was asked about a user
    "alignment_windows",
    metadata,
    Column("window_id", String(64), primary_key=True),  # content hash of the other columns
    Column("user_id", String, nullable=False, index=True),
    Column("cutoff", DateTime(timezone=True), nullable=False),
    Column("window_digest", String(64), nullable=False),
    Column("prompt", String, nullable=False),
)

candidates = Table(
    "alignment_candidates",
    metadata,
    Column("candidate_id", String(64), primary_key=True),  # tables.CANDIDATES, all of it
    Column("user_id", String, nullable=False, index=True),
    Column("cutoff", DateTime(timezone=True), nullable=False),
    Column("window_digest", String(64), nullable=False),
    Column("generator", String, nullable=False),
    Column("generator_id", String, nullable=False),
    Column("style", String, nullable=False),
    Column("draw", Integer, nullable=False),
    Column("text", String, nullable=False),
    Column("n_words", Integer, nullable=False),
    Column("n_lint", Integer, nullable=False),
    Column("supported", Float),
    Column("call_key", String, nullable=False),
)

rewards = Table(
    "alignment_rewards",
    metadata,
    Column("run", String, ForeignKey("alignment_runs.run", ondelete="CASCADE"), primary_key=True),
    Column("candidate_id", String(64), ForeignKey("alignment_candidates.candidate_id"), primary_key=True),
    Column("reward", String, primary_key=True),  # content hash of the judge
    Column("value", Float, nullable=False),
    Column("raw", Float, nullable=False),
    Column("noise", Float, nullable=False),
    Column("no_profile", Float),
    Column("n_targets", Integer, nullable=False),
    Column("correct", Boolean),
    Column("answer", String, nullable=False),
)

pairs = Table(
    "alignment_pairs",
    metadata,
    Column("run", String, ForeignKey("alignment_runs.run", ondelete="CASCADE"), primary_key=True),
    Column("pair_id", String(64), primary_key=True),
    Column("window_id", String(64), ForeignKey("alignment_windows.window_id"), nullable=False),
    Column("reward", String, nullable=False),
    Column("chosen_id", String(64), nullable=False),
    Column("rejected_id", String(64), nullable=False),
    Column("noise", Float, nullable=False),  # standard error of the margin
    ForeignKeyConstraint(
        ["run", "chosen_id", "reward"],
        ["alignment_rewards.run", "alignment_rewards.candidate_id", "alignment_rewards.reward"],
        name="alignment_pairs_chosen",
    ),
    ForeignKeyConstraint(
        ["run", "rejected_id", "reward"],
        ["alignment_rewards.run", "alignment_rewards.candidate_id", "alignment_rewards.reward"],
        name="alignment_pairs_rejected",
    ),
)

CANDIDATE, PROMOTING, CHAMPION = "candidate", "promoting", "champion"
RETIRED, ABANDONED, REJECTED = "retired", "abandoned", "rejected"

releases = Table(
    "releases",
    metadata,
    Column("name", String, primary_key=True),  # v2: the suffix of its views and services
    Column("state", String(9), nullable=False),
    Column("generator_id", String(64)),  # of its warm generator; NULL until its first profile is written
    Column("model", String),  # directory or id; NULL where the release was built before it was registered
    Column("revision", String(64)),  # content hash of the model's files
    Column("adapter", String),  # the content-hash name under which its adapter is served
    Column("prompt", String),
    Column("writer", String),  # how the command line was told to write, as JSON
    Column("settings", String),  # windows, style and encoder, as JSON
    Column("parent", String),  # the release whose generator it was trained from
    Column("replaced", String, ForeignKey("releases.name")),  # the champion that it took over from: rollback's goal
    Column("verdict", String),  # of the gate, as JSON
    Column("plan", String),  # of the promotion under way or done last, as JSON
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("created_by", String, nullable=False),
    CheckConstraint(
        "state IN ('candidate', 'promoting', 'champion', 'retired', 'abandoned', 'rejected')", name="releases_state"
    ),
)
# At most one champion and one promotion, whatever code runs where.
for _state in (CHAMPION, PROMOTING):
    _only = releases.c.state == _state
    Index(f"releases_one_{_state}", releases.c.state, unique=True, sqlite_where=_only, postgresql_where=_only)

release_steps = Table(  # finished steps of a promotion; they go when a new one is planned
    "release_steps",
    metadata,
    Column("release", String, ForeignKey("releases.name"), primary_key=True),
    Column("step", String, primary_key=True),
    Column("facts", String, nullable=False),  # as JSON
    Column("finished_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

release_flips = Table(  # who was champion when, and why
    "release_flips",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),  # adopt, promote, rollback
    Column("from_release", String),
    Column("to_release", String, ForeignKey("releases.name"), nullable=False),
    Column("why", String, nullable=False),
    Column("who", String, nullable=False),
    Column("flipped_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("published_at", DateTime(timezone=True)),  # when the alias services followed
)

promoters = Table(  # at most one row: who promotes now, or died doing so
    "release_promoters",
    metadata,
    Column("slot", Integer, primary_key=True),
    Column("id", String(32), nullable=False),
    Column("release", String, nullable=False),
    Column("who", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lock_file", String, nullable=False),  # locked while its holder lives, for those of the same host
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("heartbeat_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("slot = 1", name="release_promoters_slot"),
)
