"""Views and services of every release that was built or imported in ``$LETTINGO_HOME``, and the champion's aliases.

A release is known by its file ``releases/<name>.json``; after a new one: ``feast apply``. Each gets the views
``user_profile_text_<name>``, ``user_profile_meta_<name>`` and ``user_profile_embedding_<name>_<encoder>``, and the
services ``ranker_profile_<name>`` and ``profile_text_<name>``, so that releases answer side by side; an abandoned one
gets none. v0 and v1 are in ``views.py`` and ``services.py``.

``ranker_profile_champion`` and ``profile_text_champion`` answer as the release that ``lettingo release promote`` or
``rollback`` made the champion, for readers of text and shadow traffic. A ranker stores the service of a release.
"""

import json

import sources
import views
from feast import FeatureService

from lettingo_features.champion import ALIAS, ALIAS_TAG, read_served
from lettingo_features.profiles.tables import embedding_table, meta_table, text_table

HOME = sources.OFFLINE.parent
SERVED = read_served(HOME)
LENGTH_BY_DEFAULT = {"vector_length": views.MINILM_LENGTH}  # which earlier versions did not note


def ranker(name: str, meta, vectors, beside_item_text: bool, **more) -> FeatureService:
    return FeatureService(
        name=f"ranker_profile_{name}",
        features=[views.user_behaviour_v1, views.item_behaviour_v1, meta, vectors]
        + ([views.item_text_embedding_minilm_l6_v2] if beside_item_text else []),
        description=f"Behaviour, and the profiles of release {name} beside the item's text",
        owner=sources.OWNER,
        **more,
    )


def reader(name: str, text, meta, **more) -> FeatureService:
    return FeatureService(
        name=f"profile_text_{name}",
        features=[text, meta],
        description=f"A user's profile of release {name} in words, with its provenance",
        owner=sources.OWNER,
        **more,
    )


declared = {  # release -> its views of text, meta and vectors, and whether the vectors are the item text's encoder's
    "v0": (
        views.user_profile_text_v0,
        views.user_profile_meta_v0,
        views.user_profile_embedding_v0_minilm_l6_v2,
        True,
    ),
    "v1": (
        views.user_profile_text_v1,
        views.user_profile_meta_v1,
        views.user_profile_embedding_v1_minilm_l6_v2,
        True,
    ),
}

for path in sorted((HOME / "releases").glob("*.json")):
    name, facts = path.stem, LENGTH_BY_DEFAULT | json.loads(path.read_text())
    if name in declared or name in SERVED.withheld:
        continue
    text = views.profile_text(sources.parts(text_table(name), f"Profiles of release {name}"))
    meta = views.profile_meta(sources.parts(meta_table(name), f"Provenance and counts of release {name}'s profiles"))
    vectors = views.profile_embedding(
        sources.parts(embedding_table(name, facts["encoder"]), f"Release {name}'s profile vectors"),
        facts["vector_length"],
    )
    declared[name] = (text, meta, vectors, facts["encoder"] == "minilm_l6_v2")
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
                ("ranker", ranker(name, meta, vectors, declared[name][3])),
                ("reader", reader(name, text, meta)),
            ]
        }
    )


def as_champions(view, kind: str):
    """``view`` under a name that no flip changes. Feast's server looks a service up twice per request, once for its
    features and once for its views: with equal names, a refresh of its registry in between mixes nothing."""
    return view.with_name(f"user_profile_{kind}_{ALIAS}")


text, meta, vectors, beside_item_text = declared[SERVED.champion]
tags = {ALIAS_TAG: SERVED.champion}
ranker_champion = ranker(
    ALIAS, as_champions(meta, "meta"), as_champions(vectors, "embedding"), beside_item_text, tags=tags
)
reader_champion = reader(ALIAS, as_champions(text, "text"), as_champions(meta, "meta"), tags=tags)
