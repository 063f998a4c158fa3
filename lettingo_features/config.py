"""Base of every configuration: typed, frozen, no unknown field. Library code never reads the environment."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen pydantic model that refuses unknown fields; each field is followed by its unit and reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
