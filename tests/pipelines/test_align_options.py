"""What the alignment commands are told and refuse, without running a step."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from click.testing import CliRunner

from lettingo_features.columns import INTERACTIONS
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home
from lettingo_features.profiles.generator import STYLES
from pipelines.align import _require_data, align
from pipelines.align_files import AlignmentRun
from pipelines.align_loop import _require_trainable
from pipelines.align_options import RunOptions, loop_config, open_run, read_candidates
from pipelines.ingest import run_ingest
from pipelines.writers import WriterOptions
from tests.alignment.small_world import interactions

ENCODER = SimpleNamespace(encoder_id="e", config=SimpleNamespace(model="m"), encode=len)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    root = tmp_path_factory.mktemp("options")
    write_world(SyntheticWorld(WorldConfig(n_users=120, n_items=150, interactions_per_user=30)), root / "world")
    made = Home(root / "home").create()
    run_ingest(made, [str(root / "world")])
    return made


def begun(home: Home, name: str, **options) -> AlignmentRun:
    told = {"config": loop_config(RunOptions()), "writer": WriterOptions(), "encoder": ENCODER} | options
    return AlignmentRun(home, name, told["config"], told["writer"], told["encoder"], elsewhere=told.get("elsewhere"))


@pytest.mark.parametrize("reader", ["words", "encoder"])
def test_the_gate_never_reads_as_the_reward_does(home, reader):
    run = begun(home, f"reads-{reader}", config=loop_config(RunOptions(reader=reader)))
    vars(run)["words"] = words = SimpleNamespace()  # in place of those of a catalogue
    by = {"words": words, "encoder": ENCODER.encode}
    assert run.reader() is by.pop(reader)
    assert [run.reader(other=True)] == [*by.values()]


def test_a_file_goes_over_the_fast_form_which_goes_over_the_defaults(tmp_path):
    path = tmp_path / "loop.json"
    effect = {"matched": {"share": 0.1}}
    path.write_text(json.dumps({"frame": {"max_fit": 7}, "gate": {"minimum_effects": effect}}))
    made = loop_config(RunOptions(config=str(path), fast=True, seed=5, reader="encoder"))
    assert (made.frame.max_fit, made.frame.max_explored, made.frame.min_interactions) == (7, 150, 5)
    assert made.gate.minimum_effects["matched"].share == 0.1  # in place of the default's absolute one, not beside it
    assert {made.frame.seed, made.explore.seed, made.reward.seed, made.dpo.seed, made.gate.seed} == {5}
    assert made.reader == "encoder"


@pytest.mark.parametrize(
    ("judge", "told", "styles"),
    [
        (None, {}, ("narrative",)),
        ("sentiment", {"judge_model": "m"}, STYLES),  # LettinGo explores without a format
        ("sentiment", {"judge_model": "m", "config": {"explore": {"styles": ["brief"]}}}, ("brief",)),
    ],
)
def test_which_styles_are_explored(tmp_path, judge, told, styles):
    if "config" in told:
        path = tmp_path / "loop.json"
        path.write_text(json.dumps(told["config"]))
        told = told | {"config": str(path)}
    assert loop_config(RunOptions(judge=judge, **told)).explore.styles == styles


@pytest.mark.parametrize(("content", "says"), [("[1]", "no JSON object"), ("{", "cannot be read as JSON")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, says):
    path = tmp_path / "loop.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        loop_config(RunOptions(config=str(path)))


@pytest.mark.parametrize("name", ["../a1", "", "a/b", ".hidden"])
def test_a_run_stays_in_its_home(home, name):
    with pytest.raises(ConfigError, match="no name of a directory"):
        begun(home, name)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"config": loop_config(RunOptions(seed=1))}, r"another config.dpo.seed, .*, config.sft.seed, see"),
        ({"encoder": SimpleNamespace(encoder_id="f", config=SimpleNamespace(model="n"))}, "another encoder"),
        ({"writer": WriterOptions(prompt="lettingo-1")}, "another prompt"),
        (
            {"elsewhere": [("gpt", pa.table({"user_id": ["u1"], "text": ["t"], "window_end": [None]}))]},
            "another candidates",
        ),
    ],
)
def test_a_run_goes_on_only_as_it_began(home, changed, says):
    name = next(iter(changed))
    run = begun(home, name)
    run._held.close()
    with pytest.raises(ConfigError, match=says):
        begun(home, name, **changed)


@pytest.fixture
def opened(home, monkeypatch):
    """Opens a run as a command does, and lets it go."""

    def made(home, name):
        return SimpleNamespace(encoder_id=name, config=SimpleNamespace(model=name))

    monkeypatch.setattr("pipelines.profiles.make_encoder", made)

    def open_as(name: str, **told) -> AlignmentRun:
        run = open_run(home, RunOptions(name, **told), True)
        run._held.close()
        return run

    return open_as


@pytest.fixture
def written(tmp_path):
    def write(fields: dict) -> str:
        path = tmp_path / "loop.json"
        path.write_text(json.dumps(fields))
        return str(path)

    return write


def test_a_step_without_settings_goes_on_with_those_of_the_run(opened, written):
    told = {"config": written({"explore": {"n_candidates": 3}}), "fast": True, "seed": 4}
    told |= {"prompt": "lettingo-1", "encoder": "other"}
    first = opened("kept", **told)
    for again in ({}, told, {"seed": 4}, {"config": told["config"]}, {"prompt": "lettingo-1"}):
        run = opened("kept", **again)
        assert run.config == first.config
        assert run.writer == first.writer


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"seed": 5}, "another config.dpo.seed"),
        ({"fast": True}, "another config.dpo.kl_prompts, .*config.frame.max_explored"),
        ({"reader": "encoder"}, "another config.reader"),
        ({"judge": "sentiment", "judge_model": "m"}, "begun with the judge ranking"),
        ({"judge_model": "m"}, "belong to --judge sentiment"),
        ({"prompt": "lettingo-1"}, "another prompt"),
        ({"encoder": "other"}, "another encoder"),
    ],
)
def test_a_step_that_contradicts_its_run_is_refused(opened, told, says):
    opened("plain", seed=4)
    with pytest.raises(ConfigError, match=says):
        opened("plain", **told)


def test_the_server_of_a_judge_may_move_and_its_model_may_not(opened):
    served = {"judge": "sentiment", "judge_engine": "openai", "judge_model": "m"}
    opened("served", **served, judge_url="http://one/v1")
    moved = opened("served", judge_url="http://two/v1")
    assert moved.config.pairs.mode == "faithful"  # LettinGo's judge, LettinGo's pairs
    assert opened("served").config.sentiment.base_url == "http://two/v1"
    with pytest.raises(ConfigError, match=r"another config\.sentiment\.model"):
        opened("served", judge_model="n")


@pytest.mark.parametrize("step", ["reward", "pairs", "train", "gate", "report"])
def test_a_step_begins_no_run(home, step):
    done = CliRunner().invoke(align, [step, "--name", "typo", "--home", str(home.root)])
    assert isinstance(done.exception, ConfigError)
    assert "There is no run typo" in str(done.exception)
    assert not (home.alignment / "typo").exists()


def test_texts_of_others_are_kept_with_the_run(opened, tmp_path):
    path = tmp_path / "gpt.csv"
    path.write_text("user_id,text,window_end\nu1,Likes noir.,2024-03-01\n")
    opened("others", candidates=(f"gpt={path}",))
    path.unlink()
    [(name, rows)] = opened("others").elsewhere()
    end = datetime(2024, 3, 1, tzinfo=UTC)
    assert name == "gpt"
    assert rows.drop_columns("writer").to_pylist() == [{"user_id": "u1", "text": "Likes noir.", "window_end": end}]
    path.write_text("user_id,text,window_end\nu1,Likes noir.,2024-03-02\n")
    with pytest.raises(ConfigError, match="another candidates"):
        opened("others", candidates=(f"gpt={path}",))


def test_older_interactions_amid_a_run_end_it_and_newer_ones_do_not(tmp_path):
    write_world(SyntheticWorld(WorldConfig(n_users=120, n_items=150, interactions_per_user=30)), tmp_path / "world")
    home = Home(tmp_path / "home").create()
    run_ingest(home, [str(tmp_path / "world")])
    run = begun(home, "amid")
    users = [*run.frame.explored.to_pylist()[:2], run.frame.gate.to_pylist()[0]]
    newer = [(user, "new", run.frame.end + timedelta(days=1), 5.0) for user in users]
    home.write_part("interactions", "newer", interactions(newer), INTERACTIONS)
    with run.step("explore", "diversity.json") as is_due:
        assert is_due
    older = [(user, "old", run.frame.reward_cutoff - timedelta(days=1), 5.0) for user in users]
    home.write_part("interactions", "older", interactions(older), INTERACTIONS)
    says = r"the windows of 3 of its \d+ users are others now.*another --name"
    with pytest.raises(DataError, match=says), run.step("reward", "reward.json"):
        pass
    run.write_json("reward.json", {})
    with run.step("reward", "reward.json") as is_due:
        assert not is_due  # what is done stays readable
    run._held.close()


def test_two_processes_do_not_work_on_one_run(home):
    first = begun(home, "twice")
    with pytest.raises(ConfigError, match="Another process works on the run twice"):
        begun(home, "twice")
    first._held.close()
    begun(home, "twice")._held.close()


def test_a_run_starts_from_the_champion_and_goes_on_with_what_it_began(home, monkeypatch, tmp_path):
    import pipelines.profiles as profiles
    import pipelines.release as release
    from lettingo_features.profiles.local_model import embedded_model

    released = tmp_path / "released"
    released.symlink_to(embedded_model())
    champion = SimpleNamespace(champion=lambda: SimpleNamespace(writer={"model": str(released)}), close=lambda: None)
    monkeypatch.setattr("lettingo_features.releases.ReleaseRegistry", lambda url: champion)
    monkeypatch.setattr(profiles, "make_encoder", lambda home, encoder: ENCODER)
    run = open_run(home, RunOptions("from-champion"), True)
    assert run.base == released
    run._held.close()
    champion.champion = lambda: None
    assert release.alignment_url(home) == home.alignment_url
    again = open_run(home, RunOptions("from-champion"), True)
    assert again.base == released
    again._held.close()
    other = open_run(home, RunOptions("from-nothing"), True)
    assert other.base == embedded_model()
    other._held.close()


def test_nobody_gets_a_synthetic_world_who_did_not_ask(tmp_path):
    home = Home(tmp_path / "home").create()
    with pytest.raises(ConfigError, match="has no interactions: give --data DIR"):
        _require_data(home, None, None, fast=False, world=False)
    assert not home.parts("interactions")


@pytest.mark.parametrize("given", ["gpt", "=file.csv", "gpt="])
def test_candidates_need_a_name_and_a_file(given):
    with pytest.raises(ConfigError, match="no NAME=FILE"):
        read_candidates((given,))


@pytest.mark.parametrize(
    ("schema", "styles", "says"),
    [("{}", ("narrative",), "trains free text"), (None, ("narrative", "brief"), "knows no styles")],
)
def test_what_the_loop_cannot_train_is_refused(schema, styles, says):
    with pytest.raises(ConfigError, match=says):
        _require_trainable(SimpleNamespace(json_schema=schema), styles)
