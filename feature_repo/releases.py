"""Views and services of every release that was built or imported in ``$LETTINGO_HOME`` besides v0 and v1.

A release is known by its file ``releases/<name>.json``; after a new one: ``feast apply``. Each gets the views
``user_profile_text_<name>``, ``user_profile_meta_<name>`` and ``user_profile_embedding_<name>_<encoder>``, and the
services ``ranker_profile_<name>`` and ``profile_text_<name>``, so that releases answer side by side.
"""

import json

import sources
import views
from feast import FeatureService

from lettingo_features.profiles.tables import embedding_table, meta_table, text_table

DECLARED = ("v0", "v1")  # in views.py, since the quick start names them

for path in sorted((sources.OFFLINE.parent / "releases").glob("*.json")):
    name, facts = path.stem, json.loads(path.read_text())
    if name in DECLARED:
        continue
    text = views.profile_text(sources.parts(text_table(name), f"Profiles of release {name}"))
    meta = views.profile_meta(sources.parts(meta_table(name), f"Provenance and counts of release {name}'s profiles"))
    vectors = views.profile_embedding(
        sources.parts(embedding_table(name, facts["encoder"]), f"Release {name}'s profile vectors"),
        facts.get("vector_length", views.MINILM_LENGTH),  # which earlier versions did not note
    )
    ranker = FeatureService(
        name=f"ranker_profile_{name}",
        features=[views.user_behaviour_v1, views.item_behaviour_v1, meta, vectors]
        + ([views.item_text_embedding_minilm_l6_v2] if facts["encoder"] == "minilm_l6_v2" else []),
        description=f"Behaviour, and the profiles of release {name} beside the item's text",
        owner=sources.OWNER,
    )
    reader = FeatureService(
        name=f"profile_text_{name}",
        features=[text, meta],
        description=f"A user's profile of release {name} in words, with its provenance",
        owner=sources.OWNER,
    )
    # Feast takes what a module holds: one name per object.
    globals().update(
        {
            f"{kind}_{name}": made
            for kind, made in [
                ("text_source", text.batch_source),
                ("meta_source", meta.batch_source),
                ("vector_source", vectors.batch_source),
                ("text", text),
                ("meta", meta),
                ("vectors", vectors),
                ("ranker", ranker),
                ("reader", reader),
            ]
        }
    )
