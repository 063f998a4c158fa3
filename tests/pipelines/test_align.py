"""The alignment loop end to end on a small world: its files, its controls, and what kills leave of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.gate import GateConfig, MinimumEffect, PairedMetric, decide
from lettingo_features.alignment.gate_scores import MATCHED, REWARD
from lettingo_features.alignment.pair_store import PairStore
from lettingo_features.alignment.pairs import shuffled
from lettingo_features.alignment.sentiment import CLASSES
from lettingo_features.alignment.verdict import Decision
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.generation.model_files import adapter_name, model_hash
from lettingo_features.home import Home
from lettingo_features.profiles.local_model import embedded_model
from lettingo_features.releases import ReleaseRegistry
from pipelines.ingest import run_ingest
from tests.generation.fake_openai import FakeOpenAI

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

SMALL = {
    "frame": {"max_fit": 40, "max_explored": 40, "max_gate": 60},
    "explore": {"n_candidates": 4},
    "reward": {"n_matched": 100, "n_others": 40},
    "pairs": {"noise_factor": 0.0},
    "dpo": {"dpo": {"num_train_epochs": 1}, "kl_prompts": 4},
    "sft": {"kl_prompts": 4},
    "evaluator": {"topics": 16, "ranker": {"trees": 10}},
    "gate": {"permutations": 199, "resamples": 200},
}
TABLES = ("candidates.parquet", "prompts.parquet", "rewards.parquet", "pairs.parquet")
KILLS = {  # file -> what it ends or begins; the run is killed as soon as it is there
    "frame/explored.parquet": "the frame",
    "fit_texts.parquet": "exploration",
    "rewards.parquet": "the reward",
    "pairs.parquet": "the pairs",
    "dpo/training.csv": "preference training",
    "sft/training.csv": "supervised training",
    "gate/texts.parquet": "the gate",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("aligned") / "world"
    write_world(SyntheticWorld(WorldConfig(n_users=220, n_items=300, interactions_per_user=30, seed=5)), directory)
    return directory


def start(home: Path, world: Path, name: str = "a1", arguments: tuple[str, ...] = (), **more) -> subprocess.Popen:
    home.mkdir(parents=True, exist_ok=True)
    config = home / f"{name}.json"
    config.write_text(json.dumps(SMALL | more))
    told = ["--home", str(home), "--data", str(world), "--name", name, "--config", str(config), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "align", "run", *told, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(home: Path, world: Path, name: str = "a1", arguments: tuple[str, ...] = (), **more) -> dict:
    process = start(home, world, name, arguments, **more)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    home = tmp_path_factory.mktemp("whole") / "home"
    return home, finish(home, world)


def test_a_run_leaves_its_files_and_a_report(finished):
    home, facts = finished
    directory = Home(home).alignment / "a1"
    assert facts["decision"] in list(Decision)
    assert all((directory / name).is_file() for name in TABLES)
    assert set(facts["steps"]) == {"explore", "reward", "pairs", "dpo", "sft", "gate"}
    assert facts["decision"] in Path(facts["report"]).read_text().lower()
    arms = {row["arm"] for row in json.loads((directory / "gate" / "table.json").read_text())}
    assert arms >= {"base", "sft", "aligned", "statistical", "no profile", "aligned, shuffled"}


def test_the_same_command_again_changes_nothing(finished, world):
    home, facts = finished
    directory = Home(home).alignment / "a1"
    before = {path: path.read_bytes() for name in TABLES for path in [directory / name]}
    assert finish(home, world)["decision"] == facts["decision"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_release_is_registered_with_its_verdict_once(finished, world):
    home, facts = finished
    for _ in range(2):
        assert finish(home, world, arguments=("--release", "v2"))["release"] == "v2"
    with closing(ReleaseRegistry(Home(home).alignment_url)) as registry:
        [release] = [one for one in registry.all() if one.name == "v2"]
    assert release.decision == facts["decision"]
    assert release.model == str(Home(home).alignment / "a1" / "dpo" / "model")
    assert release.verdict["released_revision"] == model_hash(str(embedded_model()))
    with closing(ReleaseRegistry(Home(home).alignment_url)) as registry:
        registry.abandon("v2")
    again = finish(home, world, arguments=("--release", "v2", "--promote"))
    assert (again["state"], again["promoted"]) == ("abandoned", False)  # what a person decided stands


def test_a_run_with_lora_registers_its_adapter_by_content(finished, world):
    home, _ = finished
    dpo = SMALL["dpo"] | {"lora": {"r": 2, "target_modules": "all-linear"}}
    finish(home, world, "lora", ("--release", "v9"), dpo=dpo)
    directory = Home(home).alignment / "lora" / "dpo"
    with closing(ReleaseRegistry(Home(home).alignment_url)) as registry:
        release = registry.get("v9")
    assert release.adapter == adapter_name(str(directory / "adapter"))
    assert release.settings["adapter"] == {"base": model_hash(str(embedded_model()))}
    assert release.settings["files"] == {"adapter": str(directory / "adapter"), "base": str(embedded_model())}
    assert release.model == str(directory / "model")


def test_another_configuration_under_the_same_name_is_refused(finished, world):
    home, _ = finished
    process = start(home, world, explore={"n_candidates": 5})
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "another config" in errors


def test_the_fast_form_runs_as_it_is(tmp_path):
    told = ["--fast", "--home", str(tmp_path / "home"), "--json"]
    command = [sys.executable, "-m", "pipelines.cli", "align", "run", *told]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_200)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    controls = json.loads((Path(facts["run"]) / "reward.json").read_text())["controls"]
    assert abs(controls["shuffled"]) < controls["candidates"] / 2  # what explored users earn is their own
    table = json.loads((Path(facts["run"]) / "gate" / "table.json").read_text())
    gained = {row["arm"]: row for row in table if row["metric"] == REWARD}
    by_another = {row["arm"]: row for row in table if row["metric"] == MATCHED}
    for found in (gained, by_another):  # the reward itself and another reader, of users and times that nothing has seen
        assert found["aligned"]["difference"] > 0
        assert found["aligned"]["p"] < 0.01
    assert abs(gained["aligned, shuffled"]["mean"]) < gained["base"]["mean"] / 2


def test_profiles_of_other_users_are_not_promoted(finished):
    home, _ = finished
    scores = pq.read_table(Home(home).alignment / "a1" / "gate" / "scores.parquet")

    def values(arm: str) -> np.ndarray:
        rows = scores.filter(pc.and_(pc.equal(scores["arm"], arm), pc.equal(scores["metric"], MATCHED)))
        return rows.sort_by("user_id")["value"].to_numpy()

    config = GateConfig(minimum_effects={MATCHED: MinimumEffect(absolute=0.01)}, permutations=999, resamples=500)
    for arm in ("aligned, shuffled", "base, shuffled", "no profile"):
        verdict = decide([PairedMetric(MATCHED, values(arm), values("base"))], (), config)
        assert verdict.decision == Decision.REJECT, arm


def test_pairs_with_shuffled_labels_are_not_promoted(finished, world):
    home, _ = finished
    facts = finish(home, world, "shuffled", shuffle_labels=True)
    assert facts["decision"] != Decision.PROMOTE
    rows = pq.read_table(Home(home).alignment / "shuffled" / "pairs.parquet")
    true = pq.read_table(Home(home).alignment / "a1" / "pairs.parquet")
    assert rows["pair_id"].equals(shuffled(true, seed=0)["pair_id"])
    assert not rows["pair_id"].equals(true["pair_id"])
    swapped = np.mean([(shuffled(true, seed)["margin"].to_numpy() < 0).mean() for seed in range(50)])
    assert 0.45 < swapped < 0.55  # labels say nothing about rewards; one seed's coins are too few to tell


def test_a_run_killed_in_every_step_ends_as_one_that_was_not(finished, world, tmp_path):
    whole, facts = finished
    killed = tmp_path / "killed" / "home"
    directory = Home(killed).alignment / "a1"
    for name, what in KILLS.items():
        process = start(killed, world)
        while not (directory / name).exists() and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, f"ended before {what}: {process.communicate()[1]}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = finish(killed, world)
    one = Home(whole).alignment / "a1"
    for name in TABLES:
        assert pq.read_table(directory / name).equals(pq.read_table(one / name)), name
    for method in ("dpo", "sft"):
        assert model_hash(str(directory / method / "model")) == model_hash(str(one / method / "model")), method
    assert again["decision"] == facts["decision"]
    assert (directory / "gate" / "table.json").read_bytes() == (one / "gate" / "table.json").read_bytes()


LIKELY = {
    "judge": "sentiment",
    "sentiment": {"by": "likelihood", "model": str(embedded_model())},  # no good judge; it runs
    "window": {"recent_k": 2},  # what its 512 tokens have room for
    "pairs": {"mode": "capped", "min_margin": 0.001},
}


def start_step(home: Path, step: str, *told: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.cli", "align", step, "--home", str(home), "--json", *told]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish_steps(home: Path, *steps: str) -> None:
    """Each with the run's own settings."""
    for step in steps:
        process = start_step(home, step)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors


def explored(home: Path, world: Path, judge: dict) -> Path:
    """A run with these settings up to its candidates."""
    run_ingest(Home(home).create(), [str(world)])
    config = home / "loop.json"
    config.write_text(json.dumps(SMALL | judge))
    process = start_step(home, "explore", "--config", str(config))
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return Home(home).alignment / "a1"


def test_a_judge_by_likelihood_gives_the_same_rewards_in_every_home(world, tmp_path):
    one, other = (explored(tmp_path / name, world, LIKELY) for name in ("one", "other"))
    for directory in (one, other):
        finish_steps(directory.parent.parent, "reward", "pairs")
    for name in ("candidates.parquet", "rewards.parquet", "pairs.parquet"):
        assert pq.read_table(other / name).equals(pq.read_table(one / name)), name
    assert pq.read_table(one / "pairs.parquet").num_rows > 0


def answer(prompt: str) -> str:
    time.sleep(0.02)
    drawn = int(sha256(prompt.encode()).hexdigest(), 16)
    return "no idea" if drawn % 7 == 0 else json.dumps({"sentiment": CLASSES[drawn % 3]})


def test_a_served_judge_that_was_stopped_is_asked_only_the_rest(world, tmp_path):
    home, at_once = tmp_path / "home", 2
    with FakeOpenAI(text=answer) as server:
        judge = {"engine": "openai", "model": "m", "base_url": server.url, "concurrency": at_once}
        directory = explored(home, world, {"judge": "sentiment", "sentiment": judge, "pairs": {"mode": "faithful"}})
        process = start_step(home, "reward")
        while len(server.delivered) < 40 and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
        assert not (directory / "reward.json").exists()
        finish_steps(home, "reward", "pairs")
        assert len(server.requests) - len(server.delivered) <= at_once  # those that were open
    assert json.loads((directory / "pairs" / "pairs.json").read_text())["mode"] == "faithful"
    with closing(PairStore(Home(home).alignment_url)) as store:
        assert store.pairs("a1").num_rows == pq.read_table(directory / "pairs.parquet").num_rows > 0
