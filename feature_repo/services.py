"""What a model is trained on and served with: one service per ranker version; a ranker stores its service's name."""

import views
from feast import FeatureService
from sources import OWNER

# Behaviour alone: the row that every profile feature must beat.
ranker_baseline_v1 = FeatureService(
    name="ranker_baseline_v1",
    features=[views.user_behaviour_v1, views.item_behaviour_v1],
    description="Behaviour of user and item",
    owner=OWNER,
)

ranker_profile_v1 = FeatureService(
    name="ranker_profile_v1",
    features=[
        views.user_behaviour_v1,
        views.item_behaviour_v1,
        views.user_profile_meta_v1,
        views.user_profile_embedding_v1_minilm_l6_v2,
        views.item_text_embedding_minilm_l6_v2,
    ],
    description="Behaviour, and the language model's profile beside the item's text",
    owner=OWNER,
)

# The same ranker fed by the statistical generator: the control that says what the language model adds.
ranker_profile_v0 = FeatureService(
    name="ranker_profile_v0",
    features=[
        views.user_behaviour_v1,
        views.item_behaviour_v1,
        views.user_profile_meta_v0,
        views.user_profile_embedding_v0_minilm_l6_v2,
        views.item_text_embedding_minilm_l6_v2,
    ],
    description="Behaviour, and the statistical profile beside the item's text",
    owner=OWNER,
)

# For people and prompts: a profile to read, with who wrote it and from what.
profile_text_v1 = FeatureService(
    name="profile_text_v1",
    features=[views.user_profile_text_v1, views.user_profile_meta_v1],
    description="A user's profile in words, with its provenance",
    owner=OWNER,
)
