"""The left side of the join: the caller's rows, untouched, and the instant of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.columns import EVENT_TIMESTAMP, TIMESTAMP
from lettingo_features.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Labels:
    """Rows that ask for features: ``rows[time_column]`` is ``timestamp[us, UTC]``, all else is untouched."""

    rows: pa.Table
    time_column: str

    @property
    def instants(self) -> pa.ChunkedArray:
        return self.rows[self.time_column]

    def require(self, columns: list[str], view: str) -> None:
        """Raise DataError if the labels lack a join key of ``view``."""
        if missing := [name for name in columns if name not in self.rows.column_names]:
            raise DataError(
                f"the labels lack {', '.join(missing)}, by which the view '{view}' is joined; "
                f"they have {', '.join(self.rows.column_names)}"
            )


def read_labels(entity_df: pd.DataFrame | pa.Table | str | None, connection: duckdb.DuckDBPyConnection) -> Labels:
    """Labels from a pandas dataframe, an Arrow table or a DuckDB query; the input is not changed.

    The time column is ``event_timestamp``, else the only timestamp column. A time without a zone is UTC, another zone
    is converted, text must be ISO 8601; instants are whole microseconds, finer digits are dropped.

    Raises
    ------
    ConfigError
        Without labels (retrieval by a bare date range), or if no time column can be told.
    DataError
        If a time cannot be read, or a column holds mixed types.
    """
    if entity_df is None:
        raise ConfigError(
            "the ASOF store joins features to labels and none were given: pass entity_df with the entity columns and "
            f"'{EVENT_TIMESTAMP}' (for all rows of a date range, read the view's parquet parts)"
        )
    if isinstance(entity_df, str):
        rows = connection.sql(entity_df).to_arrow_table()
    else:
        rows = entity_df if isinstance(entity_df, pa.Table) else _from_pandas(entity_df)
    name = _time_column(rows)
    position = rows.column_names.index(name)
    return Labels(rows.set_column(position, name, _to_utc(rows[name], name)), name)


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    import pandas as pd

    if EVENT_TIMESTAMP in frame.columns and frame[EVENT_TIMESTAMP].dtype == object:
        # Texts, or instants of several zones: pandas reads both, Arrow neither.
        try:
            times = pd.to_datetime(frame[EVENT_TIMESTAMP], utc=True, format="ISO8601")
        except (ValueError, TypeError) as error:
            raise _unreadable(EVENT_TIMESTAMP, error) from error
        frame = frame.assign(**{EVENT_TIMESTAMP: times})
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"the labels hold a column of mixed types ({error}): give each column one type") from error


def _time_column(rows: pa.Table) -> str:
    if EVENT_TIMESTAMP in rows.column_names:
        return EVENT_TIMESTAMP
    times = [field.name for field in rows.schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        raise ConfigError(
            f"the labels have no column '{EVENT_TIMESTAMP}' and {len(times)} other timestamp columns, so the instant "
            f"of a label is unknown: rename the right one to '{EVENT_TIMESTAMP}'"
        )
    return times[0]


def _to_utc(times: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = times.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            import pandas as pd

            texts = pd.to_datetime(times.to_pandas(), utc=True, format="ISO8601")
            return pa.chunked_array([pa.array(texts, from_pandas=True).cast(TIMESTAMP, safe=False)])
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return times.cast(TIMESTAMP, safe=False)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind):
            return pc.assume_timezone(times.cast(pa.timestamp("us"), safe=False), "UTC")
    except (ValueError, TypeError) as error:
        raise _unreadable(name, error) from error
    raise _unreadable(name, f"its type is {kind}")


def _unreadable(name: str, reason: object) -> DataError:
    return DataError(
        f"the labels' column '{name}' cannot be read as time ({reason}): "
        "give timestamps, or ISO 8601 texts such as 2024-05-01T12:00:00Z"
    )
