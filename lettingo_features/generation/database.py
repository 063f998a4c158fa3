"""A database of this project: SQLite in one file, or PostgreSQL by URL; nothing here knows what its tables hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lettingo_features.errors import ConfigError, DatabaseError, MissingExtraError

_UPGRADE_LOCK = 7_305_801_402  # of PostgreSQL's advisory locks; any number that nobody else takes
_SECRETS = ("password", "passfile", "sslpassword")  # of a URL's query
_NEXT_STEPS = (  # part of what the driver says -> what to do
    ("locked", "Another process held it for longer than {timeout_s:g} s: end the stuck one."),
    ("lock timeout", "Another process held a row for longer than {timeout_s:g} s: end the stuck one."),
    ("is full", "Free space where it lives."),
    ("no space", "Free space where it lives."),
    ("disk i/o", "Check the disk under it."),
    ("not a database", "{if_damaged}"),
    ("malformed", "{if_damaged}"),
    ("no such table", "{if_damaged}"),
    ("unable to open", "Check that its directory exists and may be written."),
    ("readonly", "Make the file and its directory writable."),
    ("authentication", "Check user and password of the URL."),
)


@dataclass(frozen=True, slots=True)
class Schema:
    """One set of tables, its history, and how to speak of it to people. Several may share a database."""

    noun: str
    """What people call it: "ledger"."""
    migrations: str
    """Where alembic finds its history: "package:directory"."""
    version_table: str
    """Of its own, as other users of alembic may share the database."""
    revision: str
    """The newest file of its history."""
    error: type[DatabaseError]
    if_damaged: str
    """What to do about a file that is no longer a database."""
    go_on: str
    """What a caller does once the database answers again."""
    durable: bool
    """Whether SQLite waits for the disk at every commit. Where not, a power cut may take the last commits."""


class Database:
    """Transactions on one database, its schema brought up to date when it is opened.

    Parameters
    ----------
    url
        "sqlite:///path" or "postgresql://user:password@host:port/name". NOTE: SQLite needs a local disk; on a network
        file system its locks do not hold.
    schema
        The tables that are wanted.
    timeout_s
        How long to wait for a connection and for another process's lock.
    create
        Whether tables that are missing are made, and older ones brought up to date.

    Raises
    ------
    ConfigError
        The URL names neither.
    DatabaseError
        As `Schema.error`: the database cannot be reached, or a newer version of this package made it.
    """

    def __init__(self, url: str, schema: Schema, timeout_s: float = 30.0, create: bool = True) -> None:
        self._schema = schema
        self._timeout_s = timeout_s
        self._url = _parsed(url, schema.noun)
        self.dialect = self._url.get_backend_name()
        self._engine = self._connectable()
        if create:
            self._bring_up_to_date()

    def exists(self) -> bool:
        """Whether the tables were ever made; looking makes nothing."""
        if self.dialect == "sqlite" and not Path(self._url.database).is_file():
            return False
        with self.reading() as connection:
            return self._revision(connection) is not None

    @property
    def name(self) -> str:
        """The URL without its secrets."""
        return self._url.difference_update_query(_SECRETS).render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that sees one state and never waits for writers."""
        with self._clear_errors(), self._engine.connect() as connection:
            yield connection.execution_options(reads_only=True)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed at the end; with SQLite no other writes meanwhile."""
        with self._clear_errors(), self._engine.begin() as connection:
            yield connection

    def given(self, rows: Sequence[Sequence[str | float]], **columns: sa.types.TypeEngine[Any]) -> sa.Subquery:
        """Rows from here as a table of a query: one JSON parameter, however many rows."""
        if self.dialect == "sqlite":
            array = sa.bindparam(None, rows, type_=sa.JSON)
            row = sa.func.json_each(array).table_valued("value").c.value
            fields = [sa.func.json_extract(row, f"$[{n}]") for n in range(len(columns))]
        else:
            array = sa.bindparam(None, rows, type_=postgresql.JSON)
            row = sa.func.json_array_elements(array).column_valued("row")
            fields = [sa.cast(row.op("->>")(n), type_) for n, type_ in enumerate(columns.values())]
        return sa.select(*(field.label(name) for field, name in zip(fields, columns, strict=True))).subquery()

    def insert(self, table: sa.Table) -> Any:
        """INSERT that knows ON CONFLICT."""
        return (sqlite.insert if self.dialect == "sqlite" else postgresql.insert)(table)

    def close(self) -> None:
        self._engine.dispose()

    def _connectable(self) -> sa.Engine:
        if self.dialect == "sqlite":
            engine = sa.create_engine(self._url, connect_args={"timeout": self._timeout_s})
            sa.event.listen(engine, "connect", self._set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            return sa.create_engine(
                self._url,
                pool_pre_ping=True,  # a server that was restarted between two transactions costs nothing
                connect_args={
                    "connect_timeout": max(2, round(self._timeout_s)),
                    "options": f"-c lock_timeout={round(1000 * self._timeout_s)} -c timezone=UTC",
                    "tcp_user_timeout": round(1000 * self._timeout_s),  # a host that vanished without a word
                },
            )
        except ModuleNotFoundError:
            raise MissingExtraError(f"The {self._schema.noun} on PostgreSQL", "postgres") from None

    def _set_up_sqlite(self, connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own: see _begin_sqlite
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._schema.durable else 'NORMAL'}")
        # 64 MB: keys are hashes, so every batch is looked up all over the index
        connection.execute("PRAGMA cache_size = -65536")

    def _bring_up_to_date(self) -> None:
        if self.dialect == "sqlite":
            with suppress(OSError):  # what is wrong with the directory SQLite says below
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.reading() as connection:
            current = self._revision(connection)
        if current == self._schema.revision:
            return
        with self.writing() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            self._upgrade(connection)

    def _upgrade(self, connection: sa.Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", self._schema.migrations)
        config.attributes["connection"] = connection
        current = self._revision(connection)  # again: another process may have held the lock for its own upgrade
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if current is not None and current not in known:
            raise self._schema.error(
                f"The {self._schema.noun} {self.name} has schema {current}, this version of lettingo_features knows "
                f"{self._schema.revision} at most. Use the version that made it, or a newer one."
            )
        command.upgrade(config, "head")

    def _revision(self, connection: sa.Connection) -> str | None:
        table = self._schema.version_table
        if not sa.inspect(connection).has_table(table):
            return None
        return connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(table))).scalar()

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
            if self._url.password:
                cause = cause.replace(str(self._url.password), "***")
            step = next((step for part, step in _NEXT_STEPS if part in cause.lower()), "Check that its server runs.")
            step = step.format(timeout_s=self._timeout_s, if_damaged=self._schema.if_damaged)
            raise self._schema.error(
                f"The {self._schema.noun} {self.name} does not answer: {cause}. {step} {self._schema.go_on}"
            ) from None  # the chain would show the statement with its thousands of keys


def _parsed(url: str, noun: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        parsed = None
    backend = parsed.drivername.partition("+")[0] if parsed is not None else ""
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    raise ConfigError(
        f"The URL of the {noun} is sqlite:///path/to/file.db or postgresql://user:password@host:port/name, not one of "
        f"'{backend or 'unreadable'}'."
    )


def _begin_sqlite(connection: sa.Connection) -> None:
    reads_only = connection.get_execution_options().get("reads_only", False)
    # A write transaction takes its lock at once: one that starts as a reader cannot wait for it later.
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
