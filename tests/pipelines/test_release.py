"""``lettingo release`` without Feast: what is registered, planned and refused. `test_release_serving` has the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from lettingo_features.columns import INTERACTIONS, USER_PROFILE_META
from lettingo_features.errors import ConfigError, ReleaseError
from lettingo_features.generation.model_files import adapter_name, model_hash
from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuildConfig
from lettingo_features.profiles.release import Release
from lettingo_features.release_records import Plan
from lettingo_features.windows import WindowConfig
from pipelines.release import open_registry, release, run_promote, run_register
from pipelines.release_steps import make_plan, promotion_steps
from pipelines.writers import WriterOptions

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PASSED = {"decision": "promote", "reasons": ["better"]}
CUTOFFS = [T0 + timedelta(days=30), T0 + timedelta(days=60)]


@pytest.fixture
def home(tmp_path) -> Home:
    """A home with a built v1, as far as files say."""
    home = Home(tmp_path / "home").create()
    window = WindowConfig(days=90).model_dump(mode="json")
    config = ProfileBuildConfig().model_dump(mode="json", exclude={"chunk_size", "memory_limit", "refresh"})
    facts = {"config": config | {"window": window}, "warm": "g1", "warm_name": "embedded-lm"}
    (home.root / "releases").mkdir()
    told = facts | {"encoder": "minilm_l6_v2", "vector_length": 384, "rating_max": 5.0, "finished": []}
    (home.root / "releases" / "v1.json").write_text(json.dumps(told))
    times = [T0, T0 + timedelta(days=61, microseconds=7)]
    rows = {"user_id": ["u", "u"], "item_id": ["a", "b"], "event_timestamp": times, "created_timestamp": times}
    home.write_part("interactions", "p", filled(rows, INTERACTIONS), INTERACTIONS)
    meta = {"user_id": ["u", "w", "u"], "event_timestamp": [*CUTOFFS, CUTOFFS[1]], "created_timestamp": [T0] * 3}
    home.write_part("user_profile_meta_v1", "p", filled(meta, USER_PROFILE_META), USER_PROFILE_META)
    return home


def filled(columns: dict, schema: pa.Schema) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({field.name: pa.array(columns.get(field.name, [None] * n), field.type) for field in schema})


@pytest.fixture
def registry(home):
    with open_registry(home) as registry:
        yield registry


@pytest.fixture
def model(tmp_path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def test_the_first_registration_adopts_what_the_home_serves(home, registry, model):
    row = run_register(home, registry, "v2", WriterOptions(model=str(model)), verdict=PASSED)
    assert (row.state, row.parent, row.model, row.decision) == ("candidate", "v1", str(model), "promote")
    assert row.settings["config"]["window"]["days"] == 90  # its parent's
    assert row.settings["config"]["release"] == "v2"
    champion = registry.champion()
    assert (champion.name, champion.generator_id) == ("v1", "g1")
    assert champion.writer["engine"] == "transformers"  # known, as the quick start built it
    assert [(flip.kind, flip.published_at is None) for flip in registry.history()] == [("adopt", False)]


def test_a_v1_that_another_generator_wrote_must_be_told_before_it_returns(home, registry, model):
    path = home.root / "releases" / "v1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warm_name": "gpt"}))
    run_register(home, registry, "v2", WriterOptions(model=str(model)), verdict=PASSED)
    assert registry.champion().writer is None
    with pytest.raises(ReleaseError, match="nothing says how to write more of it"):
        run_promote(home, registry, "v1")


def test_relative_directories_are_kept_whole(home, registry, model, monkeypatch):
    monkeypatch.chdir(model.parent)
    row = run_register(home, registry, "v2", WriterOptions(model="model"))
    assert row.model == row.writer["model"] == str(model)


def test_secrets_and_settings_of_a_run_are_not_kept(home, registry, model):
    writer = WriterOptions(model=str(model), ledger="postgresql://u:pa55word@h/l", budget=3.0, price_in=1.0)
    row = run_register(home, registry, "v2", writer)
    assert "pa55word" not in json.dumps(row.writer)
    assert not {"ledger", "budget"} & row.writer.keys()


def test_an_adapter_is_named_by_its_content(home, registry, model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    (adapter / "adapter_model.safetensors").write_bytes(b"low rank")
    told = {"engine": "vllm", "model": str(model), "adapter": str(adapter)}
    named = adapter_name(str(adapter))
    assert run_register(home, registry, "v2", WriterOptions(**told)).adapter == named
    served = run_register(home, registry, "v3", WriterOptions(engine="openai", model=named))
    assert served.adapter == named
    (adapter / "adapter_model.safetensors").write_bytes(b"other rank")
    with pytest.raises(ReleaseError, match="v2 is registered as another generator: adapter differ"):
        run_register(home, registry, "v2", WriterOptions(**told))


def test_an_adapter_that_is_merged_stays_with_its_release(home, registry, model, tmp_path):
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    base.mkdir()
    (base / "config.json").write_text("{}")
    merged = {"adapter": str(adapter), "base": str(base)}
    writer = WriterOptions(model=str(model))
    row = run_register(home, registry, "v2", writer, merged=merged)
    assert row.adapter == adapter_name(str(adapter))
    assert (row.settings["adapter"], row.settings["files"]) == ({"base": model_hash(str(base))}, merged)
    assert WriterOptions(**row.writer) == writer  # the merged model writes; the adapter is for a server of its base
    assert run_register(home, registry, "v2", writer, merged=merged).settings == row.settings
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    with pytest.raises(ReleaseError, match="v2 is registered as another generator: adapter differ"):
        run_register(home, registry, "v2", writer, merged=merged)


def test_a_release_is_what_its_files_hold_wherever_they_lie(home, registry, model, tmp_path):
    def registered(where: Path):
        merged = {name: str(where / name) for name in ("adapter", "base")}
        return run_register(home, registry, "v2", WriterOptions(model=str(where / "model")), merged=merged)

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    for name in ("adapter", "base"):
        (first / name).mkdir()
        (first / name / "config.json").write_text(name)
    model.rename(first / "model")
    row = registered(first)
    first.rename(second)
    again = registered(second)
    assert (again.revision, again.adapter, again.settings["adapter"]) == (
        row.revision,
        row.adapter,
        row.settings["adapter"],
    )
    assert again.model == str(second / "model")  # told anew
    assert again.settings["files"] == {name: str(second / name) for name in ("adapter", "base")}
    (second / "base" / "config.json").write_text("another base")
    with pytest.raises(ReleaseError, match="v2 is registered as another generator: settings differ"):
        registered(second)


def test_a_model_that_changed_since_is_refused(home, registry, model):
    row = run_register(home, registry, "v2", WriterOptions(model=str(model)), verdict=PASSED)
    (model / "model.safetensors").write_bytes(b"trained on")
    plan = Plan(champion="v1", cutoffs=tuple(CUTOFFS), live=CUTOFFS[1], why="")
    with pytest.raises(ReleaseError, match=rf"is not what was registered: revision of {model} changed since"):
        promotion_steps(home, registry)["backfill"](row, plan)


def test_imported_texts_have_no_generator_to_promote(home, registry):
    (home.root / "releases" / "gpt.json").write_text(json.dumps({"imported": {}, "encoder": "e", "vector_length": 1}))
    with pytest.raises(ReleaseError, match=r"The texts of gpt were written elsewhere.*profile_text_gpt answer"):
        run_register(home, registry, "gpt", WriterOptions())


def test_no_release_takes_the_name_of_the_alias(home):
    with pytest.raises(ConfigError, match="No release may be called champion"):
        Release(home, "champion").register({}, lambda: 5.0)


AFTER_NEWEST = T0 + timedelta(days=61, seconds=1)  # the first whole second after the newest interaction
GIVEN = [T0 + timedelta(days=40)]
PLANS = [  # cutoffs given  live given   cutoffs planned  live planned
    (None, None, CUTOFFS, AFTER_NEWEST),
    (GIVEN, None, GIVEN, AFTER_NEWEST),
    (None, GIVEN[0], CUTOFFS, GIVEN[0]),
]


@pytest.mark.parametrize(("cutoffs", "live", "planned", "planned_live"), PLANS)
def test_plans(home, registry, model, cutoffs, live, planned, planned_live):
    run_register(home, registry, "v2", WriterOptions(model=str(model)))
    plan = make_plan(home, registry.champion(), "why", cutoffs, live)
    assert (plan.champion, list(plan.cutoffs), plan.live) == ("v1", planned, planned_live)


def test_a_plan_without_a_champion_needs_cutoffs(home):
    with pytest.raises(ReleaseError, match="give --start, --end and --every"):
        make_plan(home, None, "why", None, None)
    assert make_plan(home, None, "why", GIVEN, None).champion is None


def called(home: Home, *arguments: str) -> str:
    """Standard output of a command, run in this process."""
    return CliRunner().invoke(release, [*arguments, "--home", str(home.root)], catch_exceptions=False).output


def test_the_commands(home, model, tmp_path):
    listed = json.loads(called(home, "list", "--json"))
    assert (listed["champion"], listed["unregistered"], listed["releases"]) == ("v1", ["v1"], [])
    assert "v1           champion   not registered" in called(home, "list")
    assert called(home, "register", "v2", "--model", str(model)).startswith("release v2: candidate")
    (tmp_path / "verdict.json").write_text(json.dumps({"decision": "hold", "reasons": ["too few users"]}))
    judged = json.loads(called(home, "register", "v2", "--gate", str(tmp_path / "verdict.json"), "--json"))
    assert (judged["verdict"]["reasons"], judged["model"]) == (["too few users"], str(model))
    with pytest.raises(ReleaseError, match="nothing to roll back to"):
        called(home, "rollback")
    with pytest.raises(ReleaseError, match="cannot be read"):
        called(home, "register", "v2", "--gate", str(tmp_path / "nowhere.json"))
    listed = json.loads(called(home, "list", "--json"))
    assert {row["name"]: row["state"] for row in listed["releases"]} == {"v1": "champion", "v2": "candidate"}
    assert (listed["promoter"], listed["alias_services"], listed["unregistered"]) == (None, "v1", [])


def test_a_refusal_is_one_paragraph_and_exit_code_2(home, registry, model):
    run_register(home, registry, "v2", WriterOptions(model=str(model)))
    command = [sys.executable, "-m", "pipelines.cli", "release", "promote", "v2", "--home", str(home.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "it passed no gate yet" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
