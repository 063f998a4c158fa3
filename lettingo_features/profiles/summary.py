"""What a generator is told about a window: one row of counts, titles and newest interactions per (cutoff, user).

Both generators read this row as a plain dict (``SUMMARY`` less ``cutoff`` and ``user_id``), so the language model and
the statistical baseline see exactly the same facts. An example, as ``summaries`` yields it::

    {"n_interactions": 24, "mean_rating": 3.7, "span_days": 118.0,
     "top_categories": [{"name": "Thriller", "n": 11, "liked": 8, "disliked": 1}, ...],
     "lowest_category": {"name": "Horror", "n": 3, "liked": 0, "disliked": 3},
     "loved_titles": ["The Silent Harbour", ...], "disliked_titles": ["Night of the Crow"],
     "newest": [{"title": "Glass River", "category": "Thriller", "sentiment": "liked"}, ...],
     "years": [2013, 1994], "tone": "generous"}

Titles and category names are raw catalogue text: clean them (``generation.untrusted``) before they meet a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from lettingo_features import columns as c
from lettingo_features.config import Config

if TYPE_CHECKING:
    import duckdb

SENTIMENTS = ("liked", "neutral", "disliked", "engaged")
TONES = ("generous", "balanced", "critical", "unrated")
RATING_SCALES = (1.0, 5.0, 10.0, 100.0)
YEAR_AT_END = r"\s*\(((?:18|19|20)\d\d)\)$"
"""A year that ends a title, as films and books have them: read by DuckDB's RE2 and by Python's re."""

CATEGORY_COUNT = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("n", pa.int64()),  # interactions of the window with an item of this category
        pa.field("liked", pa.int64()),
        pa.field("disliked", pa.int64()),
    ]
)

NEWEST = pa.struct(
    [
        pa.field("title", pa.string()),  # '' for an item without title or outside the catalogue
        pa.field("category", pa.string()),  # first category of the item, or ''
        pa.field("sentiment", pa.string()),  # one of SENTIMENTS
    ]
)

SUMMARY = pa.schema(
    [
        pa.field(c.CUTOFF, c.TIMESTAMP),
        pa.field(c.USER_ID, pa.string()),
        pa.field(c.N_INTERACTIONS, pa.int64()),
        pa.field("mean_rating", pa.float32()),  # on the data's own scale; null when nothing is rated
        pa.field("span_days", pa.float32()),  # first to last interaction of the window
        pa.field("top_categories", pa.list_(CATEGORY_COUNT)),  # strongest first
        pa.field("lowest_category", CATEGORY_COUNT),  # null when no category is mostly disliked
        pa.field("loved_titles", c.STRINGS),  # liked, highest rating first, then newest
        pa.field("disliked_titles", c.STRINGS),  # lowest rating first, then newest
        pa.field("newest", pa.list_(NEWEST)),  # newest first
        pa.field("years", pa.list_(pa.int64())),  # of titles that end with one, "Heat (1995)": strongest first
        pa.field("tone", pa.string()),  # one of TONES
    ]
)


class SummaryConfig(Config):
    """What is kept of a window, and where a rating turns from disliked to neutral to liked."""

    rating_max: float = Field(gt=0)
    """Top of the rating scale (see `rating_scale`); thresholds below are shares of it, so scales compare."""
    n_newest: int = Field(default=6, ge=1)
    """Newest interactions listed one by one; a tiny model copies from few lines, not from thirty."""
    n_top: int = Field(default=4, ge=1)
    """Strongest categories listed; the synthetic world gives a user at most four interests."""
    n_titles: int = Field(default=3, ge=0)
    """Loved and disliked titles listed, each."""
    n_years: int = Field(default=2, ge=0)
    """Years of titles listed."""
    liked_from: float = 0.8
    """Share of rating_max from which a rating is a like: 4 of 5 (LettinGo publishes no mapping)."""
    disliked_below: float = 0.6
    """Share of rating_max below which a rating is a dislike: under 3 of 5. Between the two it is neutral."""
    generous_from: float = 0.7
    """Share of rated interactions that are liked from which a user's tone is generous."""
    critical_from: float = 0.3
    """Share of rated interactions that are disliked from which, short of generous, the tone is critical."""


def rating_scale(connection: duckdb.DuckDBPyConnection, interactions_sql: str) -> float:
    """Top of the rating scale: the smallest of 1, 5, 10 and 100 that holds every rating; 5 when nothing is rated.

    Call it once over all interactions and keep the answer, so that every window is read on one scale.
    """
    ((top,),) = connection.execute(f"SELECT max(rating) FROM {interactions_sql}").fetchall()
    if top is None:
        return 5.0
    return next((scale for scale in RATING_SCALES if top <= scale), RATING_SCALES[-1])


def summarise(
    connection: duckdb.DuckDBPyConnection, items_sql: str, config: SummaryConfig, batch_size: int = 10_000
) -> pa.RecordBatchReader:
    """One `SUMMARY` row per (cutoff, user) of the table ``windows``, ordered by (cutoff, user_id).

    Categories are ordered by ``n + liked - disliked``, ties by ``liked - disliked``, then by name: presence counts
    once, a like doubles it and a dislike takes it back, so what a user often met and disliked does not pass for an
    interest. An item counts once in each of its categories. ``lowest_category`` is the most disliked of the categories
    met at least twice and disliked more often than not; the first of ``top_categories`` never qualifies. ``years`` are
    ordered as categories are, ties by the later year; one that was disliked as often as met is none of them.

    Parameters
    ----------
    connection
        Session that holds ``windows`` (see `windows.create_windows`).
    items_sql
        What to read items FROM: item_id, title, categories list<string>; a column that it lacks reads as null. Of an
        item with several rows the one with the newest created_timestamp counts. Items that it lacks keep an empty
        title; ``(SELECT NULL)`` stands for no catalogue at all.
    batch_size
        Rows per batch of the reader.

    Returns
    -------
    pa.RecordBatchReader
        Schema `SUMMARY`. Read it to its end before the next query on ``connection``.
    """
    reader = connection.sql(_query(items_sql, config)).to_arrow_reader(batch_size)
    batches = (
        pa.RecordBatch.from_struct_array(batch.to_struct_array().cast(pa.struct(list(SUMMARY)))) for batch in reader
    )
    return pa.RecordBatchReader.from_batches(SUMMARY, batches)


def summaries(batch: pa.RecordBatch | pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """(user_id, summary dict) of each row of ``batch``; the dict holds neither the user nor the cutoff."""
    facts = batch.drop_columns([c.CUTOFF, c.USER_ID]).to_pylist()
    return zip(batch.column(c.USER_ID).to_pylist(), facts, strict=True)


def seen_sql(items_sql: str, config: SummaryConfig) -> str:
    """Common table expressions that end with ``seen``: each row of ``windows`` with what its item is and how it went.

    ``seen`` has cutoff, user_id, item_id, event_timestamp, position, segment, rating (double), title ('' for none),
    categories (list, without empty names) and sentiment (one of `SENTIMENTS`). See `summarise` for ``items_sql``.
    """
    return f"""versions AS (  -- the union adds, as nulls, whichever of these columns the items lack
        SELECT * FROM {items_sql}
        UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS item_id, CAST(NULL AS VARCHAR) AS title,
            CAST(NULL AS VARCHAR[]) AS categories, CAST(NULL AS TIMESTAMPTZ) AS created_timestamp WHERE false
    ), catalogue AS (
        SELECT item_id, title, categories FROM versions
        QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY created_timestamp DESC NULLS LAST, title) = 1
    ), seen AS (
        SELECT w.cutoff, w.user_id, w.item_id, w.event_timestamp, w.position, w.segment,
            CAST(w.rating AS DOUBLE) AS rating, coalesce(i.title, '') AS title,
            list_filter(coalesce(i.categories, []), lambda name: name <> '') AS categories,
            CASE WHEN w.rating IS NULL THEN 'engaged'
                WHEN CAST(w.rating AS DOUBLE) / {config.rating_max} >= {config.liked_from} THEN 'liked'
                WHEN CAST(w.rating AS DOUBLE) / {config.rating_max} < {config.disliked_below} THEN 'disliked'
                ELSE 'neutral' END AS sentiment
        FROM windows w LEFT JOIN catalogue i USING (item_id)
    )"""


def _query(items_sql: str, config: SummaryConfig) -> str:
    return f"""
    WITH {seen_sql(items_sql, config)}, counted AS (
        SELECT cutoff, user_id, name, count(*) AS n,
            count(*) FILTER (sentiment = 'liked') AS liked, count(*) FILTER (sentiment = 'disliked') AS disliked
        FROM (SELECT cutoff, user_id, sentiment, unnest(list_distinct(categories)) AS name FROM seen)
        GROUP BY cutoff, user_id, name
    ), ranked AS (
        SELECT cutoff, user_id,
            list({{name: name, n: n, liked: liked, disliked: disliked}}
                ORDER BY n + liked - disliked DESC, liked - disliked DESC, name) AS names
        FROM counted GROUP BY cutoff, user_id
    ), dated AS (
        SELECT cutoff, user_id, year, count(*) AS n,
            count(*) FILTER (sentiment = 'liked') - count(*) FILTER (sentiment = 'disliked') AS balance
        FROM (SELECT cutoff, user_id, sentiment, try_cast(regexp_extract(title, '{YEAR_AT_END}', 1) AS BIGINT) AS year
            FROM seen)
        WHERE year IS NOT NULL GROUP BY cutoff, user_id, year
    ), strongest AS (
        SELECT cutoff, user_id, list(year ORDER BY n + balance DESC, balance DESC, year DESC) AS years
        FROM dated WHERE n + balance > 0 GROUP BY cutoff, user_id
    ), users AS (
        SELECT cutoff, user_id, count(*) AS n_interactions, avg(rating) AS mean_rating,
            (epoch_us(max(event_timestamp)) - epoch_us(min(event_timestamp))) / 86400e6 AS span_days,
            list(title ORDER BY rating DESC, position) FILTER (sentiment = 'liked' AND title <> '') AS loved,
            list(title ORDER BY rating, position) FILTER (sentiment = 'disliked' AND title <> '') AS disliked,
            list({{title: title, category: coalesce(categories[1], ''), sentiment: sentiment}}
                ORDER BY position) AS newest,
            count(rating) AS n_rated,
            count(*) FILTER (sentiment = 'liked') / count(rating) AS liked_share,
            count(*) FILTER (sentiment = 'disliked') / count(rating) AS disliked_share
        FROM seen GROUP BY cutoff, user_id
    )
    SELECT cutoff, user_id, n_interactions, mean_rating, span_days,
        coalesce(names[1:{config.n_top}], []) AS top_categories,
        list_sort(list_transform(
            list_filter(names[2:], lambda x: x.n >= 2 AND 2 * x.disliked > x.n),
            lambda x: {{balance: x.liked - x.disliked, name: x.name, entry: x}}))[1].entry AS lowest_category,
        coalesce(loved[1:{config.n_titles}], []) AS loved_titles,
        coalesce(disliked[1:{config.n_titles}], []) AS disliked_titles,
        newest[1:{config.n_newest}] AS newest,
        coalesce(years[1:{config.n_years}], []) AS years,
        CASE WHEN n_rated = 0 THEN 'unrated'
            WHEN liked_share >= {config.generous_from} THEN 'generous'
            WHEN disliked_share >= {config.critical_from} THEN 'critical'
            ELSE 'balanced' END AS tone
    FROM users LEFT JOIN ranked USING (cutoff, user_id) LEFT JOIN strongest USING (cutoff, user_id)
    ORDER BY cutoff, user_id
    """
