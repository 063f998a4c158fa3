"""Answers are whole or not there, come back as they went in, and are told to a ledger that does not know them."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lettingo_features.errors import LedgerError
from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.results import SCHEMA, ResultStore
from lettingo_features.home import Home

ONE = Completion('Likes "Amélie"\nand 悪魔', n_tokens=9, n_prompt_tokens=80, seconds=0.25, cost=0.0001)
TWO = Completion("cut", n_tokens=96, problem="unfinished", n_prompt_tokens=81, seconds=0.5)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(Home(tmp_path))


def test_answers_come_back_as_they_went_in(store):
    first, second = store.write([("a", ONE), ("b", TWO)]), store.write([("c", ONE)])
    assert store.names() == [first, second]
    assert store.get({"b": first, "c": second}) == {"b": TWO, "c": ONE}
    assert store.get({}) == {}
    assert pq.read_schema(store.directory / f"{first}.parquet").equals(SCHEMA)


def test_of_a_call_in_two_parts_the_named_one_counts(store):
    first, second = store.write([("a", ONE)]), store.write([("a", TWO)])
    assert [store.get({"a": part})["a"] for part in (first, second)] == [ONE, TWO]


def test_a_write_that_fails_leaves_no_file_and_says_what_to_do(store, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LedgerError, match=r"1 answers cannot be stored in .*: No space left on device. Free space"):
            store.write([("a", ONE)])
    assert list(store.directory.iterdir()) == []


def test_a_new_ledger_learns_of_all_parts_once(store, tmp_path):
    parts = [store.write([("a", ONE)]), store.write([("b", TWO)])]
    (store.directory / ".half.parquet.tmp").write_bytes(b"PAR1")  # of a killed write: nobody reads it
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    assert store.adopt_into(ledger) == 2
    assert store.adopt_into(ledger) == 0
    assert {key: call.part for key, call in ledger.look_up("ab").items()} == dict(zip("ab", parts, strict=True))


def test_an_answer_that_is_not_where_the_ledger_says_is_an_error(store):
    part = store.write([("a", ONE)])
    with pytest.raises(LedgerError, match=r"1 of 2 answers are not in the parts .*first: call b, part"):
        store.get({"a": part, "b": part})


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1 no")])
def test_a_lost_or_damaged_part_is_named(store, damage):
    part = store.write([("a", ONE)])
    damage(store.directory / f"{part}.parquet")
    with pytest.raises(LedgerError, match=rf"{part}.parquet cannot be read: .*forget_part"):
        store.get({"a": part})
