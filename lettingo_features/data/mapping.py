"""Column mapping of the generic format: which column of a Parquet or CSV file is what."""

from __future__ import annotations

from lettingo_features.config import Config
from lettingo_features.data.clock import Unit


class InteractionColumns(Config):
    """Columns of an interactions file. An optional column that is not named here may be absent."""

    user_id: str = "user_id"
    """Whose interaction; strings or integers, kept as text."""
    item_id: str = "item_id"
    """With which item; strings or integers, kept as text."""
    timestamp: str = "timestamp"
    """When: a number since 1970, ISO 8601 text or a timestamp type."""
    rating: str = "rating"
    """How much the user liked it; any finite number unless ``rating_scale`` says more."""
    event_type: str = "event_type"
    """What kind of interaction; ``rating`` where the column or the value is absent."""
    review_text: str = "review_text"
    """What the user wrote."""
    timestamp_unit: Unit | None = None
    """Clock of the timestamp column; None: recognised (rule in ``clock.py``)."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest rating, both included; with a scale, a row without a rating is a bad row."""


class ItemColumns(Config):
    """Columns of an items file. An optional column that is not named here may be absent."""

    item_id: str = "item_id"
    """Key of the item, as in the interactions."""
    title: str = "title"
    """Its title; a year in it stays."""
    categories: str = "categories"
    """Its categories: a list, or text split at ``separator``."""
    description: str = "description"
    """Text about it."""
    separator: str = "|"
    """Between two categories in one text value."""


class TableMapping(Config):
    """Mapping of the generic format ``table``; the defaults are this project's own column names."""

    interactions: InteractionColumns = InteractionColumns()
    """Columns of the files that have a user and a timestamp."""
    items: ItemColumns = ItemColumns()
    """Columns of the files that have an item and a title, but no user."""
    delimiter: str = ","
    """Of the delimited files; one character."""
