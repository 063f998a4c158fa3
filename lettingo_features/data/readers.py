"""Files to chunks of text, in file order and in bounded memory. No meaning yet: that is the layout's part.

A chunk is an Arrow table of about 8 MiB of file with the columns ``row`` (int64, 1-based record number in the file;
a header is record 1, blank lines do not count), ``unreadable`` (string: the raw line where it could not be split into
its columns, else null) and one column per name asked for. Delimited and JSON files give strings only, so nothing
guesses that ``0068646`` is a number; Parquet files keep their types.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lettingo_features.errors import FormatError

ROW = "row"
UNREADABLE = "unreadable"
LINE = "line"
CHUNK_BYTES = 8 << 20
PARQUET_CHUNK_ROWS = 131_072
GZIP_MAGIC = b"\x1f\x8b"
REPLACEMENT = "\ufffd"


@contextmanager
def readable(path: Path):
    """Turn what the readers raise on a damaged file into one FormatError with the next step."""
    try:
        yield
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise FormatError(
                f"{path} cannot be opened ({error.strerror}). Check the path and its permissions."
            ) from error
        raise FormatError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read to its end: {error}. It is damaged or only half "
            "written; nothing was ingested. Copy or download it again and repeat the command."
        ) from error


def open_bytes(path: Path) -> BinaryIO:
    """Open ``path`` for reading, through gzip where its first bytes say so."""
    with open(path, "rb") as probe:
        zipped = probe.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]


def read_parquet(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Chunks of a Parquet file with their own types."""
    with readable(path):
        file = pq.ParquetFile(path)
        first = 1
        for batch in file.iter_batches(PARQUET_CHUNK_ROWS, columns=columns):
            yield _numbered(pa.Table.from_batches([batch]), np.arange(first, first + batch.num_rows))
            first += batch.num_rows


def read_csv(
    path: Path, columns: list[str], *, delimiter: str, quoted: bool, encoding: str, names: list[str] | None
) -> Iterator[pa.Table]:
    """Chunks of a file with a one-character delimiter; a quoted value may span lines.

    Parameters
    ----------
    columns : list of str
        The columns to keep.
    names : list of str or None
        The columns' names where the file has no header line.

    Notes
    -----
    Read with one thread on purpose: only then does the parser tell the number of a record that it rejects.
    """
    rejected: list[tuple[int, str]] = []

    def reject(row: pa_csv.InvalidRow) -> str:
        rejected.append((row.number, row.text))
        return "skip"

    with readable(path), open_bytes(path) as stream:
        reader = pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=CHUNK_BYTES, encoding=encoding, column_names=names
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=reject,
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,  # a bad byte must cost its row, not the file
                column_types={name: pa.binary() for name in columns},
                include_columns=columns,
            ),
        )
        last = 0 if names else 1
        for batch in reader:
            rows, seen = _csv_numbers(batch.num_rows, last, [number for number, _ in rejected])
            table = _numbered(pa.Table.from_batches([batch]), rows)
            yield _with_unreadable(_decoded(table, columns), rejected[:seen])
            last = max([*rows[-1:], *(number for number, _ in rejected[:seen])], default=last)
            del rejected[:seen]
        if rejected:
            empty = _numbered(pa.table({name: pa.array([], pa.string()) for name in columns}), np.array([], np.int64))
            yield _with_unreadable(empty, rejected)


def read_lines(path: Path, encoding: str = "utf8") -> Iterator[pa.Table]:
    """Chunks of whole lines, in the column ``line``, without their ends; blank lines are left out."""
    with readable(path), open_bytes(path) as stream:
        rest, row = b"", 1
        while block := stream.read(CHUNK_BYTES):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            if cut:
                lines = _split_lines(block[:cut])
                yield _lines_chunk(lines, row, encoding)
                row += len(lines)
        if rest:
            yield _lines_chunk(_split_lines(rest + b"\n"), row, encoding)


def read_split(
    path: Path, columns: list[str], *, separator: str, encoding: str, names: list[str]
) -> Iterator[pa.Table]:
    """Chunks of a headerless file whose separator is longer than one character (``::``)."""
    for chunk in read_lines(path, encoding):
        parts = pc.split_pattern(chunk[LINE].combine_chunks(), separator)
        fits = pc.equal(pc.list_value_length(parts), len(names))
        whole = chunk.filter(fits)
        parts = parts.filter(fits)
        for name in columns:
            whole = whole.append_column(name, pc.list_element(parts, names.index(name)))
        broken = chunk.filter(pc.invert(fits))
        bad = list(zip(broken[ROW].to_pylist(), broken[LINE].to_pylist(), strict=True))
        yield _with_unreadable(whole.drop_columns([LINE]), bad)


def count_replaced(chunk: pa.Table) -> int:
    """Cells of a chunk that held bytes which are no text (invalid UTF-8 or NUL), now U+FFFD."""
    total = 0
    for column in chunk.columns:
        if pa.types.is_string(column.type):
            total += pc.sum(pc.match_substring(column, REPLACEMENT)).as_py() or 0
    return total


def head(path: Path, encoding: str = "utf8") -> list[str]:
    """The first two lines of ``path`` that are not blank."""
    with readable(path), open_bytes(path) as stream:
        text = io.TextIOWrapper(stream, encoding=encoding, errors="replace")
        lines = []
        while len(lines) < 2 and (line := text.readline(CHUNK_BYTES)):
            if line.strip():
                lines.append(line.rstrip("\r\n").removeprefix("\ufeff"))
        return lines


def _numbered(table: pa.Table, rows: np.ndarray) -> pa.Table:
    table = table.append_column(ROW, pa.array(rows, pa.int64()))
    return table.append_column(UNREADABLE, pa.nulls(table.num_rows, pa.string()))


def _csv_numbers(n: int, last: int, rejected: list[int]) -> tuple[np.ndarray, int]:
    """Record numbers of ``n`` good rows after ``last``, and how many rejected records lie before the end of them."""
    if not rejected:
        return np.arange(last + 1, last + n + 1), 0
    bad = np.array(rejected, np.int64)
    rows = np.setdiff1d(np.arange(last + 1, last + n + len(bad) + 1), bad)[:n]
    end = rows[-1] if n else last
    return rows, int(np.searchsorted(bad, end))


def _decoded(table: pa.Table, columns: list[str]) -> pa.Table:
    for name in columns:
        position = table.column_names.index(name)
        table = table.set_column(position, name, _decode(table[name].combine_chunks()))
    return table


def _decode(values: pa.BinaryArray) -> pa.StringArray:
    """Bytes as UTF-8 text; invalid bytes and NUL become U+FFFD (Parquet and SQL readers choke on both)."""
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:  # rare: only the chunks that hold a bad byte pay for the loop
        text = pa.array([v if v is None else v.decode("utf8", "replace") for v in values.to_pylist()], pa.string())
    if pc.any(pc.match_substring(text, "\0")).as_py():
        text = pc.replace_substring(text, "\0", REPLACEMENT)
    return text


def _with_unreadable(table: pa.Table, bad: list[tuple[int, str]]) -> pa.Table:
    if not bad:
        return table
    lines = pa.array([line.replace("\0", REPLACEMENT) for _, line in bad], pa.string())
    extra = pa.table({ROW: pa.array([row for row, _ in bad], pa.int64()), UNREADABLE: lines})
    return pa.concat_tables([table, extra], promote_options="default")


def _split_lines(block: bytes) -> pa.BinaryArray:
    """Lines of ``block``, which ends in a newline, as a view of its bytes."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 0x0A) + 1
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(block)])


def _lines_chunk(lines: pa.BinaryArray, first: int, encoding: str) -> pa.Table:
    if encoding != "utf8":
        lines = pa.array([line.decode(encoding).encode() for line in lines.to_pylist()], pa.binary())
    text = pc.utf8_rtrim(_decode(lines), "\r\n")
    if first == 1:
        text = pc.if_else(pc.starts_with(text, "\ufeff"), pc.utf8_slice_codeunits(text, 1), text)
    chunk = _numbered(pa.table({LINE: text}), np.arange(first, first + len(text)))
    return chunk.filter(pc.not_equal(pc.utf8_trim_whitespace(chunk[LINE]), ""))
