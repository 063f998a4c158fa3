"""Runs, windows, candidates, rewards and preference pairs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "alignment_runs",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("rule", sa.String, nullable=False),
        sa.Column("n_pairs", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "alignment_windows",
        sa.Column("window_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String, nullable=False, index=True),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_digest", sa.String(64), nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
    )
    op.create_table(
        "alignment_candidates",
        sa.Column("candidate_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String, nullable=False, index=True),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_digest", sa.String(64), nullable=False),
        sa.Column("generator", sa.String, nullable=False),
        sa.Column("generator_id", sa.String, nullable=False),
        sa.Column("style", sa.String, nullable=False),
        sa.Column("draw", sa.Integer, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("n_words", sa.Integer, nullable=False),
        sa.Column("n_lint", sa.Integer, nullable=False),
        sa.Column("supported", sa.Float),
        sa.Column("call_key", sa.String, nullable=False),
    )
    op.create_table(
        "alignment_rewards",
        sa.Column("run", sa.String, sa.ForeignKey("alignment_runs.run", ondelete="CASCADE"), primary_key=True),
        sa.Column("candidate_id", sa.String(64), sa.ForeignKey("alignment_candidates.candidate_id"), primary_key=True),
        sa.Column("reward", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("raw", sa.Float, nullable=False),
        sa.Column("noise", sa.Float, nullable=False),
        sa.Column("no_profile", sa.Float),
        sa.Column("n_targets", sa.Integer, nullable=False),
        sa.Column("correct", sa.Boolean),
        sa.Column("answer", sa.String, nullable=False),
    )
    reward = ["alignment_rewards.run", "alignment_rewards.candidate_id", "alignment_rewards.reward"]
    op.create_table(
        "alignment_pairs",
        sa.Column("run", sa.String, sa.ForeignKey("alignment_runs.run", ondelete="CASCADE"), primary_key=True),
        sa.Column("pair_id", sa.String(64), primary_key=True),
        sa.Column("window_id", sa.String(64), sa.ForeignKey("alignment_windows.window_id"), nullable=False),
        sa.Column("reward", sa.String, nullable=False),
        sa.Column("chosen_id", sa.String(64), nullable=False),
        sa.Column("rejected_id", sa.String(64), nullable=False),
        sa.Column("noise", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["run", "chosen_id", "reward"], reward, name="alignment_pairs_chosen"),
        sa.ForeignKeyConstraint(["run", "rejected_id", "reward"], reward, name="alignment_pairs_rejected"),
    )
