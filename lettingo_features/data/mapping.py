"""Column mapping of the generic format ``table``: which column of a Parquet or delimited file is what."""

from __future__ import annotations

from lettingo_features.config import Config
from lettingo_features.data.clock import Unit

INTERACTION_ROLES = ("user_id", "item_id", "timestamp", "rating", "event_type", "review_text")
ITEM_ROLES = ("item_key", "title", "categories", "description")


class ColumnMapping(Config):
    """Columns of generic files; a file with the user column holds interactions, one with the title column items.

    An optional column that keeps its default name may be absent; one that is named here must be there.
    """

    user_id: str = "user_id"
    """Whose interaction; strings or integers, kept as text."""
    item_id: str = "item_id"
    """With which item; strings or integers, kept as text."""
    timestamp: str = "timestamp"
    """When: a number since 1970, ISO 8601 text or a timestamp type. The default also finds ``event_timestamp``."""
    rating: str = "rating"
    """Optional. How much the user liked it: any finite number unless ``rating_scale`` says more."""
    event_type: str = "event_type"
    """Optional. What kind of interaction; ``rating`` where the column or the value is absent."""
    review_text: str = "review_text"
    """Optional. What the user wrote."""
    item_key: str | None = None
    """Key of the items file, where it is not named as in the interactions."""
    title: str = "title"
    """Of the item; a year in it stays."""
    categories: str = "categories"
    """Optional. A list, or text split at ``separator``."""
    description: str = "description"
    """Optional. Text about the item."""
    timestamp_unit: Unit | None = None
    """Clock of the timestamp column; None: recognised (rule in ``clock.py``)."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest rating, both included; with a scale, a row without a rating is a bad row."""
    separator: str = "|"
    """Between two categories in one text value."""
    delimiter: str = ","
    """Of the delimited files; one character."""

    def column(self, role: str, present: list[str]) -> str:
        """The column of a role in a file with the columns ``present``."""
        if role == "item_key":
            return self.item_key or self.item_id
        name = getattr(self, role)
        if role == "timestamp" and role not in self.model_fields_set and name not in present:
            return "event_timestamp" if "event_timestamp" in present else name
        return name
