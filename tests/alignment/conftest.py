"""Databases for the tests of the alignment loop."""

from __future__ import annotations

from tests.generation.conftest import ledger_url as database_url
from tests.generation.conftest import postgres_database, postgres_url

__all__ = ["database_url", "postgres_database", "postgres_url"]
