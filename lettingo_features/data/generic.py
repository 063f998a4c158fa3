"""Layout of a generic Parquet or delimited file, from its columns and a mapping."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.data.formats import (
    INTERACTIONS_TABLE,
    ITEMS_TABLE,
    Layout,
    interaction_fields,
    item_fields,
    split_categories,
)
from lettingo_features.data.mapping import INTERACTION_ROLES, ITEM_ROLES, ColumnMapping
from lettingo_features.data.readers import head, readable
from lettingo_features.errors import FormatError
from lettingo_features.sql import quote

PARQUET_SUFFIXES = (".parquet", ".pq")
_NEEDED = {INTERACTION_ROLES: ("user_id", "item_id", "timestamp"), ITEM_ROLES: ("item_key", "title")}


def is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET_SUFFIXES)


def table_layout(path: Path, mapping: ColumnMapping, *, required: bool) -> Layout | None:
    """Layout of one file; None where it has not the columns of either table and need not.

    Raises
    ------
    FormatError
        A column is absent though ``required``, or holds the wrong type.
    """
    schema = _schema(path, mapping)
    names = schema.names
    is_items = mapping.user_id not in names and mapping.title in names
    roles = ITEM_ROLES if is_items else INTERACTION_ROLES
    wanted = {role: mapping.column(role, names) for role in roles}
    must = {*_NEEDED[roles], *(role for role in roles if role in mapping.model_fields_set)}
    absent = [name for role, name in wanted.items() if role in must and name not in names]
    if absent and required:
        raise FormatError(
            f"{path} has no column {', '.join(map(repr, absent))} (found: {', '.join(names)}). "
            "Name the columns that hold them in a mapping."
        )
    if absent:
        return None
    _check_types(path, schema, wanted)
    columns = {role: name for role, name in wanted.items() if name in names}
    return Layout(
        format="table",
        table=ITEMS_TABLE if is_items else INTERACTIONS_TABLE,
        stem=".*",
        reader="parquet" if is_parquet(path) else "csv",
        columns=tuple(dict.fromkeys(columns.values())),
        fields=_item_fields(columns, schema, mapping) if is_items else _interaction_fields(columns),
        separator=mapping.delimiter,
        rating_scale=mapping.rating_scale,
        timestamp_unit=mapping.timestamp_unit,
    )


def _schema(path: Path, mapping: ColumnMapping) -> pa.Schema:
    if is_parquet(path):
        with readable(path):
            return pq.read_schema(path)
    header = next(csv.reader(head(path)[:1], delimiter=mapping.delimiter))
    return pa.schema([(name, pa.string()) for name in header])


def _interaction_fields(columns: dict[str, str]) -> dict[str, str]:
    def text(role: str) -> str:
        return f"CAST({quote(columns[role])} AS VARCHAR)" if role in columns else "NULL::VARCHAR"

    return interaction_fields(columns["user_id"], columns["item_id"], columns["timestamp"]) | {
        "user_id": text("user_id"),
        "item_id": text("item_id"),
        "timestamp_text": text("timestamp"),
        "rating_text": text("rating"),
        "event_type": f"coalesce(nullif({text('event_type')}, ''), 'rating')",
        "review_text": text("review_text"),
    }


def _item_fields(columns: dict[str, str], schema: pa.Schema, mapping: ColumnMapping) -> dict[str, str]:
    categories, description = "[]::VARCHAR[]", "NULL::VARCHAR"
    if "categories" in columns:
        name = quote(columns["categories"])
        is_list = _is_list(schema.field(columns["categories"]).type)
        categories = f"CAST({name} AS VARCHAR[])" if is_list else split_categories(name, mapping.separator)
    if "description" in columns:
        description = f"nullif({quote(columns['description'])}, '')"
    fields = item_fields(columns["item_key"], columns["title"], categories, description)
    return fields | {"item_id": f"CAST({quote(columns['item_key'])} AS VARCHAR)"}


def _check_types(path: Path, schema: pa.Schema, wanted: dict[str, str]) -> None:
    for role, name in wanted.items():
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        tests, what = _TYPES[role]
        if not any(test(kind) for test in tests):
            raise FormatError(
                f"{path}: column {name!r} is of the wrong type ({kind}); it must hold {what}. Convert the column, or "
                "map another one. Ids that passed through floats have lost digits and zeros: go back to their source."
            )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


_ID = ((_is_text, pa.types.is_integer), "text or integers")
_NUMBERS = (_is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_TEXT = ((_is_text,), "text")
_TYPES = {
    "user_id": _ID,
    "item_id": _ID,
    "item_key": _ID,
    "timestamp": ((*_NUMBERS, pa.types.is_timestamp, pa.types.is_date), "times"),
    "rating": (_NUMBERS, "numbers"),
    "event_type": _TEXT,
    "review_text": _TEXT,
    "title": _TEXT,
    "categories": ((_is_text, _is_list), "text or a list"),
    "description": _TEXT,
}
