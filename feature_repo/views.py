"""What can be joined and served. A version is a name; text, numbers and vectors never share a view.

Why apart: ``feast monitor`` skips a whole view that holds a vector and copies the raw strings of a view that it does
read into its metrics; and vectors of different encoders or releases must never meet in one index.
"""

from datetime import timedelta

import pyarrow as pa
import sources
from entities import item, user
from feast import Entity, FeatureView, FileSource

from lettingo_features import columns
from lettingo_features.feast_schema import fields

# Never expires: Feast drops a value older than its ttl from a training set but not from the online store, so any
# shorter ttl would make the two differ. 0 means "never" to the join, but "one year" to the first
# materialize-incremental, which then silently leaves out older rows; hence a century.
NO_EXPIRY = timedelta(days=36_500)
MINILM_LENGTH = 384


def view(
    entities: list[Entity],
    source: FileSource,
    schema: pa.Schema,
    holds: str,
    vector_lengths: dict[str, int] | None = None,
    online: bool = True,
) -> FeatureView:
    return FeatureView(
        name=source.name,
        entities=entities,
        source=source,
        schema=fields(schema, vector_lengths),
        ttl=NO_EXPIRY,
        online=online,
        description=source.description,
        owner=sources.OWNER,
        tags={"holds": holds},
    )


def profile_text(source: FileSource) -> FeatureView:
    return view([user], source, columns.USER_PROFILE_TEXT, holds="text")


def profile_meta(source: FileSource) -> FeatureView:
    return view([user], source, columns.USER_PROFILE_META, holds="numbers")


def profile_embedding(source: FileSource, length: int = MINILM_LENGTH) -> FeatureView:
    lengths = {columns.PROFILE_EMBEDDING: length}
    return view([user], source, columns.USER_PROFILE_EMBEDDING, holds="vectors", vector_lengths=lengths)


def item_text_embedding(source: FileSource) -> FeatureView:
    lengths = {columns.ITEM_TEXT_EMBEDDING: MINILM_LENGTH}
    return view([item], source, columns.ITEM_TEXT, holds="vectors", vector_lengths=lengths)


# Joined into training sets, never served: the newest interaction of a (user, item) pair is no feature of a request.
interactions = view([user, item], sources.interactions, columns.INTERACTIONS, holds="events", online=False)

user_behaviour_v1 = view([user], sources.user_behaviour_v1, columns.USER_BEHAVIOUR, holds="numbers")
item_behaviour_v1 = view([item], sources.item_behaviour_v1, columns.ITEM_BEHAVIOUR, holds="numbers")

user_profile_text_v0 = profile_text(sources.user_profile_text_v0)
user_profile_text_v1 = profile_text(sources.user_profile_text_v1)
user_profile_meta_v0 = profile_meta(sources.user_profile_meta_v0)
user_profile_meta_v1 = profile_meta(sources.user_profile_meta_v1)
user_profile_embedding_v0_minilm_l6_v2 = profile_embedding(sources.user_profile_embedding_v0_minilm_l6_v2)
user_profile_embedding_v1_minilm_l6_v2 = profile_embedding(sources.user_profile_embedding_v1_minilm_l6_v2)

item_text_embedding_minilm_l6_v2 = item_text_embedding(sources.item_text_embedding_minilm_l6_v2)

# Vectors of two encoders never share a view: cosine 0.95 between them is not equality.
user_profile_embedding_v1_minilm_l6_v2_int8 = profile_embedding(sources.user_profile_embedding_v1_minilm_l6_v2_int8)
item_text_embedding_minilm_l6_v2_int8 = item_text_embedding(sources.item_text_embedding_minilm_l6_v2_int8)
