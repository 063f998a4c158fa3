"""The feature repository: what it declares, and whether a registry still says the same.

The golden file is what ``feast apply`` registers, in Feast 0.67. To accept a change on purpose::

    GOLDEN_UPDATE=1 pytest tests/test_feature_repo.py && git diff tests/golden
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features import columns
from lettingo_features.champion import ALIAS_TAG, Served, write_served
from lettingo_features.errors import ConfigError, EncoderMismatchError, RegistryError
from lettingo_features.feast_registry import check_registry, check_vectors, declared, registry_difference
from lettingo_features.feast_schema import fields
from lettingo_features.home import Home
from lettingo_features.profiles.imported import ImportConfig, import_profiles
from lettingo_features.training_set import build_training_set
from lettingo_features.windows import WindowConfig

REPO = Path(__file__).resolve().parents[1] / "feature_repo"
GOLDEN = Path(__file__).parent / "golden" / "registry.json"

TABLES = {  # view -> the schema that its table is written with
    "interactions": columns.INTERACTIONS,
    "user_behaviour_v1": columns.USER_BEHAVIOUR,
    "item_behaviour_v1": columns.ITEM_BEHAVIOUR,
    "user_profile_text_v0": columns.USER_PROFILE_TEXT,
    "user_profile_text_v1": columns.USER_PROFILE_TEXT,
    "user_profile_meta_v0": columns.USER_PROFILE_META,
    "user_profile_meta_v1": columns.USER_PROFILE_META,
    "user_profile_embedding_v0_minilm_l6_v2": columns.USER_PROFILE_EMBEDDING,
    "user_profile_embedding_v1_minilm_l6_v2": columns.USER_PROFILE_EMBEDDING,
    "item_text_embedding_minilm_l6_v2": columns.ITEM_TEXT,
    "user_profile_embedding_v1_minilm_l6_v2_int8": columns.USER_PROFILE_EMBEDDING,
    "item_text_embedding_minilm_l6_v2_int8": columns.ITEM_TEXT,
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    monkeypatch.setenv("LETTINGO_HOME", str(tmp_path))
    return Home(tmp_path).create()


@pytest.fixture
def store(home):
    from feast import FeatureStore

    return FeatureStore(repo_path=str(REPO))


def apply(store, contents) -> None:
    store.apply(
        [
            *contents.projects,
            *contents.entities,
            *contents.data_sources,
            *contents.feature_views,
            *contents.feature_services,
        ]
    )


def description(store) -> dict:
    """Names and types of everything registered: paths and times left out."""
    from feast.feature_view import DUMMY_ENTITY_NAME

    return {
        "project": store.project,
        "entities": {
            entity.name: [entity.join_key, entity.value_type.name]
            for entity in store.list_entities()
            if entity.name != DUMMY_ENTITY_NAME
        },
        "views": {
            view.name: {
                "entities": view.entities,
                "online": view.online,
                "ttl_days": view.ttl.days,
                "times": [view.batch_source.timestamp_field, view.batch_source.created_timestamp_column],
                "features": {feature.name: str(feature.dtype) for feature in view.features},
                "vector_lengths": {f.name: f.vector_length for f in view.features if f.vector_length},
            }
            for view in store.list_feature_views()
        },
        "services": {
            service.name: [projection.name for projection in service.feature_view_projections]
            for service in store.list_feature_services()
        },
    }


def test_registry_is_the_golden_one(store):
    apply(store, declared(REPO))
    found = description(store)
    if os.environ.get("GOLDEN_UPDATE"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def test_views_are_their_tables(home):
    views = {view.name: view for view in declared(REPO).feature_views}
    assert views.keys() == TABLES.keys()
    for name, schema in TABLES.items():
        declared_features = {feature.name: feature.dtype for feature in views[name].schema}
        written = {feature.name: feature.dtype for feature in fields(schema)}
        assert declared_features == written, name
        assert views[name].source.path == str(home.table_dir(name))


def test_names_of_features_do_not_collide_in_a_service(home):
    contents = declared(REPO)
    for service in contents.feature_services:
        names = [name for p in service.feature_view_projections for name in fields_of(contents, p.name)]
        assert len(names) == len(set(names)), service.name


def fields_of(contents, view_name: str) -> list[str]:
    (view,) = (view for view in contents.feature_views if view.name == view_name)
    return [feature.name for feature in view.schema]


def test_home_is_not_set(monkeypatch):
    monkeypatch.delenv("LETTINGO_HOME", raising=False)
    with pytest.raises(ConfigError, match=r"export LETTINGO_HOME=\$PWD/\.lettingo"):
        declared(REPO)


@pytest.mark.parametrize("file", ["feature_store.yaml", "feature_store.production.yaml"])
def test_home_is_not_set_when_a_configuration_is_read(file, monkeypatch):
    from feast.repo_config import load_repo_config

    monkeypatch.delenv("LETTINGO_HOME", raising=False)
    monkeypatch.setenv("LETTINGO_REGISTRY", "postgresql+psycopg://host/lettingo")
    monkeypatch.setenv("LETTINGO_REDIS", "host:6379")
    with pytest.raises(ConfigError, match="LETTINGO_HOME is not set: export LETTINGO_HOME"):
        load_repo_config(REPO, REPO / file)


def test_feast_says_in_one_line_that_home_is_not_set(monkeypatch):
    monkeypatch.delenv("LETTINGO_HOME", raising=False)
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(REPO), "apply"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "export LETTINGO_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_vectors_of_another_encoder_in_a_view_are_noticed(store, home):
    apply(store, declared(REPO))
    table = "item_text_embedding_minilm_l6_v2"
    schema = columns.ITEM_TEXT
    row = {name: [None] for name in schema.names} | {"item_id": ["i1"], columns.ITEM_TEXT_EMBEDDING: [[0.5] * 384]}
    home.write_part(table, "right", pa.table(row, schema=schema), schema)
    check_vectors(store, home)
    row[columns.ITEM_TEXT_EMBEDDING] = [[0.5] * 256]
    home.write_part(table, "wrong", pa.table(row, schema=schema), schema)
    with pytest.raises(EncoderMismatchError, match=f"'{table}' declares vectors of length 384, its table holds 256"):
        check_vectors(store, home)


def test_a_release_in_the_home_declares_its_views_and_services(home):
    facts = {"encoder": "other_1f0c", "vector_length": 256}
    (home.root / "releases").mkdir()
    (home.root / "releases" / "imported_a.json").write_text(json.dumps(facts))
    (home.root / "releases" / "v1.json").write_text(json.dumps(facts))  # declared in views.py already
    contents = declared(REPO)
    views = {view.name: view for view in contents.feature_views}
    assert {name for name in views if name not in TABLES} == {
        "user_profile_text_imported_a",
        "user_profile_meta_imported_a",
        "user_profile_embedding_imported_a_other_1f0c",
    }
    (vectors,) = [f for f in views["user_profile_embedding_imported_a_other_1f0c"].schema if f.vector_length]
    assert vectors.vector_length == 256
    services = {service.name for service in contents.feature_services}
    assert {"ranker_profile_imported_a", "profile_text_imported_a"} <= services


def test_each_import_of_texts_written_elsewhere_gets_views_and_services(home):
    cutoff = datetime(2026, 2, 1, tzinfo=UTC)
    met = [["u1"], ["i1"], [cutoff - timedelta(days=1)], [cutoff], [4.0], [None], [None]]
    home.write_part("interactions", "p", pa.table(met, schema=columns.INTERACTIONS), columns.INTERACTIONS)

    class Encoder:
        encoder_id, dim = "other", 2

        def encode(self, texts):
            return np.ones((len(texts), self.dim), np.float32)

    names = ("gpt", "claude", "llama")
    for name in names:
        told = ImportConfig(release=name, generator=name, cutoff=cutoff, window=WindowConfig(days=30))
        assert import_profiles(home, told, ["u1"], [f"By {name}."], Encoder()).written == 1
    contents = declared(REPO)
    kinds = ("user_profile_text_{}", "user_profile_meta_{}", "user_profile_embedding_{}_other")
    assert {kind.format(name) for kind in kinds for name in names} <= {view.name for view in contents.feature_views}
    wanted = {f"{kind}_{name}" for kind in ("ranker_profile", "profile_text") for name in names}
    assert wanted <= {service.name for service in contents.feature_services}


def test_the_alias_services_follow_the_champion(store, home):
    (home.root / "releases").mkdir()
    for name in ("v2", "v3"):
        facts = {"encoder": "minilm_l6_v2" if name == "v2" else "other_1f0c", "vector_length": 384}
        (home.root / "releases" / f"{name}.json").write_text(json.dumps(facts))
    apply(store, declared(REPO))
    for champion, item_text in (("v1", True), ("v2", True), ("v3", False), ("v0", True)):
        write_served(home.root, Served(champion))
        aliases = [service for service in declared(REPO).feature_services if ALIAS_TAG in service.tags]
        store.apply(aliases)
        assert registry_difference(store, REPO) == []
        found = {service.name: service for service in store.list_feature_services() if ALIAS_TAG in service.tags}
        assert {service.tags[ALIAS_TAG] for service in found.values()} == {champion}
        for alias, service in found.items():
            one = [(p.name, p.name_alias) for p in service.feature_view_projections if "profile" in p.name]
            assert all(f"_{champion}" in view and view_alias.endswith("_champion") for view, view_alias in one), alias
        (ranker,) = (service for name, service in found.items() if name.startswith("ranker"))
        assert ("item_text_embedding_minilm_l6_v2" in {p.name for p in ranker.feature_view_projections}) is item_text


def test_an_abandoned_release_is_no_longer_declared(home):
    (home.root / "releases").mkdir()
    facts = {"encoder": "minilm_l6_v2", "vector_length": 384}
    (home.root / "releases" / "v2.json").write_text(json.dumps(facts))
    write_served(home.root, Served("v1", ("v2",)))
    contents = declared(REPO)
    assert {view.name for view in contents.feature_views} == TABLES.keys()
    assert not [service.name for service in contents.feature_services if service.name.endswith("_v2")]


def test_nobody_trains_on_an_alias(store):
    apply(store, declared(REPO))
    labels = pa.table({"user_id": ["u1"], "item_id": ["i1"], "event_timestamp": ["2026-01-01"]})
    with pytest.raises(ConfigError, match="train on the service of one release, today ranker_profile_v1"):
        build_training_set(store, labels, "ranker_profile_champion")


def test_another_home_is_seen_at_once(home, tmp_path, monkeypatch):
    declared(REPO)
    monkeypatch.setenv("LETTINGO_HOME", str(tmp_path / "other"))
    assert all("other" in source.path for source in declared(REPO).data_sources)


def test_registry_up_to_date(store):
    apply(store, declared(REPO))
    check_registry(store, REPO)


def test_materialised_registry_is_still_up_to_date(store):
    from datetime import UTC, datetime

    apply(store, declared(REPO))
    store.materialize_incremental(datetime(2026, 1, 1, tzinfo=UTC), feature_views=["user_profile_text_v1"])
    check_registry(store, REPO)


def test_registry_never_applied(store):
    with pytest.raises(RegistryError, match=r"out of date in \d+ object.*is not applied.*feast -c .* apply"):
        check_registry(store, REPO)


def test_registry_out_of_date(store):
    contents = declared(REPO)
    for view in contents.feature_views:
        if view.name == "user_behaviour_v1":
            view.features.pop()  # an older repository lacked the last feature ...
    contents = contents._replace(
        feature_services=[s for s in contents.feature_services if s.name != "profile_text_v1"]  # ... and a service
    )
    apply(store, contents)
    differences = registry_difference(store, REPO)
    assert "feature service profile_text_v1 is not applied" in differences
    assert any("feature view user_behaviour_v1 differs in features" in line for line in differences)
    assert not any("user_profile_text_v0" in line for line in differences)


def test_python_import_resolves_the_bare_names(home):
    import subprocess
    import sys

    check = "import feature_repo.services as s; print(s.ranker_profile_v1.name)"
    done = subprocess.run([sys.executable, "-c", check], cwd=REPO.parent, capture_output=True, text=True)
    assert done.stdout.strip() == "ranker_profile_v1", done.stderr
