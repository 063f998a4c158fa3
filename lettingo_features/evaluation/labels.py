"""Training and test labels of a time split, and a count of everything that they leave out.

Every question about a label looks strictly before the label's instant: an item is *available* once somebody has
interacted with it, a user's *seen* items are those of earlier interactions, and a user without any earlier
interaction is *cold*. Seen, unavailable and cold positives are counted, never ranked. Negatives of the training
labels avoid whatever their user touches before ``test_start`` and never look beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lettingo_features.columns import TIMESTAMP
from lettingo_features.errors import DataError
from lettingo_features.evaluation.splits import Split, SplitConfig

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUERY_ID = "query_id"
LABEL = "label"

TRAIN_LABELS = pa.schema(
    [
        pa.field(QUERY_ID, pa.int64()),
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("event_timestamp", TIMESTAMP),
        pa.field(LABEL, pa.int64()),  # 1 = the positive, 0 = a sampled negative
    ]
)

_OVERSAMPLE = 4  # draws per negative kept: some draws hit seen items or repeat


@dataclass(frozen=True)
class TrainLabels:
    """``rows`` (``TRAIN_LABELS``, in order of query and item id, which tells nothing of the label) and ``counts``."""

    rows: pa.Table
    counts: dict[str, int]


@dataclass(frozen=True)
class TestLabels:
    """What the test asks, and what it had to leave out.

    Attributes
    ----------
    users : pa.Table
        ``user_id``, ``event_timestamp`` (= ``test_start``), ``n_before`` (int64, interactions before ``test_start``):
        one row per test user, the entity rows of the retrieval.
    items : pa.Table
        ``item_id``, ``event_timestamp`` (= ``test_start``): every item available at ``test_start``, the candidates.
    relevant : pa.Table
        ``user_id``, ``item_id``: what each test user liked in the test period, available and not seen before.
    counts : dict of str to int
        Positives and users that could not be ranked, by reason, and the size of the sample.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    users: pa.Table
    items: pa.Table
    relevant: pa.Table
    counts: dict[str, int]


# One row per liked (user, item) of the period, with what was known before it. $split separates "before" from the
# period for the test; for training each positive has its own instant, hence the comparisons with event_timestamp.
_POSITIVES = """
    WITH past AS (SELECT user_id, item_id, event_timestamp FROM {interactions} WHERE event_timestamp < $test_start),
    user_first AS (SELECT user_id, min(event_timestamp) AS user_first FROM past GROUP BY user_id),
    item_first AS (SELECT item_id, min(event_timestamp) AS item_first FROM past GROUP BY item_id),
    pair_first AS (SELECT user_id, item_id, min(event_timestamp) AS pair_first FROM past GROUP BY user_id, item_id),
    liked AS (
        SELECT user_id, item_id, {instant} AS event_timestamp FROM {interactions}
        WHERE {period} AND (rating IS NULL OR rating >= $threshold) GROUP BY ALL)
    SELECT user_id, item_id, event_timestamp, coalesce(pair_first < event_timestamp, false) AS seen,
           coalesce(user_first < event_timestamp, false) AS warm,
           coalesce(item_first < event_timestamp, false) AS available
    FROM liked LEFT JOIN user_first USING (user_id) LEFT JOIN item_first USING (item_id)
               LEFT JOIN pair_first USING (user_id, item_id)
"""
_RANKABLE = "warm AND available AND NOT seen"
_COUNTS = f"""
    SELECT count(*), count(*) FILTER (seen), count(*) FILTER (NOT warm), count(*) FILTER (warm AND NOT available),
           count(*) FILTER ({_RANKABLE}), count(DISTINCT user_id) FILTER (NOT warm),
           count(DISTINCT user_id) FILTER ({_RANKABLE}) FROM positives
"""
_COUNT_NAMES = ("positives", "seen_before", "of_cold_users", "of_new_items", "rankable", "cold_users", "rankable_users")


def train_labels(
    connection: DuckDBPyConnection, interactions_sql: str, split: Split, config: SplitConfig
) -> TrainLabels:
    """One query per positive in ``[train_start, test_start)``: that item and up to ``config.negatives`` others.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Session in UTC; temporary table ``positives`` is replaced.
    interactions_sql : str
        Anything that may stand after FROM, with the columns of ``columns.INTERACTIONS``.
    split : Split
    config : SplitConfig

    Raises
    ------
    DataError
        If no positive of the period can be ranked.
    """
    counts = _find_positives(
        connection,
        interactions_sql,
        split,
        config,
        instant="event_timestamp",
        period="event_timestamp >= $train_start AND event_timestamp < $test_start",
    )
    positives = connection.sql(
        f"""SELECT user_id, item_id, event_timestamp, epoch_us(event_timestamp) AS instant FROM
              (SELECT * FROM positives WHERE {_RANKABLE}
               ORDER BY md5(concat_ws('|', $seed, user_id, item_id, epoch_us(event_timestamp))) LIMIT $cap)
            ORDER BY event_timestamp, user_id, item_id""",
        params={"seed": str(config.seed), "cap": config.max_queries},
    ).to_arrow_table()
    query, item_ids = _draw_negatives(connection, interactions_sql, split, config, positives)
    n_positives = positives.num_rows
    rows = pa.concat_tables([positives, positives.take(query).set_column(1, "item_id", item_ids)])
    rows = rows.append_column(QUERY_ID, pa.array(np.concatenate([np.arange(n_positives), query]).astype(np.int64)))
    rows = rows.append_column(LABEL, pa.array((np.arange(rows.num_rows) < n_positives).astype(np.int64)))
    rows = rows.select(TRAIN_LABELS.names).cast(TRAIN_LABELS)
    return TrainLabels(
        rows=rows.sort_by([(QUERY_ID, "ascending"), ("item_id", "ascending")]),
        counts={**{f"train_{name}": n for name, n in counts.items()}, "train_queries": n_positives},
    )


def test_labels(connection: DuckDBPyConnection, interactions_sql: str, split: Split, config: SplitConfig) -> TestLabels:
    """One query per test user, asked at ``test_start`` about the whole test period ``[test_start, end]``.

    Parameters and errors are those of ``train_labels``.
    """
    counts = _find_positives(
        connection, interactions_sql, split, config, instant="$test_start", period="event_timestamp >= $test_start"
    )
    sample = {"seed": str(config.seed), "cap": config.max_test_users}
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE test_users AS
            SELECT DISTINCT user_id, md5(concat_ws('|', $seed, user_id)) AS draw FROM positives
            WHERE {_RANKABLE} ORDER BY draw LIMIT $cap""",
        sample,
    )
    at = {"test_start": split.test_start}
    users = connection.sql(
        f"""SELECT user_id, $test_start AS event_timestamp, count(*) AS n_before
            FROM {interactions_sql} SEMI JOIN test_users USING (user_id)
            WHERE event_timestamp < $test_start GROUP BY user_id ORDER BY user_id""",
        params=at,
    ).to_arrow_table()
    items = connection.sql(
        f"""SELECT DISTINCT item_id, $test_start AS event_timestamp FROM {interactions_sql}
            WHERE event_timestamp < $test_start ORDER BY item_id""",
        params=at,
    ).to_arrow_table()
    relevant = connection.sql(
        f"""SELECT user_id, item_id FROM positives SEMI JOIN test_users USING (user_id)
            WHERE {_RANKABLE} ORDER BY user_id, item_id"""
    ).to_arrow_table()
    counts = {f"test_{name}": n for name, n in counts.items()}
    return TestLabels(users, items, relevant, {**counts, "test_users": users.num_rows})


test_labels.__test__ = False  # not a test either


def _find_positives(
    connection: DuckDBPyConnection,
    interactions_sql: str,
    split: Split,
    config: SplitConfig,
    *,
    instant: str,
    period: str,
) -> dict[str, int]:
    """Fill temporary table ``positives`` for one period; count it by reason."""
    top = config.rating_max
    if top is None:
        [(top,)] = connection.execute(f"SELECT coalesce(max(rating), 0) FROM {interactions_sql}").fetchall()
    query = _POSITIVES.format(interactions=interactions_sql, instant=instant, period=period)
    parameters = {"test_start": split.test_start, "threshold": config.positive_share * top}
    if "$train_start" in query:
        parameters["train_start"] = split.train_start
    connection.execute(f"CREATE OR REPLACE TEMP TABLE positives AS {query}", parameters)
    counts = dict(zip(_COUNT_NAMES, connection.execute(_COUNTS).fetchall()[0], strict=True))
    if not counts["rankable"]:
        raise DataError(
            f"None of {counts['positives']} positives ({period}; {split}) can be ranked: {counts}. "
            "Bring a longer history, or lower positive_share."
        )
    return counts


def _draw_negatives(
    connection: DuckDBPyConnection, interactions_sql: str, split: Split, config: SplitConfig, positives: pa.Table
) -> tuple[np.ndarray, pa.Array]:
    """Negatives as (row of ``positives``, item id), a mixture of uniform and popular items of before each instant.

    Items are numbered by first sight, so those available at an instant are a prefix, and a uniform draw is an index
    below its length; likewise an index into the events before the instant draws an item by its popularity.
    """
    at = {"test_start": split.test_start}
    past = f"(SELECT * FROM {interactions_sql} WHERE event_timestamp < $test_start)"
    items = connection.sql(
        f"""SELECT item_id, epoch_us(min(event_timestamp)) AS first_seen FROM {past}
            GROUP BY item_id ORDER BY first_seen, item_id""",
        params=at,
    ).to_arrow_table()
    connection.register("numbered_items", items.append_column("item", pa.array(np.arange(items.num_rows))))
    connection.register("query_rows", positives)
    events = connection.sql(
        f"""SELECT item, epoch_us(event_timestamp) AS instant FROM {past} JOIN numbered_items USING (item_id)
            ORDER BY instant, user_id, item""",
        params=at,
    ).fetchnumpy()
    seen = connection.sql(
        f"""SELECT DISTINCT user_id, item FROM {past} JOIN numbered_items USING (item_id)
            WHERE user_id IN (SELECT user_id FROM query_rows)""",
        params=at,
    ).to_arrow_table()
    connection.unregister("numbered_items")
    connection.unregister("query_rows")

    instants = positives["instant"].to_numpy()
    n_available = np.searchsorted(items["first_seen"].to_numpy(), instants, side="left")
    n_events = np.searchsorted(events["instant"], instants, side="left")
    draws = _uniform_draws(positives, config)  # (Q, 2, D)
    uniform = (draws[:, 1] * n_available[:, None]).astype(np.int64)
    popular = events["item"][(draws[:, 1] * n_events[:, None]).astype(np.int64)]
    drawn = np.where(draws[:, 0] < config.popular_share, popular, uniform)  # (Q, D) item numbers

    users = pa.concat_arrays([*seen["user_id"].chunks, *positives["user_id"].chunks]).dictionary_encode()
    user = users.indices.to_numpy().astype(np.int64)
    seen_pairs = user[: seen.num_rows] * items.num_rows + seen["item"].to_numpy()
    fresh = ~np.isin(user[seen.num_rows :, None] * items.num_rows + drawn, seen_pairs)
    fresh &= _first_in_row(drawn)
    fresh &= np.cumsum(fresh, axis=1) <= config.negatives
    query, column = np.nonzero(fresh)
    return query, items["item_id"].combine_chunks().take(pa.array(drawn[query, column]))


def _uniform_draws(positives: pa.Table, config: SplitConfig) -> np.ndarray:
    """Draws in [0, 1), shape (Q, 2, D): each query's stream depends on the seed and on that query alone."""
    keys = zip(*(positives[name].to_pylist() for name in ("user_id", "item_id", "instant")), strict=True)
    digests = (sha256(f"{config.seed}|{user}|{item}|{instant}".encode()).digest() for user, item, instant in keys)
    shape = (2, config.negatives * _OVERSAMPLE)
    return np.stack([np.random.default_rng(int.from_bytes(digest[:16])).random(shape) for digest in digests])


def _first_in_row(values: np.ndarray) -> np.ndarray:
    """True where a value occurs for the first time in its row; shape (Q, D)."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    first = np.ones(values.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    result = np.empty_like(first)
    np.put_along_axis(result, order, first, axis=1)
    return result
