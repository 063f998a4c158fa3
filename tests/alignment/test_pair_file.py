"""The pair file, as TRL reads it."""

from __future__ import annotations

import json

import pytest

from lettingo_features.alignment.pair_file import write_pairs
from lettingo_features.alignment.pairs import PairConfig, preference_pairs
from lettingo_features.profiles.local_model import embedded_model
from tests.alignment.rows import candidates, prompts, rewards

FOUND = candidates(
    *(
        (f"u{n}{which}", f"u{n}", "llm", text)
        for n in range(1, 5)
        for which, text in (("a", f"Likes\n- drama {n}"), ("b", f"Hates “{n}” ü"))
    )
)
PAIRS = preference_pairs(
    FOUND,
    rewards({f"u{n}{which}": value for n in range(1, 5) for which, value in (("a", n / 8), ("b", 0.0))}),
    prompts("u1", "u2", "u3", "u4"),
    PairConfig(length_ratio=None),
).rows


def test_one_conversational_line_each(tmp_path):
    path = write_pairs(PAIRS, tmp_path / "new" / "pairs.jsonl", user_turn=lambda data: f"Write.\n\n{data}")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(lines) == 4
    assert lines[0] == {
        "prompt": [{"role": "user", "content": "Write.\n\nhistory of u1"}],
        "chosen": [{"role": "assistant", "content": "Likes\n- drama 1"}],
        "rejected": [{"role": "assistant", "content": "Hates “1” ü"}],
        "pair_id": PAIRS["pair_id"][0].as_py(),
        "margin": 0.125,
    }
    assert [path.name for path in path.parent.iterdir()] == ["pairs.jsonl"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = write_pairs(PAIRS, tmp_path / "pairs.jsonl")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_pairs(PAIRS, path, user_turn=lambda data: str(1 / (data != "history of u3")))
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_trl_trains_on_it_as_it_is(tmp_path):
    """One step of TRL's own trainer; the tokens are those that the generator's engine would make."""
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine

    path = write_pairs(PAIRS, tmp_path / "data" / "pairs.jsonl")
    # As trl's own script: load_dataset(dataset_name), whose "train" split it trains on.
    data = datasets.load_dataset(str(path.parent), cache_dir=str(tmp_path / "cache"))["train"]
    told = trl.DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(embedded_model())
    trainer = trl.DPOTrainer(
        model, args=told, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(embedded_model())
    )
    assert len(trainer.train_dataset) == len(PAIRS)
    engine = TransformersEngine(TransformersConfig(model=str(embedded_model()), threads=1))
    asked, texts = PAIRS["prompt"].to_pylist(), PAIRS["chosen"].to_pylist()
    assert list(trainer.train_dataset["prompt_ids"]) == engine.frame.prompts(asked)
    for ids, text in zip(trainer.train_dataset["chosen_ids"], texts, strict=True):
        assert engine.tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    trainer.train()
    (step,) = (row for row in trainer.state.log_history if "rewards/margins" in row)
    assert step["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the first step starts at the reference
