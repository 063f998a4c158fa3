"""Releases, their promotions, and who was champion when."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    now = sa.func.now()
    op.create_table(
        "releases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("generator_id", sa.String(64)),
        sa.Column("model", sa.String),
        sa.Column("revision", sa.String(64)),
        sa.Column("adapter", sa.String),
        sa.Column("prompt", sa.String),
        sa.Column("writer", sa.String),
        sa.Column("settings", sa.String),
        sa.Column("parent", sa.String),
        sa.Column("replaced", sa.String, sa.ForeignKey("releases.name")),
        sa.Column("verdict", sa.String),
        sa.Column("plan", sa.String),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("created_by", sa.String, nullable=False),
        sa.CheckConstraint(
            "state IN ('candidate', 'promoting', 'champion', 'retired', 'abandoned', 'rejected')", name="releases_state"
        ),
    )
    for state in ("champion", "promoting"):
        only = sa.text(f"state = '{state}'")
        op.create_index(
            f"releases_one_{state}", "releases", ["state"], unique=True, sqlite_where=only, postgresql_where=only
        )
    op.create_table(
        "release_steps",
        sa.Column("release", sa.String, sa.ForeignKey("releases.name"), primary_key=True),
        sa.Column("step", sa.String, primary_key=True),
        sa.Column("facts", sa.String, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
    )
    op.create_table(
        "release_flips",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("from_release", sa.String),
        sa.Column("to_release", sa.String, sa.ForeignKey("releases.name"), nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("flipped_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("published_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "release_promoters",
        sa.Column("slot", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("lock_file", sa.String, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("slot = 1", name="release_promoters_slot"),
    )
