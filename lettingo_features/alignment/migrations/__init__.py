"""Versions of the alignment database's schema, for alembic; `database.Database` runs them when it opens one."""
