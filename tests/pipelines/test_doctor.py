"""What the doctor says of tables and views."""

from __future__ import annotations

import pytest

from pipelines.doctor import _without_view

CASES = [  # tables of the home, applied views, tables that a view should read
    ({"items", "user_profile_text_v1"}, {"user_profile_text_v1"}, []),  # items are joined as they are
    ({"user_profile_claims_v1", "user_profile_text_v1"}, {"user_profile_text_v1"}, []),  # claims are for people
    ({"user_profile_text_v2", "b", "a"}, {"user_profile_text_v1"}, ["a", "b", "user_profile_text_v2"]),
]


@pytest.mark.parametrize(("tables", "views", "missing"), CASES)
def test_tables_that_no_view_reads(tables, views, missing):
    assert _without_view(tables, views) == missing
