"""Layouts of the public data sets: the files they consist of, and each canonical column as SQL over theirs.

Canonical columns are text until they are validated: interactions have ``user_id, item_id, timestamp_text, rating_text,
event_type, review_text``, items ``item_id, title, categories (list), description``. Titles keep their year; genres are
split at ``|``; "(no genres listed)", "unknown" and empty become an empty list. Cleaning of hostile text is the
renderer's part: here nothing is cut or dropped.

Sources: README files of MovieLens 100K, 1M and 32M (grouplens.org), sidooms/MovieTweetings, and
amazon-reviews-2023.github.io.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from lettingo_features.data.clock import Unit
from lettingo_features.data.readers import LINE, ROW, UNREADABLE, read_csv, read_lines, read_parquet, read_split
from lettingo_features.sql import literal, quote

INTERACTIONS_TABLE = "interactions"
ITEMS_TABLE = "items"
FORMATS = ("ml-100k", "ml-1m", "ml-csv", "ml-100k-profiles", "movietweetings", "amazon-2023", "table")
WIDE_ID = 7  # IMDb numbers, the ids of MovieTweetings, have at least 7 digits; no MovieLens id has

Reader = Literal["csv", "split", "jsonl", "parquet"]


@dataclass(frozen=True)
class Layout:
    """One kind of file of one format."""

    format: str
    table: str
    stem: str  # regular expression for the file's name, in lower case and without .gz
    reader: Reader
    columns: tuple[str, ...]  # with a header: those that it must hold; without: all of them, in order
    fields: dict[str, str]  # canonical column -> SQL over the columns of this file
    has_header: bool = True
    separator: str = ","
    quoted: bool = True
    encoding: str = "utf8"
    wide_ids: bool | None = None  # tells MovieTweetings from MovieLens where the files look alike otherwise
    rating_scale: tuple[float, float] | None = None  # both ends included
    timestamp_unit: Unit | None = None
    keys: tuple[str, ...] = field(default=())  # of a JSON line: all that are read, though some may be absent

    def matches_name(self, path: Path) -> bool:
        return re.fullmatch(self.stem, path.name.lower().removesuffix(".gz")) is not None

    def chunks(self, path: Path) -> Iterator[pa.Table]:
        """Raw chunks of ``path`` (see ``readers``)."""
        names = None if self.has_header else list(self.columns)
        columns = list(self.columns)
        if self.reader == "parquet":
            return read_parquet(path, columns)
        if self.reader == "jsonl":
            return read_lines(path, self.encoding)
        if self.reader == "split":
            return read_split(path, columns, separator=self.separator, encoding=self.encoding, names=columns)
        return read_csv(
            path, columns, delimiter=self.separator, quoted=self.quoted, encoding=self.encoding, names=names
        )

    def select_sql(self, chunk: str) -> str:
        """SQL that turns the raw rows of the relation ``chunk`` into canonical ones."""
        fields = ", ".join(f"{expression} AS {name}" for name, expression in self.fields.items())
        return f"SELECT {ROW}, {UNREADABLE}, {fields} FROM ({self._source_sql(chunk)})"

    def _source_sql(self, chunk: str) -> str:
        if self.reader != "jsonl":
            return f"FROM {chunk}"
        paths = ", ".join(literal(f"$.{key}") for key in self.keys)
        values = ", ".join(f"replace(v[{i}], chr(0), chr(65533)) AS {quote(k)}" for i, k in enumerate(self.keys, 1))
        return f"""
            SELECT {ROW}, CASE WHEN v IS NULL THEN {LINE} END AS {UNREADABLE}, {values} FROM (
                SELECT *, CASE WHEN json_valid({LINE}) THEN json_extract_string({LINE}, [{paths}]) END AS v
                FROM {chunk})"""


def split_categories(column: str, separator: str = "|") -> str:
    """SQL for the list of categories in the text ``column``."""
    none = "('', '(no genres listed)', 'unknown')"
    return f"list_filter(string_split(coalesce({column}, ''), {literal(separator)}), lambda c: c NOT IN {none})"


def interaction_fields(user: str, item: str, timestamp: str, rating: str = "rating", text: str = "NULL::VARCHAR"):
    """Canonical fields of a ratings file from its column names."""
    return {
        "user_id": quote(user),
        "item_id": quote(item),
        "timestamp_text": quote(timestamp),
        "rating_text": quote(rating),
        "event_type": "'rating'",
        "review_text": text,
    }


def item_fields(item: str, title: str, categories: str, description: str = "NULL::VARCHAR") -> dict[str, str]:
    """Canonical fields of an items file; ``categories`` and ``description`` are SQL."""
    return {"item_id": quote(item), "title": quote(title), "categories": categories, "description": description}


def _filled(column: str) -> str:
    return f"nullif({quote(column)}, '')"


def _json_list(column: str) -> str:
    return f"try_cast(try_cast({quote(column)} AS JSON) AS VARCHAR[])"


_GENRES_100K = (
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_ITEM_100K = ("movie_id", "title", "release_date", "video_release_date", "imdb_url", "unknown", *_GENRES_100K)
_FLAGS_100K = ", ".join(f"CASE WHEN {quote(genre)} = '1' THEN {literal(genre)} END" for genre in _GENRES_100K)
_LENS = ("userId", "movieId", "rating", "timestamp")
_LENS_ITEM = ("movieId", "title", "genres")
_REVIEW = "nullif(concat_ws(chr(10), {title}, {text}), '')"  # a review's own title says much: kept as its first line
_AMAZON_SCALE = (1.0, 5.0)
_AMAZON_META = ("parent_asin", "title", "main_category", "categories", "description")
# A description is a JSON list of paragraphs; an item outside the category tree has an empty list of categories.
_AMAZON_CATEGORIES = f"""CASE WHEN len({_json_list("categories")}) > 0 THEN {_json_list("categories")}
    WHEN {_filled("main_category")} IS NOT NULL THEN [main_category] ELSE [] END"""
_AMAZON_DESCRIPTION = f"nullif(array_to_string({_json_list('description')}, chr(10)), '')"


def _lens_pair(name: str, scale: tuple[float, float], ratings: str, movies: str, **how) -> tuple[Layout, Layout]:
    """The ratings and movies files that MovieLens and MovieTweetings share, but for reader, ids and scale."""
    fields = interaction_fields("userId", "movieId", "timestamp")
    items = item_fields("movieId", "title", split_categories("genres"))
    return (
        Layout(name, INTERACTIONS_TABLE, ratings, columns=_LENS, fields=fields, rating_scale=scale, **how),
        Layout(name, ITEMS_TABLE, movies, columns=_LENS_ITEM, fields=items, **how),
    )


_DAT = {"reader": "split", "separator": "::", "has_header": False}

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "ml-100k",
        INTERACTIONS_TABLE,
        r"u\.data",
        "csv",
        _LENS,
        interaction_fields("userId", "movieId", "timestamp"),
        has_header=False,
        separator="\t",
        quoted=False,
        rating_scale=(1, 5),
    ),
    Layout(
        "ml-100k",
        ITEMS_TABLE,
        r"u\.item",
        "csv",
        _ITEM_100K,
        item_fields("movie_id", "title", f"list_filter([{_FLAGS_100K}], lambda c: c IS NOT NULL)"),
        has_header=False,
        separator="|",
        quoted=False,
        encoding="latin-1",
    ),
    *_lens_pair("ml-1m", (1, 5), r"ratings\.dat", r"movies\.dat", encoding="latin-1", wide_ids=False, **_DAT),
    *_lens_pair("movietweetings", (0, 10), r"ratings\.dat", r"movies\.dat", wide_ids=True, **_DAT),
    *_lens_pair("ml-csv", (0.5, 5), r"ratings.*\.csv", r"movies.*\.csv", reader="csv", wide_ids=False),
    *_lens_pair("movietweetings", (0, 10), r"ratings.*\.csv", r"movies.*\.csv", reader="csv", wide_ids=True),
    Layout(
        "ml-100k-profiles",
        INTERACTIONS_TABLE,
        r"ratings.*\.csv",
        "csv",
        ("user_id", "movie_id", "rating", "timestamp"),
        interaction_fields("user_id", "movie_id", "timestamp"),
        rating_scale=(1, 5),
    ),
    Layout(
        "ml-100k-profiles",
        ITEMS_TABLE,
        r"movies.*\.csv",
        "csv",
        ("movie_id", "title", "genres", "overview"),
        item_fields("movie_id", "title", split_categories("genres"), _filled("overview")),
    ),
    Layout(
        "amazon-2023",
        ITEMS_TABLE,
        r"meta_.*\.jsonl",
        "jsonl",
        ("parent_asin", "title"),
        item_fields("parent_asin", "title", _AMAZON_CATEGORIES, _AMAZON_DESCRIPTION),
        keys=_AMAZON_META,
    ),
    Layout(
        "amazon-2023",
        INTERACTIONS_TABLE,
        r"(?!meta_).*\.jsonl",
        "jsonl",
        ("user_id", "parent_asin", "rating", "timestamp"),
        interaction_fields(
            "user_id", "parent_asin", "timestamp", text=_REVIEW.format(title=_filled("title"), text=_filled("text"))
        ),
        rating_scale=_AMAZON_SCALE,
        keys=("user_id", "parent_asin", "rating", "timestamp", "title", "text"),
    ),
    Layout(
        "amazon-2023",
        INTERACTIONS_TABLE,
        r".*\.csv",
        "csv",
        ("user_id", "parent_asin", "rating", "timestamp"),
        interaction_fields("user_id", "parent_asin", "timestamp"),
        rating_scale=_AMAZON_SCALE,
    ),
    Layout(
        "amazon-2023",
        INTERACTIONS_TABLE,
        r"reviews.*\.csv",
        "csv",
        ("user_id", "item_id", "rating", "timestamp_ms", "review_title", "review_text"),
        interaction_fields(
            "user_id",
            "item_id",
            "timestamp_ms",
            text=_REVIEW.format(title=_filled("review_title"), text=_filled("review_text")),
        ),
        rating_scale=_AMAZON_SCALE,
    ),
    Layout(
        "amazon-2023",
        ITEMS_TABLE,
        r"items.*\.csv",
        "csv",
        ("item_id", "title", "description", "details"),
        item_fields("item_id", "title", "[]::VARCHAR[]", _filled("description")),
    ),
)
