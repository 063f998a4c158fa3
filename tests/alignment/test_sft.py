"""The baseline: each chosen text once, the loss on its tokens alone, the steps of the training beside it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lettingo_features.alignment.model_card import Provenance, read_facts
from lettingo_features.alignment.sft import train_sft
from lettingo_features.alignment.training_config import SftTraining
from lettingo_features.alignment.training_data import Tokens, read_pairs
from lettingo_features.alignment.training_run import TrainingRun
from lettingo_features.errors import ConfigError
from lettingo_features.generation.model_files import model_hash
from lettingo_features.profiles.local_model import embedded_model
from tests.alignment import pair_texts

ROWS = pair_texts.rows(8)
PROVENANCE = Provenance(["u1"], None, "by hand", {})


def test_it_imitates_the_chosen_texts_and_nothing_else(tmp_path):
    again = [row | {"rejected": other["rejected"]} for row, other in zip(ROWS, ROWS[1:] + ROWS[:1], strict=True)]
    pairs = pair_texts.write(ROWS + again, tmp_path / "pairs.jsonl")  # each chosen text won twice
    config = SftTraining(sft={"learning_rate": 1e-3, "warmup_steps": 0}, kl_prompts=4)
    trained = train_sft(pairs, config, embedded_model(), tmp_path / "out", 3, PROVENANCE)
    assert trained.steps == 3 and trained.metrics["texts"] == 8
    assert trained.revision != model_hash(str(embedded_model()))
    assert trained.metrics["kl"] > 0
    assert (trained.model_dir / "config.json").read_bytes() == (embedded_model() / "config.json").read_bytes()
    assert read_facts(trained.model_dir)["method"] == "SFT"
    with (tmp_path / "out" / "training.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[0] == pytest.approx(loss_of_chosen_tokens(pairs), abs=1e-4)  # a batch of 8 is all of them
    assert losses[2] < losses[0]
    assert train_sft(pairs, config, embedded_model(), tmp_path / "out", 3, PROVENANCE) == trained
    with pytest.raises(ConfigError, match="holds another training"):
        train_sft(pairs, config, embedded_model(), tmp_path / "out", 4, PROVENANCE)


def test_the_mean_of_two_points_lies_between_them(tmp_path):
    pairs = pair_texts.write(ROWS, tmp_path / "pairs.jsonl")
    told = {"sft": {"learning_rate": 1e-3, "lr_scheduler_type": "constant", "warmup_steps": 0}, "kl_prompts": 0}
    ends = [
        train_sft(pairs, SftTraining(**told), embedded_model(), tmp_path / f"{n}", n, PROVENANCE).model_dir
        for n in (1, 2)
    ]
    mean = train_sft(pairs, SftTraining(**told, averaged=2), embedded_model(), tmp_path / "mean", 2, PROVENANCE)
    one, two, both = (load_file(model / "model.safetensors") for model in (*ends, mean.model_dir))
    for name, weights in both.items():
        torch.testing.assert_close(weights, (one[name] + two[name]) / 2)
    assert any(not torch.equal(one[name], two[name]) for name in both)


def test_what_was_killed_after_its_last_step_takes_no_more(tmp_path, monkeypatch):
    pairs = pair_texts.write(pair_texts.rows(16), tmp_path / "pairs.jsonl")  # two steps an epoch: it ends amid one
    config = SftTraining(sft={"learning_rate": 1e-3, "lr_scheduler_type": "constant"}, kl_prompts=0)
    whole = train_sft(pairs, config, embedded_model(), tmp_path / "whole", 3, PROVENANCE)
    with monkeypatch.context() as killed:
        killed.setattr(TrainingRun, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_sft(pairs, config, embedded_model(), tmp_path / "killed", 3, PROVENANCE)
    resumed = train_sft(pairs, config, embedded_model(), tmp_path / "killed", 3, PROVENANCE)
    assert (resumed.steps, resumed.revision, resumed.metrics) == (whole.steps, whole.revision, whole.metrics)
    logs = [(tmp_path / name / "training.csv").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 1 + 3


def loss_of_chosen_tokens(pairs) -> float:
    """Mean negative log-likelihood of the base model, row by row."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(embedded_model()).eval()
    tokens = Tokens(AutoTokenizer.from_pretrained(embedded_model()), "embedded", "", 512).pairs(read_pairs(pairs))
    found = []
    for prompt, chosen in zip(tokens.prompt[:8], tokens.chosen[:8], strict=True):
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([prompt + chosen])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found += scores.gather(1, torch.tensor(chosen)[:, None])[:, 0].tolist()
    return -float(np.mean(found))


@pytest.mark.parametrize("field", ["dataset_kwargs", "max_steps", "output_dir"])
def test_what_the_training_sets_itself_cannot_be_set(tmp_path, field):
    pairs = pair_texts.write(ROWS, tmp_path / "pairs.jsonl")
    with pytest.raises(ConfigError, match=f"sft.{field} cannot be set"):
        train_sft(pairs, SftTraining(sft={field: None}), embedded_model(), tmp_path / "out", 1, PROVENANCE)
