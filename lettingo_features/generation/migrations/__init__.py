"""Versions of the ledger's schema, for alembic; `database.Database` runs them when it opens a ledger."""
