"""Names and Arrow schemas of every table that this project writes: written here once, imported everywhere.

Every timestamp is ``timestamp[us, tz=UTC]``: Feast with DuckDB 2 fails on nanosecond UTC timestamps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np

TIMESTAMP = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())
VECTOR = pa.list_(pa.float32())

# Entities and the two time columns that Feast reads.
USER_ID = "user_id"
ITEM_ID = "item_id"
EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"

# Raw interactions and items.
RATING = "rating"
EVENT_TYPE = "event_type"
REVIEW_TEXT = "review_text"
TITLE = "title"
CATEGORIES = "categories"
DESCRIPTION = "description"

# Windows and profiles.
CUTOFF = "cutoff"
N_INTERACTIONS = "n_interactions"
WINDOW_DIGEST = "window_digest"
GENERATOR = "generator"
GENERATOR_ID = "generator_id"
CALL_KEY = "call_key"
PROFILE_TEXT = "profile_text"
PROFILE_EMBEDDING = "profile_embedding"
ITEM_TEXT_EMBEDDING = "item_text_embedding"


class Provenance(NamedTuple):
    """The three columns that let a training row prove it saw no future.

    ``source_max_ts < cutoff_at <= published_at <= label timestamp`` holds for each row.
    """

    cutoff_at: str
    source_max_ts: str
    published_at: str

    def fields(self) -> list[pa.Field]:
        return [pa.field(name, TIMESTAMP) for name in self]


def _prefixed(prefix: str) -> Provenance:
    return Provenance(f"{prefix}_cutoff_at", f"{prefix}_source_max_ts", f"{prefix}_published_at")


PROFILE_PROVENANCE = Provenance("profile_cutoff_at", "source_max_ts", "published_at")
TEXT_PROVENANCE = _prefixed("profile_text")
EMBEDDING_PROVENANCE = _prefixed("profile_embedding")
USER_BEHAVIOUR_PROVENANCE = _prefixed("user_behaviour")
ITEM_BEHAVIOUR_PROVENANCE = _prefixed("item_behaviour")
ITEM_TEXT_PROVENANCE = _prefixed("item_text")

PROVENANCES = (
    PROFILE_PROVENANCE,
    TEXT_PROVENANCE,
    EMBEDDING_PROVENANCE,
    USER_BEHAVIOUR_PROVENANCE,
    ITEM_BEHAVIOUR_PROVENANCE,
    ITEM_TEXT_PROVENANCE,
)

_TIMES = [pa.field(EVENT_TIMESTAMP, TIMESTAMP), pa.field(CREATED_TIMESTAMP, TIMESTAMP)]

INTERACTIONS = pa.schema(
    [
        pa.field(USER_ID, pa.string()),
        pa.field(ITEM_ID, pa.string()),
        *_TIMES,
        pa.field(RATING, pa.float32()),
        pa.field(EVENT_TYPE, pa.string()),
        pa.field(REVIEW_TEXT, pa.string()),
    ]
)

ITEMS = pa.schema(
    [
        pa.field(ITEM_ID, pa.string()),
        pa.field(TITLE, pa.string()),
        pa.field(CATEGORIES, STRINGS),
        pa.field(DESCRIPTION, pa.string()),
        pa.field(CREATED_TIMESTAMP, TIMESTAMP),
    ]
)

BEHAVIOUR_WINDOWS_DAYS = (7, 30, 90)
_SPANS = [*(f"{days}d" for days in BEHAVIOUR_WINDOWS_DAYS), "all"]

USER_BEHAVIOUR = pa.schema(
    [
        pa.field(USER_ID, pa.string()),
        *_TIMES,
        *(pa.field(f"user_count_{span}", pa.int64()) for span in _SPANS),
        *(pa.field(f"user_rate_{span}", pa.float32()) for span in _SPANS),  # interactions per day
        pa.field("user_mean_rating", pa.float32()),
        pa.field("user_std_rating", pa.float32()),
        pa.field("user_days_since_last", pa.float32()),
        pa.field("user_tenure_days", pa.float32()),
        pa.field("user_top_categories", STRINGS),  # most frequent first
        pa.field("user_top_category_shares", VECTOR),
        pa.field("user_top_category_ratings", VECTOR),
        pa.field("user_recent_item_ids", STRINGS),  # newest first
        *USER_BEHAVIOUR_PROVENANCE.fields(),
    ]
)

ITEM_BEHAVIOUR = pa.schema(
    [
        pa.field(ITEM_ID, pa.string()),
        *_TIMES,
        *(pa.field(f"item_count_{span}", pa.int64()) for span in _SPANS),
        pa.field("item_mean_rating", pa.float32()),
        pa.field("item_std_rating", pa.float32()),
        pa.field("item_days_since_last", pa.float32()),
        pa.field("item_age_days", pa.float32()),
        *ITEM_BEHAVIOUR_PROVENANCE.fields(),
    ]
)

USER_PROFILE_TEXT = pa.schema(
    [pa.field(USER_ID, pa.string()), *_TIMES, pa.field(PROFILE_TEXT, pa.string()), *TEXT_PROVENANCE.fields()]
)

USER_PROFILE_META = pa.schema(
    [
        pa.field(USER_ID, pa.string()),
        *_TIMES,
        pa.field(GENERATOR, pa.string()),  # who wrote this row: "statistical" or the language model's name
        pa.field(GENERATOR_ID, pa.string()),  # content hash of model, prompt and sampling
        pa.field(WINDOW_DIGEST, pa.string()),
        pa.field(N_INTERACTIONS, pa.int64()),
        pa.field("profile_n_words", pa.int64()),
        pa.field("profile_n_lint", pa.int64()),  # lint findings removed from or kept out of the text
        pa.field("profile_n_claims", pa.int64()),  # statements that name their interactions; 0 for free text
        pa.field("profile_n_dropped", pa.int64()),  # claims and references that named no interaction of the window
        pa.field(CALL_KEY, pa.string()),  # the ledger's key of the call that wrote the text; '' without a call
        *PROFILE_PROVENANCE.fields(),
    ]
)

USER_PROFILE_CLAIMS = pa.schema(
    [
        pa.field(USER_ID, pa.string()),
        *_TIMES,
        pa.field("position", pa.int64()),  # 1 = first claim of the profile
        pa.field("claim", pa.string()),
        pa.field("item_ids", STRINGS),  # of the supporting interactions, newest first
    ]
)

USER_PROFILE_EMBEDDING = pa.schema(
    [pa.field(USER_ID, pa.string()), *_TIMES, pa.field(PROFILE_EMBEDDING, VECTOR), *EMBEDDING_PROVENANCE.fields()]
)

ITEM_TEXT = pa.schema(
    [pa.field(ITEM_ID, pa.string()), *_TIMES, pa.field(ITEM_TEXT_EMBEDDING, VECTOR), *ITEM_TEXT_PROVENANCE.fields()]
)


def vector_column(vectors: np.ndarray) -> pa.ListArray:
    """``vectors``, shape (n, dim) float32, as an Arrow array of n lists of dim numbers."""
    n, dim = vectors.shape
    offsets = pa.array(range(0, n * dim + 1, dim), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1), pa.float32()))
