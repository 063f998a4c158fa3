"""Preference pairs -> an aligned generator: direct preference optimisation with a frozen reference.

LettinGo (arXiv 2506.18309) section 3.2.3 prints the loss without reference and beta; its training code, LLaMA-Factory's
DPO, has both, and so has this one (Rafailov et al. 2023, arXiv 2305.18290, eq. 7). The loss is TRL's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lettingo_features.alignment.averaging import averaged
from lettingo_features.alignment.base_model import load_base
from lettingo_features.alignment.divergence import kl_divergence
from lettingo_features.alignment.model_card import Provenance
from lettingo_features.alignment.reference_scores import ReferenceScores
from lettingo_features.alignment.training_config import DpoTraining
from lettingo_features.alignment.training_data import Tokens, read_pairs
from lettingo_features.alignment.training_run import Trained, TrainingRun, batch_size, training_key
from lettingo_features.errors import ConfigError
from lettingo_features.generation.model_files import model_hash

_VERSION = "1"
_SUMMARY = {"loss": "loss", "margin": "rewards/margins", "accuracy": "rewards/accuracies"}


def train_dpo(
    pairs: Path,
    config: DpoTraining,
    base: Path,
    out: Path,
    cache: Path,
    provenance: Provenance,
    held_out: Path | None = None,
) -> Trained:
    """Train ``base`` on ``pairs``; a training that was cut off goes on, one that is done is returned as it is.

    ::

        trained = train_dpo(pairs, DpoTraining(), embedded_model(), out, home.cache / "reference", provenance)

    The same call after ``kill -9`` at any point ends with the weights that an uninterrupted one gives, on the same
    machine and build of torch (tested). One process, one device; ``out`` must not be trained in twice at once.

    Parameters
    ----------
    pairs
        Conversational JSON lines (`pair_file.write_pairs`).
    base
        Directory of a whole model; also the frozen reference.
    out
        See `training_run`.
    cache
        Of reference log-probabilities, shared by trainings: a pair is scored once per base.
    provenance
        For the card.
    held_out
        Pairs of other prompts, to evaluate on after each epoch.

    Returns
    -------
    Trained
        ``metrics``: loss, margin and accuracy over the last tenth of the steps; with ``held_out_``, of the held-out
        pairs at the last evaluation; ``kl``, nats per text over ``kl_prompts`` held-out prompts, or training prompts
        without those: of the result, where the others are of the training's end.

    Raises
    ------
    ConfigError
        A setting is unknown, or a pair exceeds the model's positions: nothing is ever cut.
    DataError
        The pairs cannot be read.
    ModelError
        The base cannot be loaded, or the loss is no number any more.
    """
    revision = model_hash(str(base))
    run = TrainingRun(out, training_key("dpo", _VERSION, revision, [pairs, held_out], config))
    if done := run.finished():
        return done
    rows, held_rows = read_pairs(pairs), read_pairs(held_out) if held_out else None
    start = load_base(base, config.threads, config.model_init_kwargs)
    arguments = config.arguments(run.checkpoints, start.context, held_out is not None)
    tokens = Tokens(start.tokenizer, str(base), config.instruction, start.context)
    train, evaluate = tokens.pairs(rows), tokens.pairs(held_rows) if held_rows else None
    train.check_lengths(arguments.max_length)
    if held_rows:
        _check_apart(rows, held_rows)
        evaluate.check_lengths(arguments.max_length)
    from lettingo_features.alignment.trainers import PreferenceTrainer, preference_dataset
    from lettingo_features.alignment.training_log import TrainingLog

    trainer = PreferenceTrainer(
        model=start.model,
        args=arguments,
        train_dataset=preference_dataset(train),
        eval_dataset=preference_dataset(evaluate) if evaluate else None,
        processing_class=start.tokenizer,
        peft_config=config.lora_config(),
        callbacks=[TrainingLog(run.log)],
        scores=ReferenceScores(cache, revision, str(start.model.dtype), str((arguments.bf16, arguments.ld_alpha))),
    )
    logged = run.train(trainer)
    model = averaged(run.points().values(), start, config) if config.averaged else trainer.model
    draft, adapter = run.save(model, start)
    asked = (held_rows or rows)["prompt"].unique().to_pylist()[: config.kl_prompts]
    facts = {
        "method": "DPO",
        "base": revision,
        "base_name": start.name,
        "adapter": adapter,
        "pairs": len(train),
        "held_out": len(evaluate) if evaluate else 0,
        "steps": trainer.state.global_step,
        "batch_size": batch_size(arguments),
        "config": config.model_dump(),
        "metrics": _metrics(logged) | kl_divergence(draft, base, asked, config.instruction, config.seed),
        "data": provenance.facts(),
    }
    return run.publish(draft, facts, provenance.user_ids)


def _check_apart(rows: pa.Table, held_rows: pa.Table) -> None:
    shared = len(set(rows["prompt"].to_pylist()) & set(held_rows["prompt"].to_pylist()))
    if shared:
        raise ConfigError(
            f"{shared:,} held-out prompts are also trained on: split the pairs by user, so that held-out ones are new."
        )


def _metrics(logged: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the last tenth of the log, and the last evaluation."""
    steps = [row for row in logged if "loss" in row]
    last = steps[-max(1, len(steps) // 10) :]
    metrics = {name: float(np.mean([row[key] for row in last])) for name, key in _SUMMARY.items()}
    evaluations = [row for row in logged if "eval_loss" in row]
    if evaluations:
        metrics |= {f"held_out_{name}": evaluations[-1][f"eval_{key}"] for name, key in _SUMMARY.items()}
    return metrics
