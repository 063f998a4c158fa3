"""Arrow schemas of ``columns.py`` as Feast fields: a view declares its table's columns, never a second list of them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from feast import Field
from feast.types import Array, FeastType, Float32, Float64, Int64, String, UnixTimestamp

from lettingo_features.columns import CREATED_TIMESTAMP, EVENT_TIMESTAMP, ITEM_ID, USER_ID

_SCALARS: dict[pa.DataType, FeastType] = {
    pa.string(): String,
    pa.int64(): Int64,
    pa.float32(): Float32,
    pa.float64(): Float64,
}


def join_keys(schema: pa.Schema) -> list[str]:
    """The entity columns of ``schema``, users first."""
    return [key for key in (USER_ID, ITEM_ID) if key in schema.names]


def fields(schema: pa.Schema, vector_lengths: Mapping[str, int] | None = None) -> list[Field]:
    """The features of ``schema`` in its order: every column but the join keys and the two time columns.

    Parameters
    ----------
    vector_lengths
        Dimensions of the vector columns. A column named here is declared as a cosine-indexed vector (its vectors
        are L2-normalised, so cosine and inner product rank alike); online stores without an index ignore that.

    Raises
    ------
    TypeError
        A column has a type that no Feast field of this project carries.
    """
    skipped = {*join_keys(schema), EVENT_TIMESTAMP, CREATED_TIMESTAMP}
    lengths = dict(vector_lengths or {})
    return [_field(column, lengths.get(column.name)) for column in schema if column.name not in skipped]


def _field(column: pa.Field, vector_length: int | None) -> Field:
    if vector_length is None:
        return Field(name=column.name, dtype=_feast_type(column))
    return Field(
        name=column.name,
        dtype=_feast_type(column),
        vector_index=True,
        vector_length=vector_length,
        vector_search_metric="cosine",
    )


def _feast_type(column: pa.Field) -> FeastType:
    if pa.types.is_timestamp(column.type):
        return UnixTimestamp
    if pa.types.is_list(column.type) and column.type.value_type in _SCALARS:
        return Array(_SCALARS[column.type.value_type])
    if column.type in _SCALARS:
        return _SCALARS[column.type]
    raise TypeError(f"column '{column.name}' is {column.type}, which has no Feast type here: add it to feast_schema.py")
