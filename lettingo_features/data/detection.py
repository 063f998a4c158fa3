"""Which layout a file has: by its name, its header and, where two data sets look alike, its first item id."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from lettingo_features.data.formats import FORMATS, LAYOUTS, WIDE_ID, Layout
from lettingo_features.data.generic import PARQUET_SUFFIXES, is_parquet, table_layout
from lettingo_features.data.mapping import ColumnMapping
from lettingo_features.data.readers import head
from lettingo_features.errors import FormatError

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
    files: Sequence[Path], format: str | None = None, mapping: ColumnMapping | None = None
) -> tuple[dict[Path, Layout], list[Path]]:
    """The layout of each file, and the files that belong to no table (README, tags, links).

    Parameters
    ----------
    format : str or None
        One of ``FORMATS``; None: recognised.
    mapping : ColumnMapping or None
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


def _layout(path: Path, chosen: str | None, mapping: ColumnMapping | None) -> Layout | None:
    """The layout of one file; None where it is of no known table."""
    plain = path.name.lower().removesuffix(".gz")
    if not plain.endswith(DATA_SUFFIXES):
        return None
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes). Copy or download it again; nothing was ingested.")
    if is_parquet(path):
        return table_layout(path, mapping or ColumnMapping(), required=chosen == "table")
    lines = head(path)
    if not lines:
        raise FormatError(f"{path} is empty: it holds blank lines only. Copy or download it again.")
    if chosen == "table":
        return table_layout(path, mapping or ColumnMapping(), required=True)
    known = [one for one in LAYOUTS if chosen in (None, one.format)]
    named = [one for one in known if one.matches_name(path)]
    if chosen and not named:  # a file of any name will do once its format is named and its header agrees
        anyhow = [one for one in known if one.has_header and plain.endswith(f".{one.reader}")]
        return next((one for one in anyhow if not _missing(one, lines)), None)
    fitting = [one for one in named if not _missing(one, lines)]
    if not fitting:
        own = None if chosen else table_layout(path, ColumnMapping(), required=False)
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


def _names(files: Iterable[Path], most: int = 8) -> str:
    names = [path.name for path in files]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
