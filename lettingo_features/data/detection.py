"""Which layout a file has: by its name, its header and, where two data sets look alike, its first item id."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.data.formats import (
    FORMATS,
    INTERACTIONS_TABLE,
    ITEMS_TABLE,
    LAYOUTS,
    WIDE_ID,
    Layout,
    interaction_fields,
    item_fields,
    split_categories,
)
from lettingo_features.data.mapping import InteractionColumns, ItemColumns, TableMapping
from lettingo_features.data.readers import head, readable
from lettingo_features.errors import FormatError
from lettingo_features.sql import quote

PARQUET_SUFFIXES = (".parquet", ".pq")
DATA_SUFFIXES = (*PARQUET_SUFFIXES, ".csv", ".tsv", ".dat", ".jsonl", ".data", ".item")


def list_files(paths: Path | str | Iterable[Path | str]) -> list[Path]:
    """The files named by ``paths``: a directory stands for its files, by name; hidden ones are left out.

    Raises
    ------
    FormatError
        A path does not exist, or there is no file at all.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            files.append(path)
        else:
            raise FormatError(
                f"{path} does not exist (looked from {Path.cwd()}). Give a directory or files that hold "
                "interactions; nothing was ingested."
            )
    if not files:
        raise FormatError(f"No file in {', '.join(map(str, given))}. Give a directory that holds a data set.")
    return files


def detect(
    files: Sequence[Path], format: str | None = None, mapping: TableMapping | None = None
) -> tuple[dict[Path, Layout], list[Path]]:
    """The layout of each file, and the files that belong to no table (README, tags, links).

    Parameters
    ----------
    format : str or None
        One of ``FORMATS``; None: recognised.
    mapping : TableMapping or None
        Columns of the generic format ``table``; giving it chooses that format.

    Raises
    ------
    FormatError
        Unknown or mixed formats, an empty file, a missing column.
    """
    if format is not None and format not in FORMATS:
        raise FormatError(f"Unknown format {format!r}. Known are: {', '.join(FORMATS)}; leave it out to detect it.")
    if mapping is not None and format not in (None, "table"):
        raise FormatError(f"A column mapping goes with the format 'table', not {format!r}. Leave one of the two out.")
    chosen = "table" if mapping is not None else format
    found = {path: layout for path in files if (layout := _layout(path, chosen, mapping)) is not None}
    ignored = [path for path in files if path not in found]
    if not found:
        raise FormatError(
            f"Unknown format: none of {len(files)} files ({_names(files)}) is a table of {chosen or 'a known format'}. "
            f"Known are: {', '.join(FORMATS)}. Give the files of one of them, or name the columns in a mapping."
        )
    formats = sorted({layout.format for layout in found.values()})
    if len(formats) > 1:
        raise FormatError(
            f"{len(found)} files belong to {len(formats)} formats ({', '.join(formats)}): {_names(found)}. "
            "Ingest one at a time, naming its format or its files."
        )
    return found, ignored


def _layout(path: Path, chosen: str | None, mapping: TableMapping | None) -> Layout | None:
    """The layout of one file; None where it is of no known table."""
    plain = path.name.lower().removesuffix(".gz")
    if not plain.endswith(DATA_SUFFIXES):
        return None
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes). Copy or download it again; nothing was ingested.")
    if chosen == "table" or plain.endswith(PARQUET_SUFFIXES):
        return _table_layout(path, mapping or TableMapping(), required=chosen == "table")
    lines = head(path)
    if not lines:
        raise FormatError(
            f"{path} is empty: it holds blank lines only. Copy or download it again; nothing was ingested."
        )
    known = [one for one in LAYOUTS if chosen in (None, one.format)]
    named = [one for one in known if one.matches_name(path)]
    if chosen and not named:  # a file of any name will do once its format is named and its header agrees
        anyhow = [one for one in known if one.has_header and plain.endswith(f".{one.reader}")]
        return next((one for one in anyhow if not _missing(one, lines)), None)
    fitting = [one for one in named if not _missing(one, lines)]
    if not fitting:
        own = None if chosen else _table_layout(path, TableMapping(), required=False)
        return own or _complain(path, named, lines)
    by_ids = [one for one in fitting if one.wide_ids is None or _wide_ids(one, lines) in (None, one.wide_ids)]
    return fitting[0] if chosen else by_ids[0]


def _complain(path: Path, named: list[Layout], lines: list[str]) -> None:
    """Raise for a file whose name promises a table that its columns do not keep."""
    if not named:
        return
    nearest = min(named, key=lambda one: len(_missing(one, lines)))
    if nearest.stem.startswith((".*", "(?!")):
        return  # any name would match: it promises nothing
    missing = _missing(nearest, lines)
    raise FormatError(
        f"{path} looks like the {nearest.table} of {nearest.format}, but {len(missing)} of its columns are missing: "
        f"{', '.join(missing)} (found: {', '.join(_header(nearest, lines))}). Add them, or map the columns."
    )


def _header(layout: Layout, lines: list[str]) -> list[str]:
    if layout.reader == "jsonl":
        try:
            first = json.loads(lines[0])
        except ValueError:
            return []
        return list(first) if isinstance(first, dict) else []
    if layout.has_header:
        return next(csv.reader([lines[0]], delimiter=layout.separator))
    widest = max(len(line.split(layout.separator)) for line in lines)  # one broken line must not hide the format
    return list(layout.columns[:widest])


def _missing(layout: Layout, lines: list[str]) -> list[str]:
    header = _header(layout, lines)
    return [column for column in layout.columns if column not in header]


def _wide_ids(layout: Layout, lines: list[str]) -> bool | None:
    """Whether the first item id is as long as an IMDb number; None where no row tells."""
    header = _header(layout, lines) if layout.has_header else list(layout.columns)
    rows = [line.split(layout.separator) for line in lines[int(layout.has_header) :]]
    ids = [row[header.index("movieId")] for row in rows if len(row) >= len(header)]
    return len(ids[0]) >= WIDE_ID if ids else None


def _table_layout(path: Path, mapping: TableMapping, required: bool) -> Layout | None:
    """Layout of a generic Parquet or delimited file from the mapping; None where it fits and need not."""
    schema = _table_schema(path, mapping)
    names = schema.names
    columns: InteractionColumns | ItemColumns = mapping.interactions
    needed = [columns.user_id, columns.item_id, columns.timestamp]
    absent = _absent(columns, needed, names)
    if absent and mapping.interactions.user_id not in names:
        columns = mapping.items
        needed = [columns.item_id, columns.title]
        absent_items = _absent(columns, needed, names)
        absent = absent_items if not absent_items or columns.title in names else absent
    if absent and not required:
        return None
    if absent:
        raise FormatError(
            f"{path} has no column {', '.join(map(repr, absent))} (found: {', '.join(names)}). "
            "Name the columns that hold them in the mapping."
        )
    parquet = path.name.lower().endswith(PARQUET_SUFFIXES)
    build = _mapped_interactions if isinstance(columns, InteractionColumns) else _mapped_items
    layout = build(columns, schema, path)
    return replace(layout, reader="parquet" if parquet else "csv", separator=mapping.delimiter)


def _absent(columns: InteractionColumns | ItemColumns, needed: list[str], names: list[str]) -> list[str]:
    """Columns that must be there and are not: the needed ones, and each optional one that the mapping names."""
    settings = ("timestamp_unit", "rating_scale", "separator")
    named = [getattr(columns, key) for key in columns.model_fields_set if key not in settings]
    return [name for name in dict.fromkeys([*needed, *named]) if name not in names]


def _table_schema(path: Path, mapping: TableMapping) -> pa.Schema:
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        with readable(path):
            return pq.read_schema(path)
    lines = head(path)
    if not lines:
        raise FormatError(
            f"{path} is empty: it holds blank lines only. Copy or download it again; nothing was ingested."
        )
    header = next(csv.reader([lines[0]], delimiter=mapping.delimiter))
    return pa.schema([(name, pa.string()) for name in header])


def _mapped_interactions(columns: InteractionColumns, schema: pa.Schema, path: Path) -> Layout:
    def text(name: str, default: str = "NULL::VARCHAR") -> str:
        return f"CAST({quote(name)} AS VARCHAR)" if name in schema.names else default

    fields = interaction_fields(columns.user_id, columns.item_id, columns.timestamp, text=text(columns.review_text))
    fields |= {
        "user_id": text(columns.user_id),
        "item_id": text(columns.item_id),
        "timestamp_text": text(columns.timestamp),
        "rating_text": text(columns.rating),
        "event_type": f"coalesce(nullif({text(columns.event_type)}, ''), 'rating')",
    }
    ids, numbers = (_is_text, pa.types.is_integer), (_is_text, pa.types.is_integer, pa.types.is_floating)
    _check_types(path, schema, {columns.user_id: ids, columns.item_id: ids}, "text or integers")
    _check_types(path, schema, {columns.rating: (*numbers, pa.types.is_decimal)}, "numbers")
    _check_types(path, schema, {columns.timestamp: (*numbers, pa.types.is_temporal)}, "times")
    used = [
        columns.user_id,
        columns.item_id,
        columns.timestamp,
        columns.rating,
        columns.event_type,
        columns.review_text,
    ]
    return Layout(
        "table",
        INTERACTIONS_TABLE,
        ".*",
        "csv",
        tuple(name for name in used if name in schema.names),
        fields,
        rating_scale=columns.rating_scale,
        timestamp_unit=columns.timestamp_unit,
    )


def _mapped_items(columns: ItemColumns, schema: pa.Schema, path: Path) -> Layout:
    _check_types(path, schema, {columns.item_id: (_is_text, pa.types.is_integer)}, "text or integers")
    fields = item_fields(columns.item_id, columns.title, "[]::VARCHAR[]")
    fields["item_id"] = f"CAST({quote(columns.item_id)} AS VARCHAR)"
    if columns.categories in schema.names:
        is_list = _is_list(schema.field(columns.categories).type)
        categories = quote(columns.categories)
        fields["categories"] = (
            f"coalesce(CAST({categories} AS VARCHAR[]), [])"
            if is_list
            else split_categories(categories, columns.separator)
        )
    if columns.description in schema.names:
        fields["description"] = f"nullif({quote(columns.description)}, '')"
    used = [columns.item_id, columns.title, columns.categories, columns.description]
    return Layout("table", ITEMS_TABLE, ".*", "csv", tuple(name for name in used if name in schema.names), fields)


def _check_types(path: Path, schema: pa.Schema, wanted: dict[str, tuple], what: str) -> None:
    for name, tests in wanted.items():
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if not any(test(kind) for test in tests):
            raise FormatError(
                f"{path}: column {name!r} is of the wrong type ({kind}); it must hold {what}. Convert the column, or "
                "map another one. Ids that passed through floats have lost digits and zeros: go back to their source."
            )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _names(files: Iterable[Path], most: int = 8) -> str:
    names = [path.name for path in files]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
