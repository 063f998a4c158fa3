"""The training script: its masks in a literal table, and a smoke run that stops, resumes and ends the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from lettingo_features.profiles.lexicon import held_out_names
from lettingo_features.profiles.local_model import embedded_model
from pipelines.train_embedded_lm import PIECES, TrainConfig, batches, collate, simple_share


def test_collate_shows_each_profile_the_prompt_and_itself() -> None:
    batch = collate([([1, 2], [([3], [4, 5]), ([6], [7])]), ([1], [([3], [4])])], pad=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7], [1, 3, 4, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3], [0, 1, 2, 0, 0, 0, 0]]  # both profiles start at 2
    assert batch["labels"].tolist() == [
        [-100, -100, 4, 5, -100, 7, -100],  # 0  the loss starts where the assistant does; no profile predicts the next
        [-100, 4, -100, -100, -100, -100, -100],  # 1
    ]
    seen = (batch["attention_mask"][0, 0] == 0).int().tolist()
    assert seen[4] == [1, 1, 1, 1, 1, 0, 0]  # end of profile 1: prompt and itself
    assert seen[6] == [1, 1, 0, 0, 0, 1, 1]  # end of profile 2: prompt and itself, not profile 1


def test_row_labels_are_one_piece_and_marks_stand_alone() -> None:
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated").pre_tokenize_str('\ntop: R&B=12\n- "Ab Çd", x')
    assert [piece for piece, _ in split] == [
        "\ntop:",
        " R",
        "&",
        "B",
        "=",
        "1",
        "2",
        "\n-",
        ' "',
        "Ab",
        " Çd",
        '"',
        ",",
        " x",
    ]


@pytest.mark.slow  # two tokenizers and 60 + 60 steps: about two minutes
def test_quick_run_learns_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from pipelines.train_embedded_lm import main

    def run(*options: str) -> str:
        result = CliRunner().invoke(main, ["--quick", "--every", "1000", *options])
        assert result.exit_code == 0, result.output
        return result.output

    run("--out", str(tmp_path / "whole"))
    run("--out", str(tmp_path / "parts"), "--minutes", "0.05")
    stopped = json.loads((tmp_path / "parts" / "training.json").read_text())["step"]
    assert 0 < stopped < 60
    run("--out", str(tmp_path / "parts"), "--resume")
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(whole[key].equal(parts[key]) for key in whole)
    assert json.loads((tmp_path / "whole" / "training.json").read_text())["loss"] < 6.5  # log(2048) is 7.6


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(40, id="the first steps"),
        pytest.param(TrainConfig().steps, id="every text of the training", marks=pytest.mark.slow),  # two minutes
    ],
)
def test_no_held_out_name_is_in_the_training_text(steps: int) -> None:
    from transformers import AutoTokenizer

    tokenizer, config, step = AutoTokenizer.from_pretrained(embedded_model()), TrainConfig(), 0
    names = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, held_out_names()))})(?!\w)")
    stream = batches(tokenizer, config, lambda: simple_share(config, step))
    for step in range(steps):
        text = "\n".join(tokenizer.batch_decode(next(stream)["input_ids"]))
        assert names.findall(text) == [], f"step {step}"
