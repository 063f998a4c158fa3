"""A training of the embedded model: TRL's losses, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lettingo_features.alignment import dpo
from lettingo_features.alignment.dpo import train_dpo
from lettingo_features.alignment.model_card import Provenance, trained_on, write_gate_result
from lettingo_features.alignment.training_config import DpoTraining, SftTraining
from lettingo_features.alignment.training_run import Trained, TrainingRun
from lettingo_features.errors import ConfigError, ModelError
from lettingo_features.generation.model_files import adapter_name, model_hash
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.profiles.local_model import embedded_model, instruction_for
from tests.alignment import pair_texts

ROWS = pair_texts.rows(56)
N_TRAINED = 40
FAST = {"num_train_epochs": 1, "learning_rate": 2e-4, "save_steps": 2}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
WINDOW = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC))
PROVENANCE = Provenance([f"u{row}" for row in range(56)], WINDOW, "by hand", {"users_dropped": 3})


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    pair_texts.write(ROWS[:N_TRAINED], directory / "pairs.jsonl")
    pair_texts.write(ROWS[N_TRAINED:], directory / "held_out.jsonl")
    return directory


def train(files: Path, out: Path, fields: dict | None = None, **config) -> Trained:
    fields = FAST | (fields or {})
    if config.get("averaged"):
        del fields["save_steps"]
    told = DpoTraining(dpo=fields, kl_prompts=8, **config)
    held_out = files / "held_out.jsonl"
    return train_dpo(files / "pairs.jsonl", told, embedded_model(), out, files / "cache", PROVENANCE, held_out)


@pytest.fixture(scope="module")
def full(files) -> Trained:
    return train(files, files / "full")


@pytest.fixture(scope="module")
def adapted(files) -> Trained:
    return train(files, files / "adapted", {"learning_rate": 5e-3}, lora=LORA)


def logged(trained: Trained, pairs: str = "training") -> list[dict[str, str]]:
    with (trained.model_dir.parent / "training.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["pairs"] == pairs]


def greedy(model: Path) -> list[str]:
    engine = TransformersEngine(TransformersConfig(model=str(model)))
    prompts = [row["prompt"][0]["content"] for row in ROWS[N_TRAINED:]]
    return [answer.text for _, answer in sorted(engine.generate(prompts, [0] * len(prompts)))]


def plain_trl(files: Path, tmp_path: Path, **fields) -> list[float]:
    """Losses of TRL's trainer as its own script calls it, on the same file."""
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    from lettingo_features.alignment.training_config import CPU_DEFAULTS, DPO_DEFAULTS

    told = DPO_DEFAULTS | CPU_DEFAULTS | FAST | {"precompute_ref_log_probs": False, "save_strategy": "no"} | fields
    data = load_dataset("json", data_files=str(files / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "hub"))
    arguments = DPOConfig(str(tmp_path / "out"), seed=0, max_length=512, **told)
    trainer = DPOTrainer(model=str(embedded_model()), args=arguments, train_dataset=data)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("fields", [{}, {"loss_type": ["ipo"], "beta": 0.5}], ids=["sigmoid", "ipo"])
def test_losses_are_those_of_trl(files, tmp_path, fields):
    ours = [float(row["loss"]) for row in logged(train(files, tmp_path / "ours", fields))]
    theirs = plain_trl(files, tmp_path, **fields)
    assert len(theirs) == 5  # 40 pairs, 8 at a time
    assert theirs[-1] < 0.98 * theirs[0]  # something happens that could differ
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_it_learns_and_says_so(full):
    assert full.steps == 5
    assert full.metrics["held_out_accuracy"] > 0.9 and full.metrics["held_out_margin"] > 0.1
    assert 0.001 < full.metrics["kl"] < 5
    steps = logged(full)
    assert [row["step"] for row in steps] == ["1", "2", "3", "4", "5"]
    assert float(steps[-1]["margin"]) > float(steps[0]["margin"])
    chosen = [float(row["chosen_tokens"]) for row in steps]
    assert min(chosen) > 3 and len(set(chosen)) > 1
    assert logged(full, "held-out")[0]["step"] == "5"


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
def test_the_result_is_the_mean_of_points_of_the_training(files, tmp_path, lora, monkeypatch):
    monkeypatch.setattr(TrainingRun, "_forget_checkpoints", lambda run: None)
    done = train(files, tmp_path, {"learning_rate": 5e-3 if lora else 2e-4}, lora=lora, averaged=5)
    assert done.steps == 5
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    points = [load_file(tmp_path / "checkpoints" / f"checkpoint-{n}" / name) for n in range(1, 6)]
    mean = load_file((done.adapter_dir or done.model_dir) / name)
    assert mean.keys() == points[0].keys()
    for key, weights in mean.items():
        each = torch.stack([point[key] for point in points])
        torch.testing.assert_close(weights, each.mean(dim=0))
    assert any((points[4][key] - mean[key]).abs().max() > 1e-5 for key in mean)  # not the end
    assert greedy(done.model_dir) != greedy(embedded_model())


def test_points_are_no_checkpoints_of_ones_own():
    with pytest.raises(ConfigError, match=r"dpo\.save_steps cannot be set beside 'averaged'"):
        DpoTraining(dpo=FAST, averaged=8)
    with pytest.raises(ConfigError, match=r"sft\.save_total_limit cannot be set beside 'averaged'"):
        SftTraining(sft={"save_total_limit": 1}, averaged=8)


def test_the_model_is_whole_and_its_prompt_is_the_base_s(full):
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ):
        assert (full.model_dir / name).read_bytes() == (embedded_model() / name).read_bytes(), name
    assert instruction_for(str(full.model_dir)) == ""  # it knows that it was trained on the rows
    assert full.revision == model_hash(str(full.model_dir)) != model_hash(str(embedded_model()))
    assert greedy(full.model_dir) != greedy(embedded_model())
    assert not (full.model_dir.parent / "checkpoints").exists()


def test_a_finished_training_is_returned_without_work(files, full, monkeypatch):
    monkeypatch.setattr(dpo, "load_base", None)
    assert train(files, files / "full") == full


def test_reference_scores_are_computed_once(files, full, tmp_path):
    kept = {path: path.stat().st_mtime_ns for path in (files / "cache").rglob("*.parquet")}
    assert kept
    again = train(files, tmp_path / "again")
    assert {path: path.stat().st_mtime_ns for path in (files / "cache").rglob("*.parquet")} == kept
    assert again.revision == full.revision
    fresh = shutil.copytree(files, tmp_path / "fresh", ignore=shutil.ignore_patterns("cache", "full", "adapted"))
    assert train(fresh, fresh / "full").revision == full.revision  # scores from the model are those from the cache


def test_a_model_that_ignores_masks_runs_each_prompt_twice(files, full, tmp_path, monkeypatch):
    from lettingo_features.alignment import trainers

    shared = []
    monkeypatch.setattr(
        trainers.PreferenceTrainer, "train", _noting(shared, trainers.PreferenceTrainer.train), raising=True
    )
    eager = train(files, tmp_path / "eager", {"model_init_kwargs": {"attn_implementation": "eager"}})
    train(files, tmp_path / "sdpa")
    assert shared == [False, True]
    losses = [[float(row["loss"]) for row in logged(each)] for each in (eager, full)]
    np.testing.assert_allclose(*losses, atol=1e-4)


def _noting(shared, original):
    def train(self, *args, **kwargs):
        shared.append(self.shares_prompts)
        return original(self, *args, **kwargs)

    return train


def test_reference_scores_in_each_step_give_the_same_losses(files, full, tmp_path):
    live = train(files, tmp_path / "live", {"precompute_ref_log_probs": False})
    losses = [[float(row["loss"]) for row in logged(each)] for each in (live, full)]
    np.testing.assert_allclose(*losses, atol=1e-4)


def test_an_adapter_and_its_merged_model_write_the_same(adapted):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert adapted.adapter == adapter_name(str(adapted.adapter_dir))
    assert not (adapted.model_dir / "adapter_config.json").exists()
    assert greedy(adapted.model_dir) != greedy(embedded_model())
    engine = TransformersEngine(TransformersConfig(model=str(embedded_model())))
    engine.model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(embedded_model()), adapted.adapter_dir
    )
    prompts = [row["prompt"][0]["content"] for row in ROWS[N_TRAINED:]]
    texts = [answer.text for _, answer in sorted(engine.generate(prompts, [0] * len(prompts)))]
    assert texts == greedy(adapted.model_dir)


def test_an_adapter_s_content_is_the_same_on_every_machine_and_in_every_process(adapted):
    config = json.loads((adapted.adapter_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "embedded"
    assert config["target_modules"] == sorted(config["target_modules"]) and len(config["target_modules"]) == 7


def test_the_card_knows_its_users_and_takes_a_verdict(full):
    class Verdict:
        def to_json(self):
            return {"decision": "hold"}

        def to_text(self):
            return "HOLD: too few users"

    assert trained_on(full.model_dir, "u7") and not trained_on(full.model_dir, "u77")
    before = (full.model_dir / "CARD.md").read_text()
    for expected in (model_hash(str(embedded_model())), "2024-01-01", "by hand", "users dropped: 3", "Not judged yet."):
        assert expected in before
    assert "u7" not in before
    write_gate_result(full.model_dir, Verdict())
    write_gate_result(full.model_dir, Verdict())
    assert "HOLD: too few users" in (full.model_dir / "CARD.md").read_text()
    assert model_hash(str(full.model_dir)) == full.revision


@pytest.mark.parametrize(
    ("fields", "config", "message"),
    [
        (
            {"learning_rat": 1e-4},
            {},
            "DPOConfig has no field learning_rat, set under 'dpo'. Did you mean 'learning_rate'",
        ),
        ({"seed": 3}, {}, "dpo.seed cannot be set"),
        ({"beta": 0.1, "loss_weights": [1.0, 2.0]}, {}, "'dpo' does not make a DPOConfig"),
        ({"max_length": 513}, {}, "give 1 to 512, the positions of the model"),
        ({"max_length": 100}, {}, "pairs exceed max_length = 100"),
        ({}, {"lora": {"rank": 8}}, "LoraConfig has no field rank"),
        ({}, {"instruction": "Write."}, "do not start with the instruction"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_leaves_nothing(files, tmp_path, fields, config, message):
    with pytest.raises(ConfigError, match=message):
        train(files, tmp_path / "out", fields, **config)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_another_training_is_refused(files, full, tmp_path):
    with pytest.raises(ConfigError, match="holds another training"):
        train(files, files / "full", {"beta": 0.3})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by a training"):
        train(files, tmp_path)


def test_held_out_prompts_must_be_new(files, tmp_path):
    pair_texts.write(ROWS[:2], tmp_path / "held_out.jsonl")
    shutil.copy(files / "pairs.jsonl", tmp_path)
    with pytest.raises(ConfigError, match="2 held-out prompts are also trained on"):
        train(tmp_path, tmp_path / "out")


def test_a_base_that_is_no_model_is_refused(files, tmp_path):
    with pytest.raises(ModelError, match="no model directory"):
        train_dpo(files / "pairs.jsonl", DpoTraining(), tmp_path / "none", tmp_path / "o", tmp_path / "c", PROVENANCE)


def test_a_loss_that_is_no_number_ends_the_training(files, tmp_path):
    with pytest.raises(ModelError, match="not finite from step"):
        train(files, tmp_path / "out", {"learning_rate": 1e25, "warmup_steps": 0, "max_grad_norm": 0})
    assert not (tmp_path / "out" / "model").exists()
