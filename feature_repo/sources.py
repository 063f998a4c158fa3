"""Where features come from: one directory of append-only parquet parts per table, under ``$LETTINGO_HOME/offline``.

Every source has the same two time columns. ``event_timestamp`` is the instant from which a row is true, and the
instant that the as-of join compares with the label's (inclusively). ``created_timestamp`` is when the row could have
been served: it breaks ties between rows of one instant, and training retrieval drops rows created after the label.
"""

import os
from pathlib import Path

from feast import FileSource
from feast.data_format import ParquetFormat

from lettingo_features.columns import CREATED_TIMESTAMP, EVENT_TIMESTAMP
from lettingo_features.offline_store.source import UnsetVariableError

if not os.environ.get("LETTINGO_HOME"):
    raise UnsetVariableError(
        "LETTINGO_HOME is not set, so feast cannot find the data: export LETTINGO_HOME=$PWD/.lettingo"
    )

OFFLINE = Path(os.environ["LETTINGO_HOME"]).absolute() / "offline"
OWNER = "recsys"


def parts(table: str, description: str) -> FileSource:
    return FileSource(
        name=table,
        path=str(OFFLINE / table),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIMESTAMP,
        created_timestamp_column=CREATED_TIMESTAMP,
        description=description,
        owner=OWNER,
    )


# event = the interaction's own time · created = 1 us later: it can be seen only strictly after its instant, so a label
# never finds itself
interactions = parts("interactions", "Raw interactions as ingested")

# event = cutoff, the open end of the window that was counted · created = cutoff + publish lag
user_behaviour_v1 = parts("user_behaviour_v1", "Counts, rates, ratings and category affinities of a user at a cutoff")
item_behaviour_v1 = parts("item_behaviour_v1", "Popularity, ratings and age of an item at a cutoff")

# event = cutoff of the window that the generator read · created = cutoff + publish lag (backfill) or now (live run)
user_profile_text_v0 = parts("user_profile_text_v0", "Profiles by the statistical generator")
user_profile_text_v1 = parts("user_profile_text_v1", "Profiles by the embedded language model")
user_profile_meta_v0 = parts("user_profile_meta_v0", "Provenance and counts of release v0's profiles")
user_profile_meta_v1 = parts("user_profile_meta_v1", "Provenance and counts of release v1's profiles")

# event and created = those of the profile that was encoded
user_profile_embedding_v0_minilm_l6_v2 = parts("user_profile_embedding_v0_minilm_l6_v2", "Release v0's profile vectors")
user_profile_embedding_v1_minilm_l6_v2 = parts("user_profile_embedding_v1_minilm_l6_v2", "Release v1's profile vectors")

# event = created = 1 us after the first interaction with the item: catalogue text is taken as timeless
item_text_embedding_minilm_l6_v2 = parts("item_text_embedding_minilm_l6_v2", "Vectors of title and categories")

# The same texts through the int8 form of the encoder, for hosts without torch: lettingo profiles encode, items encode
user_profile_embedding_v1_minilm_l6_v2_int8 = parts(
    "user_profile_embedding_v1_minilm_l6_v2_int8", "Release v1's profile vectors, int8 encoder"
)
item_text_embedding_minilm_l6_v2_int8 = parts(
    "item_text_embedding_minilm_l6_v2_int8", "Vectors of title and categories, int8 encoder"
)
