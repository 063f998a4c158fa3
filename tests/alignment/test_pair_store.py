"""Pairs in SQL, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lettingo_features.alignment import database_tables as t
from lettingo_features.alignment.pair_store import PairStore
from lettingo_features.alignment.pairs import PairConfig, preference_pairs, shuffled
from lettingo_features.errors import DatabaseError, DataError
from lettingo_features.generation.ledger import Ledger
from tests.alignment.rows import candidates, prompts, rewards

FOUND = candidates(
    ("u1a", "u1", "llm", "one two"),
    ("u1b", "u1", "rows", "two one"),
    ("u2a", "u2", "llm", "Amélie: ünïcode '; DROP TABLE"),
    ("u2b", "u2", "rows", "three words here"),
    ("u3a", "u3", "rows", "never judged"),
)
GIVEN = rewards({"u1a": 0.1, "u1b": 0.30000000000000004, "u2a": 1 / 3, "u2b": -7.0}, noise=0.01)
PAIRS = preference_pairs(FOUND, GIVEN, prompts("u1", "u2"), PairConfig(length_ratio=None)).rows
RULE = {"pairs": {"mode": "capped"}}
TABLES = (t.runs, t.windows, t.candidates, t.rewards, t.pairs)


@pytest.fixture
def store(database_url):
    made = PairStore(database_url)
    yield made
    made.close()


def n_rows(url: str) -> list[int]:
    with sa.create_engine(sa.make_url(url)).connect() as connection:
        return [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in TABLES]


def test_what_was_stored_comes_back_exactly(store):
    before = datetime.now(UTC).replace(microsecond=0)
    assert store.add("first", RULE, PAIRS, FOUND, GIVEN) == 2
    assert store.pairs("first").equals(PAIRS.sort_by("pair_id"))
    (run,) = store.runs()
    assert (run.run, run.rule, run.n_pairs) == ("first", RULE, 2)
    assert before <= run.stored_at <= datetime.now(UTC)


def test_the_same_run_again_changes_nothing(store, database_url):
    store.add("first", RULE, PAIRS, FOUND, GIVEN)
    counts = n_rows(database_url)
    assert counts == [1, 2, 5, 4, 2]
    assert store.add("first", RULE, PAIRS.take([1, 0]), FOUND, GIVEN) == 0
    assert n_rows(database_url) == counts


def test_a_second_run_shares_windows_and_candidates(store, database_url):
    store.add("first", RULE, PAIRS, FOUND, GIVEN)
    control = shuffled(PAIRS, seed=4)
    assert store.add("shuffled", RULE, control, FOUND, GIVEN) == 2
    assert n_rows(database_url) == [2, 2, 5, 8, 4]
    assert store.pairs("shuffled").equals(control.sort_by("pair_id"))
    assert store.pairs("first").equals(PAIRS.sort_by("pair_id"))


def test_a_run_cannot_become_another(store, database_url):
    store.add("first", RULE, PAIRS, FOUND, GIVEN)
    with pytest.raises(DataError, match=r"'first' is stored with other pairs \(2; now 1\)"):
        store.add("first", RULE, PAIRS.slice(1), FOUND, GIVEN)
    assert n_rows(database_url) == [1, 2, 5, 4, 2]


def test_runs_of_a_user_and_forgetting_a_run(store, database_url):
    store.add("first", RULE, PAIRS, FOUND, GIVEN)
    store.add("second", RULE, PAIRS.filter(pa.compute.equal(PAIRS["user_id"], "u2")), FOUND, GIVEN)
    assert [store.runs_of(user) for user in ("u1", "u2", "u3")] == [["first"], ["first", "second"], []]
    assert store.forget("first")
    assert [store.runs_of(user) for user in ("u1", "u2", "u3")] == [[], ["second"], []]
    assert store.forget("second")
    assert not store.forget("second")
    assert n_rows(database_url) == [0, 0, 0, 0, 0]


def test_a_run_without_pairs(store):
    assert store.add("none", RULE, PAIRS.slice(0, 0), FOUND, GIVEN) == 0
    assert store.pairs("none").equals(PAIRS.slice(0, 0))
    with pytest.raises(DataError, match="No run 'nobody' is stored"):
        store.pairs("nobody")


@pytest.mark.parametrize(
    ("found", "given"), [(FOUND.slice(1), GIVEN), (FOUND, GIVEN.slice(0, 2))], ids=["candidate", "reward"]
)
def test_pairs_of_unknown_origin_are_refused(store, database_url, found, given):
    with pytest.raises(DataError, match=r"of 2 pairs have a .*_id without a candidate and a reward"):
        store.add("first", RULE, PAIRS, found, given)
    assert n_rows(database_url) == [0, 0, 0, 0, 0]


def test_many_may_store_the_same_run_at_once(database_url):
    added: list[int] = []

    def work() -> None:
        added.append(PairStore(database_url).add("first", RULE, PAIRS, FOUND, GIVEN))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [0, 0, 0, 2]


def test_the_migrations_make_the_declared_schema(store, database_url):
    with sa.create_engine(sa.make_url(database_url)).connect() as connection:
        options = {"version_table": t.SCHEMA.version_table}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), t.metadata) == []
    config = Config()
    config.set_main_option("script_location", t.SCHEMA.migrations)
    assert ScriptDirectory.from_config(config).get_heads() == [t.SCHEMA.revision]


def test_the_ledger_may_live_in_the_same_database(store, database_url):
    Ledger(database_url).plan(["key"])
    store.add("first", RULE, PAIRS, FOUND, GIVEN)
    assert Ledger(database_url).counts() == {"planned": 1}


def test_a_newer_database_is_refused(store, database_url):
    with sa.create_engine(sa.make_url(database_url)).begin() as connection:
        connection.exec_driver_sql(f"UPDATE {t.SCHEMA.version_table} SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=r"The alignment database .* has schema 9999"):
        PairStore(database_url)


def test_a_file_that_is_no_database_is_not_to_be_thrown_away(tmp_path):
    (tmp_path / "alignment.db").write_text("no database at all " * 100)
    with pytest.raises(DatabaseError, match="Restore it from a backup"):
        PairStore(f"sqlite:///{tmp_path}/alignment.db")
