"""Tables of the ledger. What changes here changes in ``SCHEMA.revision`` and a new file of ``migrations/versions``."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    func,
)

from lettingo_features.errors import LedgerError
from lettingo_features.generation.database import Schema

SCHEMA = Schema(
    noun="ledger",
    migrations="lettingo_features.generation:migrations",
    version_table="ledger_version",
    revision="0001",
    error=LedgerError,
    if_damaged="Move the file away: the next run builds a new one from the stored answers.",
    go_on="Then run again: what was answered is stored, and the run goes on from there.",
    durable=False,  # the parts of `results.ResultStore` restore the last commits
)

PLANNED, CLAIMED, DONE, FAILED = "planned", "claimed", "done", "failed"

metadata = MetaData()

calls = Table(
    "ledger_calls",
    metadata,
    Column("key", String(64), primary_key=True),  # engine.call_key
    Column("status", String(8), nullable=False, server_default=PLANNED),
    Column("runner", String(32)),  # that has the claim; NULL unless claimed
    Column("attempts", Integer, nullable=False, server_default="0"),  # answered or failed; a kill counts for nothing
    Column("tokens_in", Integer),
    Column("tokens_out", Integer),
    Column("seconds", Float),  # latency
    Column("cost", Float),  # USD
    Column("error", String),  # class of the latest failure
    Column("part", String),  # of `results.ResultStore`, where the answer is
    Column("planned_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("status IN ('planned', 'claimed', 'done', 'failed')", name="ledger_calls_status"),
    # No index but the key's, and room on the pages: PostgreSQL then claims and finishes calls in place.
    postgresql_with={"fillfactor": "50"},
)

parts = Table(
    "ledger_parts",
    metadata,
    Column("name", String, primary_key=True),
    Column("n_rows", Integer, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

runners = Table(  # those that run and those that died: who ends in order leaves no row
    "ledger_runners",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("heartbeat_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
