"""Supervised fine-tuning on the chosen texts: what imitation alone gives, beside preferences (LettinGo, ablation)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from lettingo_features.alignment.averaging import averaged
from lettingo_features.alignment.base_model import load_base
from lettingo_features.alignment.divergence import kl_divergence
from lettingo_features.alignment.model_card import Provenance
from lettingo_features.alignment.training_config import SftTraining
from lettingo_features.alignment.training_data import TokenPairs, Tokens, read_pairs
from lettingo_features.alignment.training_run import Trained, TrainingRun, batch_size, training_key
from lettingo_features.generation.model_files import model_hash

_VERSION = "1"


def train_sft(pairs: Path, config: SftTraining, base: Path, out: Path, steps: int, provenance: Provenance) -> Trained:
    """Train ``base`` on the chosen texts of ``pairs`` for ``steps`` optimizer steps; resumes as `dpo.train_dpo` does.

    Each text counts once, however many pairs it won. Prompts have the tokens that preference training gives them, and
    the loss is on the texts only. Give `Trained.steps` of the preference training for ``steps``, and the same batch
    size: then the two differ in nothing but the signal. (A step of it sees twice the texts, chosen and rejected.)

    Returns
    -------
    Trained
        ``metrics``: loss per token over the last tenth of the steps, ``kl`` and ``kl_prompts`` as in `dpo.train_dpo`.

    Raises
    ------
    ConfigError, DataError, ModelError
        As `dpo.train_dpo`.
    """
    revision = model_hash(str(base))
    run = TrainingRun(out, training_key("sft", _VERSION, revision, [pairs], config, str(steps)))
    if done := run.finished():
        return done
    rows = read_pairs(pairs)
    start = load_base(base, config.threads, config.model_init_kwargs)
    arguments = config.arguments(run.checkpoints, start.context, steps)
    tokens = Tokens(start.tokenizer, str(base), config.instruction, start.context)
    texts = tokens.pairs(_each_once(rows))
    texts.check_lengths(arguments.max_length)
    from lettingo_features.alignment.trainers import ImitationTrainer
    from lettingo_features.alignment.training_log import TrainingLog

    trainer = ImitationTrainer(
        model=start.model,
        args=arguments,
        train_dataset=_dataset(texts),
        processing_class=start.tokenizer,
        peft_config=config.lora_config(),
        callbacks=[TrainingLog(run.log)],
    )
    losses = [row["loss"] for row in run.train(trainer) if "loss" in row]
    model = averaged(run.points().values(), start, config) if config.averaged else trainer.model
    draft, adapter = run.save(model, start)
    asked = rows["prompt"].unique().to_pylist()[: config.kl_prompts]
    facts = {
        "method": "SFT",
        "base": revision,
        "base_name": start.name,
        "adapter": adapter,
        "pairs": len(rows),
        "held_out": 0,
        "steps": trainer.state.global_step,
        "batch_size": batch_size(arguments),
        "config": config.model_dump(),
        "metrics": {"texts": len(texts), "loss": float(np.mean(losses[-max(1, len(losses) // 10) :]))}
        | kl_divergence(draft, base, asked, config.instruction, config.seed),
        "data": provenance.facts(),
    }
    return run.publish(draft, facts, provenance.user_ids)


def _each_once(rows: pa.Table) -> pa.Table:
    """One row per prompt and chosen text, where it stands first."""
    numbered = rows.append_column("row", pa.array(range(len(rows))))
    first = numbered.group_by(["prompt", "chosen"]).aggregate([("row", "min")])["row_min"]
    return rows.take(np.sort(first.to_numpy()))


def _dataset(texts: TokenPairs):
    from datasets import Dataset

    whole = [prompt + answer for prompt, answer in zip(texts.prompt, texts.chosen, strict=True)]
    labels = [[-100] * len(prompt) + answer for prompt, answer in zip(texts.prompt, texts.chosen, strict=True)]
    return Dataset.from_dict({"input_ids": whole, "labels": labels})
