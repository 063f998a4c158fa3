"""Who may call what, on both databases; the schema's versions; and messages that help and keep secrets."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lettingo_features.errors import ConfigError, LedgerError
from lettingo_features.generation import ledger_tables
from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ledger import Ledger, RunnerState
from lettingo_features.generation.presence import Presence

KEYS = [letter * 64 for letter in "abcdef"]
A, B, C, D, E, F = KEYS
ANSWER = Completion("text", n_tokens=7, n_prompt_tokens=90, seconds=1.5, cost=0.25)
FAILURE = Completion("", 0, error="http_429", seconds=30.0)


@pytest.fixture
def ledger(ledger_url: str) -> Ledger:
    ledger = Ledger(ledger_url, timeout_s=2)
    ledger.enter("one", "host", 1)
    ledger.enter("two", "host", 2)
    return ledger


def rows(url: str, table: sa.Table) -> list[sa.Row]:
    engine = sa.create_engine(sa.make_url(url))
    with engine.connect() as connection:
        return connection.execute(sa.select(table).order_by(*table.primary_key)).all()


def test_planning_twice_adds_once(ledger):
    assert ledger.plan([C, A, B]) == 3
    assert ledger.plan([A, D, A, C]) == 1
    assert ledger.counts() == {"planned": 4}
    assert ledger.plan([]) == 0


def test_a_claim_is_given_once_and_in_the_order_asked(ledger):
    ledger.plan(KEYS)
    assert ledger.claim([C, A, B], "one", 3) == [C, A, B]
    assert ledger.claim([A, D, C, F], "two", 3) == [D, F]
    assert ledger.claim(["unknown"], "two", 3) == []
    assert ledger.counts() == {"claimed": 5, "planned": 1}


@pytest.mark.parametrize("gone", ["a stranger", "two"])
def test_a_claim_whose_runner_is_gone_is_free(ledger, gone):
    ledger.plan(KEYS)
    ledger.claim([A, B], gone, 3)
    ledger.claim([C], "one", 3)
    ledger.leave("two", [])  # as one that was interrupted amid the claim and was told of nothing
    status = {key: call.status for key, call in ledger.look_up(KEYS).items()}
    assert status == {A: "planned", B: "planned", C: "claimed", D: "planned", E: "planned", F: "planned"}
    ledger.enter("three", "host", 3)
    assert ledger.claim(KEYS, "three", 3) == [A, B, D, E, F]
    ledger.add_failures(gone, [(A, FAILURE)])
    assert {call.status for call in ledger.look_up(KEYS).values()} == {"claimed"}
    assert ledger.claim(KEYS, "one", 3) == []


@pytest.mark.slow
def test_a_claim_of_hundreds_of_thousands(ledger):
    keys = [f"{n * 7919 % 200_000:064}" for n in range(200_000)]  # in an order that is not the index's
    ledger.plan(keys)
    ledger.claim(keys[::50_000], "two", 3)
    ledger.leave("two", [])
    assert ledger.claim(keys, "one", 3) == keys
    assert ledger.leave("one", keys) == 200_000


def test_many_threads_claim_each_key_once(ledger):
    keys = [f"{n:064}" for n in range(2000)]
    ledger.plan(keys)
    claimed: list[str] = []

    def work(name: str) -> None:
        for start in range(0, len(keys), 50):
            ledger.enter(f"{name}, {start}", "host", 1)  # anew: others must know of it when they see its claims
            claimed.extend(ledger.claim(keys[start : start + 50], f"{name}, {start}", 3))

    threads = [threading.Thread(target=work, args=(f"runner {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == keys


def test_done_and_failed_keep_what_a_report_needs(ledger, ledger_url):
    ledger.plan([A, B])
    ledger.claim([A, B], "one", 3)
    ledger.add_part("part-1", [(A, ANSWER)])
    ledger.add_failures("one", [(B, FAILURE)])
    seen = [
        (row.key, row.status, row.attempts, row.tokens_in, row.tokens_out, row.seconds, row.cost, row.error, row.part)
        for row in rows(ledger_url, ledger_tables.calls)
    ]
    assert seen == [
        (A, "done", 1, 90, 7, 1.5, 0.25, None, "part-1"),
        (B, "failed", 1, None, None, 30.0, None, "http_429", None),
    ]
    assert {row.runner for row in rows(ledger_url, ledger_tables.calls)} == {None}
    assert ledger.part_names() == {"part-1"}


def test_a_failed_call_can_be_claimed_until_its_attempts_are_over(ledger):
    ledger.plan([A])
    for attempts in (1, 2):
        assert ledger.claim([A], "one", max_attempts=2) == [A]
        ledger.add_failures("one", [(A, FAILURE)])
        assert ledger.look_up([A])[A].attempts == attempts
    assert ledger.claim([A], "one", max_attempts=2) == []
    assert ledger.claim([A], "one", max_attempts=3) == [A]


def test_a_done_call_stays_with_its_first_part(ledger):
    ledger.add_part("part-1", [(A, ANSWER)])  # never planned here: the ledger is new
    ledger.add_part("part-2", [(A, ANSWER), (B, ANSWER)])
    ledger.add_part("part-2", [(A, ANSWER), (B, ANSWER)])
    assert {key: call.part for key, call in ledger.look_up(KEYS).items()} == {A: "part-1", B: "part-2"}
    assert ledger.claim([A, B], "one", 3) == []
    assert ledger.forget_part("part-1") == 1
    assert ledger.claim([A, B], "one", 3) == [A]


def test_a_failure_of_one_who_lost_the_claim_changes_nothing(ledger):
    ledger.plan([A])
    ledger.claim([A], "one", 3)
    ledger.leave("one")
    ledger.claim([A], "two", 3)
    ledger.add_failures("one", [(A, FAILURE)])
    assert ledger.look_up([A])[A].status == "claimed"


@pytest.mark.parametrize(("claims", "returned"), [(None, 2), ([A], 1), ([], 0)])
def test_who_leaves_gives_claims_back(ledger, claims, returned):
    ledger.plan(KEYS)
    ledger.claim([A, B], "one", 3)
    ledger.claim([C], "two", 3)
    assert ledger.leave("one", claims) == returned
    assert ledger.counts() == {"planned": 3 + returned, "claimed": 3 - returned}
    assert [runner.id for runner in ledger.runners()] == ["two"]


def test_a_heartbeat_shows_and_a_stranger_has_none(ledger):
    assert ledger.beat("one") and not ledger.beat("a stranger")
    ledger.leave("two")
    (state,) = ledger.runners()
    assert state == RunnerState("one", "host", 1, state.silent_s)
    assert 0 <= state.silent_s < 60


def test_presence_tells_the_living_from_the_dead(ledger, tmp_path):
    with Presence(ledger, tmp_path, lease_s=300) as me, Presence(ledger, tmp_path, lease_s=300) as other:
        assert me.dead() == []
        ledger.enter("of another host", "elsewhere", 1)  # heard a moment ago
        (tmp_path / "killed.lock").touch()  # no process holds its lock
        with (tmp_path / "held.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            host = next(runner.host for runner in ledger.runners() if runner.id == me.id)
            ledger.enter("killed", host, 1)
            ledger.enter("held", host, 1)
            assert [runner.id for runner in me.dead()] == ["killed"]
            me.bury(me.dead())
        left = {runner.id for runner in ledger.runners()}
        assert left == {me.id, other.id, "one", "two", "of another host", "held"}
    with Presence(ledger, tmp_path, lease_s=-1) as impatient:
        assert {runner.id for runner in impatient.dead()} == {"one", "two", "of another host", "held"}


def test_the_migrations_make_the_declared_schema(ledger, ledger_url):
    with sa.create_engine(sa.make_url(ledger_url)).connect() as connection:
        options = {"version_table": ledger_tables.SCHEMA.version_table}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), ledger_tables.metadata) == []
    config = Config()
    config.set_main_option("script_location", "lettingo_features.generation:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [ledger_tables.SCHEMA.revision]


def test_opening_again_keeps_all_and_many_may_open_at_once(ledger_url):
    errors: list[Exception] = []

    def work() -> None:
        try:
            Ledger(ledger_url).plan([A])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Ledger(ledger_url).counts() == {"planned": 1}


def test_a_newer_schema_is_refused(ledger, ledger_url):
    with sa.create_engine(sa.make_url(ledger_url)).begin() as connection:
        connection.exec_driver_sql(f"UPDATE {ledger_tables.SCHEMA.version_table} SET version_num = '9999'")
    with pytest.raises(LedgerError, match=r"has schema 9999, this version of lettingo_features knows 0001 at most"):
        Ledger(ledger_url)


def test_a_locked_file_says_so(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", timeout_s=0.05)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        LedgerError, match=r"ledger.db does not answer: database is locked. Another process held it for"
    ):
        ledger.plan([A])
    holder.rollback()
    assert ledger.plan([A]) == 1


def test_a_full_database_says_so_and_loses_nothing(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.plan([A])
    with ledger._database.writing() as connection:  # SQLite's own limit stands in for a full disk: the same SQLITE_FULL
        connection.exec_driver_sql("PRAGMA max_page_count = 12")
    with pytest.raises(LedgerError, match=r"database or disk is full. Free space where it lives. Then run again"):
        ledger.plan([f"{n:064}" for n in range(10_000)])
    ledger.close()
    assert Ledger(f"sqlite:///{tmp_path}/ledger.db").counts() == {"planned": 1}


UNUSABLE = [  # url, what the message says
    ("sqlite://", r"is sqlite:///path/to/file.db or postgresql://"),  # in memory: no second runner sees it
    ("mysql://user:secret@host/db", r"not one of 'mysql'"),
    ("no url", r"not one of 'unreadable'"),
]


@pytest.mark.parametrize(("url", "message"), UNUSABLE)
def test_another_database_is_refused(url, message):
    with pytest.raises(ConfigError, match=message) as error:
        Ledger(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["{}:secret@127.0.0.1:1/db", "{}@127.0.0.1:1/db?password=secret"])
def test_a_server_that_is_down_is_named_without_its_password(url):
    pytest.importorskip("psycopg", reason="extra 'postgres' is not installed")
    with pytest.raises(LedgerError, match=r"127.0.0.1:1/db.* does not answer: .*Check that its server runs") as error:
        Ledger(url.format("postgresql://somebody"), timeout_s=2)
    assert "secret" not in str(error.value)


def test_a_directory_that_is_no_directory_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"unable to open database file. Check that its directory exists"):
        Ledger(f"sqlite:///{tmp_path}/file/ledger.db")


def test_who_only_looks_makes_no_ledger(ledger_url, tmp_path):
    assert Ledger.existing(ledger_url) is None
    assert Ledger.existing(ledger_url) is None and not list(tmp_path.rglob("*.db"))
    Ledger(ledger_url).plan(["a"])
    assert Ledger.existing(ledger_url).look_up(["a"])["a"].status == "planned"
