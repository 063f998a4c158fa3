"""Ledgers for tests: a SQLite file, and a fresh database on a PostgreSQL server where there is one; and signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

SERVICES = Path(__file__).resolve().parents[2] / "scripts" / "services"


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """URL of a server on which tests may make databases: LETTINGO_TEST_POSTGRES, else what scripts/services runs."""
    url = os.environ.get("LETTINGO_TEST_POSTGRES")
    if url is None:
        done = subprocess.run([SERVICES, "url", "postgres"], capture_output=True, text=True, check=False)
        url = done.stdout.strip()
    try:
        psycopg = pytest.importorskip("psycopg", reason="extra 'postgres' is not installed")
        psycopg.connect(url, connect_timeout=5).close() if url else pytest.skip("no PostgreSQL: run 'make services'")
    except psycopg.OperationalError:
        pytest.skip("PostgreSQL does not answer: run 'make services', or set LETTINGO_TEST_POSTGRES")
    return url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """URL of a database of the test's own."""
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"lettingo_test_{uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that takes it runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def listening() -> Iterator[None]:
    """Both signals as Python sets them: whoever runs the tests in the background ignores Ctrl-C."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
