"""The join against brute force on random timelines, and proof that this comparison would notice a broken join."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lettingo_features.offline_store.join import Span, ViewJoin
from lettingo_features.offline_store.retrieval import join_views
from lettingo_features.sql import connect
from tests.offline_store.feast_store import hour
from tests.offline_store.timelines import Label, Row, asking, expected, random_timeline, stored

KEYS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None]))
HOURS = st.integers(0, 8)
ROWS = st.builds(
    lambda key, event, lag, part: Row(key, event, None if lag is None or event is None else event + lag, part),
    KEYS,
    st.one_of(HOURS, HOURS, HOURS, st.none()),
    st.one_of(st.integers(-2, 5), st.just(1), st.none()),
    st.integers(0, 2),
)
LABELS = st.builds(Label, KEYS, st.one_of(st.integers(0, 14), st.integers(0, 14), st.none()))


@pytest.fixture(scope="module")
def connection():
    session = connect(threads=1)
    # As the store does: the plan for many labels, although these are few.
    session.execute("SET asof_loop_join_threshold = 0")
    yield session
    session.close()


def answers(connection: duckdb.DuckDBPyConnection, rows, labels, width, ttl, by_created) -> list[int | None]:
    with tempfile.TemporaryDirectory() as directory:
        join = stored(connection, Path(directory), rows, width, ttl, by_created)
        return join_views(connection, asking(labels), [join])["value"].to_pylist()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROWS, max_size=25),
    labels=st.lists(LABELS, min_size=1, max_size=15),
    width=st.sampled_from([0, 1, 1, 2, 2]),  # no entity, user, user and item
    ttl=st.sampled_from([0, 0, 1, 3]),
    by_created=st.booleans(),
)
def test_same_rows_as_brute_force(connection, rows, labels, width, ttl, by_created):
    want = [expected(label, rows, width, ttl, by_created) for label in labels]
    assert answers(connection, rows, labels, width, ttl, by_created) == want


# Rows whose creation keeps the order of events.
EVER = Span(1_000_000, hour(-1000), hour(1000))
TIDY = [Row(("a", 1), 1, 2, 0), Row(("a", 1), 3, 4, 0), Row(("b", 1), 3, 4, 1), Row(("a", 2), 2, 3, 1)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("rows", "ordered"),
    [
        (TIDY, True),  # constant lag
        ([*TIDY, Row(("a", 1), 5, 5, 0)], False),  # lag varies
        ([Row(("a", 1), 3, 1, 0), Row(("a", 1), 4, 4, 0)], True),  # created before the event: event decides
        ([*TIDY, Row(("a", 1), 3, 4, 1)], True),  # a tie is decided in either plan
        ([*TIDY, Row(("a", 1), None, 1, 0), Row(("a", 1), 1, None, 0)], True),  # a row without an instant is no row
        ([], True),
    ],
)
def test_order_check_decides_which_plan_is_right(connection, tmp_path, rows, ordered, exact):
    join = stored(connection, tmp_path, rows or [Row((None, 1), 1, 1, 0)], 2, 0, True)
    assert connection.sql(join.order_check(EVER, exact)).fetchall() == [(ordered,)]


# What is taken out of the SQL, whether creation is filtered in the case, and what must then go wrong.
BREAKAGES = {
    "creation does not count": ("greatest(e, c) AS v", "e AS v", True),
    "no row is removed": ("lead(v) OVER w IS DISTINCT FROM v AND e =", "true OR e =", True),
    "late backfills of old events win": (" AND e = max(e) OVER (w ROWS UNBOUNDED PRECEDING)", "", True),
    "the first of a tie wins": ("lead(v) OVER w", "lag(v) OVER w", False),
    "creation does not decide ties": ("e, c NULLS FIRST, file_index", "e, file_index", False),
    "the order of writing does not decide ties": ("file_index, file_row_number\n", "file_index DESC\n", False),
    "the label's own instant is excluded": ("l.instant >= s.v", "l.instant > s.v", False),
    "exactly ttl old is too old": ("epoch_us(s.e) <= ", "epoch_us(s.e) < ", False),
    "ttl does not count": ("CASE WHEN epoch_us", "CASE WHEN true OR epoch_us", False),
}


@pytest.mark.parametrize("name", ["nothing", *BREAKAGES])
def test_a_broken_join_is_noticed(connection, monkeypatch, name):
    before, after, by_created = BREAKAGES.get(name, ("", "", True))
    touched = []

    def break_it(method):
        def broken(self: ViewJoin, *arguments):
            sound = method(self, *arguments).replace(
                "file_index, file_row_number) QUALIFY", "file_index, file_row_number\n) QUALIFY"
            )
            touched.append(before in sound)
            return sound.replace(before, after) if before else sound

        return broken

    monkeypatch.setattr(ViewJoin, "sql", break_it(ViewJoin.sql))
    monkeypatch.setattr(ViewJoin, "ties", break_it(ViewJoin.ties))
    wrong = 0
    for seed in range(10):
        rows, labels = random_timeline(seed)
        want = [expected(label, rows, 2, 3, by_created) for label in labels]
        wrong += answers(connection, rows, labels, 2, 3, by_created) != want
    assert any(touched), f"{name}: the SQL changed, adapt the breakage"
    assert (wrong == 0) == (name == "nothing")
