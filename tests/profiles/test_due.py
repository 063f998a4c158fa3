"""Windows that are due become requests range by range: the same ones however the range is cut."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import INTERACTIONS, ITEMS, USER_ID
from lettingo_features.home import Home
from lettingo_features.profiles import due as module
from lettingo_features.profiles.build import ProfileBuildConfig
from lettingo_features.profiles.due import find_due
from lettingo_features.profiles.summary import SummaryConfig

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CUTOFF = T0 + 30 * DAY
SUMMARY = SummaryConfig(rating_max=5.0)
USERS = ["a", "a'b", "ab", "b", "z", "ä"]  # in the order of their bytes


@pytest.fixture
def home(tmp_path) -> Home:
    """Each user has seen other items than the one before."""
    home = Home(tmp_path).create()
    ids = [f"i{k}" for k in range(12)]
    titles, genres = [f"Title {k}" for k in range(12)], [[f"Genre {k % 3}"] for k in range(12)]
    home.write_part("items", "p", pa.table([ids, titles, genres, [None] * 12, [T0] * 12], schema=ITEMS), ITEMS)
    rows = [
        (user, ids[n + k], T0 + k * DAY, T0 + k * DAY, 1.0 + k % 5, None, None)
        for n, user in enumerate(USERS)
        for k in range(6)
    ]
    columns = [list(column) for column in zip(*reversed(rows), strict=True)]
    home.write_part("interactions", "p", pa.table(columns, schema=INTERACTIONS), INTERACTIONS)
    return home


def found(home: Home, **options):
    return closing(find_due(home, ProfileBuildConfig(), SUMMARY, CUTOFF, reads_history=True, **options))


def plain(requests) -> list[tuple]:
    return [(one.user_id, one.summary, one.history.to_pylist()) for one in requests]


@pytest.mark.parametrize("at_once", [1, 4, 8_192])
def test_a_request_does_not_depend_on_its_range(home, monkeypatch, at_once):
    monkeypatch.setattr(module, "_USERS_AT_ONCE", at_once)
    with found(home) as due:
        whole = plain(due.requests(0, 6))
        assert [user for user, _, _ in whole] == due.rows[USER_ID].to_pylist() == USERS
        assert len({str(facts) for _, facts, _ in whole}) == 6
        assert plain(due.requests(0, 2)) + plain(due.requests(2, 5)) + plain(due.requests(5, 6)) == whole
        assert plain(due.sampled(np.array([0, 3, 5]))) == [whole[0], whole[3], whole[5]]
        assert due.requests(6, 6) == due.sampled(np.array([], int)) == []


def test_a_request_holds_the_titles_of_its_own_items(home):
    with found(home, users=pa.table({USER_ID: ["b"]})) as due:
        (request,) = due.requests(0, 1)
    first = USERS.index("b")
    assert [row["title"] for row in request.history.to_pylist()] == [f"Title {first + k}" for k in range(5, -1, -1)]
    assert due.rows.num_rows == 1
