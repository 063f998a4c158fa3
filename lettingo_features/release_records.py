"""What the registry of releases says: a release, the plan of its promotion, and a change of champion."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lettingo_features.config import Config

if TYPE_CHECKING:
    import sqlalchemy as sa

PROMOTE, HOLD, REJECT = "promote", "hold", "reject"
"""Decisions of a gate."""
ADOPTED, PROMOTED, ROLLED_BACK = "adopt", "promote", "rollback"
"""Kinds of a flip."""


class Plan(Config):
    """What a promotion does; kept with it, so that the same command finishes what was interrupted."""

    champion: str | None
    "The champion that the release takes over from; None where there was none."
    cutoffs: tuple[datetime, ...]
    "Past cutoffs at which training needs the release's profiles."
    live: datetime
    "Cutoff of the snapshot that is published now."
    why: str
    "What admitted the release: the gate, or the reason of who forced it."


@dataclass(frozen=True, slots=True)
class GeneratorRelease:
    """One row of the registry."""

    name: str
    state: str
    generator_id: str | None = None
    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    prompt: str | None = None
    writer: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    parent: str | None = None
    replaced: str | None = None
    verdict: dict[str, Any] | None = None
    plan: Plan | None = None
    created_at: datetime | None = None
    created_by: str = ""

    @property
    def decision(self) -> str | None:
        """Of the gate; None without a verdict."""
        return None if self.verdict is None else self.verdict.get("decision")


@dataclass(frozen=True, slots=True)
class Flip:
    """One change of champion."""

    id: int
    kind: str
    from_release: str | None
    to_release: str
    why: str
    who: str
    flipped_at: datetime
    published_at: datetime | None
    """When the alias services followed; None: they still may name the former champion."""


_JSON = ("writer", "settings", "verdict")


def as_release(row: sa.Row) -> GeneratorRelease:
    """A row of the table ``releases``."""
    values = {field.name: getattr(row, field.name) for field in fields(GeneratorRelease)}
    values |= {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
    if values["plan"] is not None:
        values["plan"] = Plan.model_validate_json(values["plan"])
    return GeneratorRelease(**values | {"created_at": _utc(row.created_at)})


def as_flip(row: sa.Row) -> Flip:
    """A row of the table ``release_flips``."""
    times = {"flipped_at": _utc(row.flipped_at), "published_at": _utc(row.published_at)}
    return Flip(**row._asdict() | times)


def _utc(instant: datetime | None) -> datetime | None:
    """SQLite keeps no zone: what it stores is UTC."""
    return instant and (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC))
