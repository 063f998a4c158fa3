"""Calls, parts and runners."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    now = sa.func.now()
    op.create_table(
        "ledger_calls",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("status", sa.String(8), nullable=False, server_default="planned"),
        sa.Column("runner", sa.String(32)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("tokens_in", sa.Integer),
        sa.Column("tokens_out", sa.Integer),
        sa.Column("seconds", sa.Float),
        sa.Column("cost", sa.Float),
        sa.Column("error", sa.String),
        sa.Column("part", sa.String),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.CheckConstraint("status IN ('planned', 'claimed', 'done', 'failed')", name="ledger_calls_status"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "ledger_parts",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("n_rows", sa.Integer, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
    )
    op.create_table(
        "ledger_runners",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
    )
