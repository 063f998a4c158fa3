"""Rule 3 on literal rows: source_max_ts < cutoff_at <= published_at <= label timestamp."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lettingo_features.certificate import check_families, content_sha256
from lettingo_features.columns import EVENT_TIMESTAMP, PROFILE_PROVENANCE, TIMESTAMP, USER_ID
from lettingo_features.errors import DataError, LeakageError

LABEL = datetime(2026, 2, 1, tzinfo=UTC)
US, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
GOOD = (LABEL - 9 * DAY, LABEL - 8 * DAY, LABEL - 7 * DAY)


def rows(*provenance: tuple[datetime | None, datetime | None, datetime | None]) -> pa.Table:
    source, cutoff, published = zip(*provenance, strict=True)
    columns = {
        USER_ID: [f"u{index}" for index in range(len(provenance))],
        EVENT_TIMESTAMP: pa.array([LABEL] * len(provenance), TIMESTAMP),
        PROFILE_PROVENANCE.source_max_ts: pa.array(source, TIMESTAMP),
        PROFILE_PROVENANCE.cutoff_at: pa.array(cutoff, TIMESTAMP),
        PROFILE_PROVENANCE.published_at: pa.array(published, TIMESTAMP),
    }
    return pa.table(columns)


PASSES = [  # source             cutoff       published
    pytest.param((LABEL - 9 * DAY, LABEL - DAY, LABEL - HOUR), id="well before"),
    pytest.param((LABEL - US, LABEL, LABEL), id="source one microsecond before a cutoff published at the label"),
    pytest.param((LABEL - DAY, LABEL - HOUR, LABEL - HOUR), id="published at its cutoff"),
    pytest.param((None, None, None), id="no value: nothing was published in time"),
]
FAILS = [
    pytest.param((LABEL - HOUR, LABEL - HOUR, LABEL), "source_max_ts < cutoff_at", id="source at the cutoff"),
    pytest.param((LABEL - DAY, LABEL - HOUR, LABEL - 2 * HOUR), "cutoff_at <= published_at", id="published before"),
    pytest.param((LABEL - DAY, LABEL - HOUR, LABEL + US), "published_at <= label timestamp", id="published after"),
    pytest.param((LABEL - DAY, None, LABEL - HOUR), "only some of", id="cutoff unknown"),
]


@pytest.mark.parametrize("provenance", PASSES)
def test_rows_that_keep_the_rule_pass(provenance):
    (check,) = check_families(rows(GOOD, provenance))
    assert check.violations == 0
    assert check.rows_with_value + check.rows_without_value == 2


@pytest.mark.parametrize(("provenance", "says"), FAILS)
def test_one_bad_row_among_good_ones_is_an_error_that_says_what_and_who(provenance, says):
    with pytest.raises(LeakageError) as raised:
        check_families(rows(GOOD, provenance, GOOD))
    message = str(raised.value)
    assert says in message
    assert "1 of 3 training rows" in message
    assert "only some" in message or "u1" in message  # the worst row is named
    assert "lettingo profiles backfill" in message  # the next step


def test_worst_margins_are_the_smallest_over_all_rows():
    (check,) = check_families(rows(GOOD, (LABEL - DAY, LABEL - HOUR, LABEL - 0.5 * HOUR)))
    assert check.worst_label_margin_s == 1_800
    assert check.worst_source_margin_s == 23 * 3_600


def test_a_table_that_can_prove_nothing_is_refused():
    table = rows(GOOD)
    with pytest.raises(DataError, match="no provenance columns"):
        check_families(table.select([USER_ID, EVENT_TIMESTAMP]))
    with pytest.raises(DataError, match="published_at: nothing can be proved"):
        check_families(table.drop_columns([PROFILE_PROVENANCE.published_at]))


def test_content_hash_sees_values_order_and_types_but_not_chunks():
    table = pa.table({"a": [1, 2, 3], "b": [[1.0], None, []]})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    same = content_sha256(table)
    assert content_sha256(chunked) == same
    assert content_sha256(table.slice(1)) != same
    assert content_sha256(table.take([1, 0, 2])) != same
    assert content_sha256(table.set_column(0, "a", pa.array([1, 2, 4]))) != same
    assert content_sha256(table.set_column(0, "a", table["a"].cast(pa.int32()))) != same
