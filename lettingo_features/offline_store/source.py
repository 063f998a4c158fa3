"""Where a view's rows lie: one parquet file, or a directory of append-only parquet parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb

from lettingo_features.errors import ConfigError, DataError, FormatError
from lettingo_features.sql import literal

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


class UnsetVariableError(click.ClickException, ConfigError):
    """An environment variable is not set. Feast's command line knows click's errors and prints one line."""

    exit_code = 2


def refuse_unexpanded(text: str, where: str) -> None:
    """Raise UnsetVariableError if ``text`` still holds an environment variable that nobody expanded."""
    if variable := _VARIABLE.search(text):
        name = variable.group(1)
        raise UnsetVariableError(f"{where} is '{text}', but {name} is not set: export {name} and try again")


def resolve(path: str, repo_path: Path | None) -> Path:
    """``path`` of a file source as an absolute local path; a relative one starts at the feature repository.

    Raises
    ------
    ConfigError
        For a remote URI or an environment variable that is not set.
    """
    refuse_unexpanded(path, "the path of a file source")
    if re.match(r"\w[\w+.-]+://", path) and not path.startswith("file://"):
        raise ConfigError(f"'{path}' is remote, and the ASOF store reads local files: mount it, or use another store")
    return Path(repo_path or ".", path.removeprefix("file://")).absolute()


@dataclass(frozen=True)
class Source:
    """The finished parts of one file source and the columns found in them.

    ``types`` maps a column to DuckDB's name of its type; both fields are empty where nothing was written yet.
    """

    path: Path
    parts: tuple[Path, ...]
    types: Mapping[str, str]

    def require(self, columns: Iterable[str], reader: str) -> None:
        """Raise DataError if the source has rows but lacks one of ``columns``."""
        missing = sorted(set(columns) - set(self.types))
        if self.parts and missing:
            raise DataError(
                f"{reader} needs {len(missing)} column(s) that {self.path} lacks: {', '.join(missing)}. "
                f"It has {', '.join(self.types)}. Write the missing ones, or map their names with field_mapping"
            )

    def scan(self) -> str:
        """SQL text for ``FROM``: all parts as one relation, with ``file_index`` and ``file_row_number`` beside it."""
        files = ", ".join(literal(str(part)) for part in self.parts)
        return f"read_parquet([{files}], union_by_name = true)"


def open_source(connection: duckdb.DuckDBPyConnection, path: Path) -> Source:
    """List the parts below ``path`` and read their schema.

    Names that begin with '.' are temporaries of a writer and are never read; an absent or empty directory has no rows.

    Raises
    ------
    FormatError
        If a part is not readable parquet.
    """
    if path.is_dir():
        parts = tuple(sorted(part for part in path.glob("*.parquet") if not part.name.startswith(".")))
    else:
        parts = (path,) if path.exists() else ()
    source = Source(path, parts, {})
    if not parts:
        return source
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {source.scan()}").fetchall()
    except duckdb.Error as error:
        raise FormatError(
            f"one of the {len(parts)} part(s) of {path} is not readable parquet ({error}): "
            "remove or rewrite that file; finished parts are never half-written, so it came from elsewhere"
        ) from error
    return Source(path, parts, {name: kind for name, kind, *_ in described})
