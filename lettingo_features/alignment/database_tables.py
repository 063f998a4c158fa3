"""SQL tables of the alignment loop: what each release was trained on, down to users, windows and rewards.

What changes here changes in a new file of ``migrations/versions`` and in ``SCHEMA.revision``.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
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
    revision="0001",
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
