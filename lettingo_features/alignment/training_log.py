"""One line of ``training.csv`` per logged step: what a reader of a preference training looks at first."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lettingo_features.alignment.training_run import COMPLETE

COLUMNS = {
    "loss": "loss",
    "margin": "rewards/margins",  # beta * (log-ratio of chosen - log-ratio of rejected); log-ratio: policy to reference
    "accuracy": "rewards/accuracies",  # share of pairs with a margin above 0
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
    "chosen_log_prob": "logps/chosen",  # nats per text
    "rejected_log_prob": "logps/rejected",
    "chosen_tokens": "tokens/chosen",
    "rejected_tokens": "tokens/rejected",
    "entropy": "entropy",  # nats per token
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}
"""Column -> name in TRL's log; a training leaves empty what it does not have."""


class TrainingLog(TrainerCallback):
    """Writes the log as it grows, and marks finished checkpoints.

    A resumed training first writes again what its checkpoint remembers, so that no step stands twice or is missing.
    """

    def __init__(self, target: Path) -> None:
        self._target = target

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with self._target.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "epoch", "pairs", *COLUMNS])
            writer.writerows(row for logged in state.log_history if (row := _row(logged)))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        row = _row(state.log_history[-1])
        if row:
            with self._target.open("a", newline="") as file:
                csv.writer(file).writerow(row)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _row(logged: dict[str, Any]) -> list[Any] | None:
    """Step, epoch, which pairs, and `COLUMNS`; None for the summary at the end of a training."""
    prefix = "eval_" if "eval_loss" in logged else ""
    if f"{prefix}loss" not in logged:
        return None
    split = "held-out" if prefix else "training"
    return [logged["step"], logged["epoch"], split, *(logged.get(prefix + name) for name in COLUMNS.values())]
