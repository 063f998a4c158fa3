"""Where one training lives: checkpoints while it runs, then a model directory that appears whole or not at all.

::

    out/key             content hash of what is trained on what: another training is refused here
    out/training.csv    grows while it runs (`training_log`)
    out/checkpoints/    until it is done
    out/adapter/        of a training with LoRA
    out/model/          the result; there means done
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from lettingo_features.alignment import model_card
from lettingo_features.alignment.base_model import BaseModel, without_bars
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError, ModelError
from lettingo_features.generation.engine import content_id
from lettingo_features.generation.model_files import adapter_name, model_hash

COMPLETE = "COMPLETE"
"""Marks a checkpoint whose files are all there."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Parameters
    ----------
    model_dir
        Whole model with tokenizer and card, an adapter merged in: any engine loads it.
    revision
        Content hash of its files (`generation.model_files.model_hash`).
    steps, batch_size
        Optimizer steps, and pairs or texts of each.
    metrics
        By name; see `dpo.train_dpo`.
    adapter_dir, adapter
        The adapter alone, for a server of the base model, and the name to serve it under
        (`generation.model_files.adapter_name`); None and "" where all weights were trained.
    """

    model_dir: Path
    revision: str
    steps: int
    batch_size: int
    metrics: dict[str, float]
    adapter_dir: Path | None = None
    adapter: str = ""


def training_key(
    method: str, version: str, base: str, files: Sequence[Path | None], config: Config, *parts: str
) -> str:
    """Content hash of a training: what it starts from, learns from and is told. Threads change only its speed."""
    told = json.dumps(config.model_dump(exclude={"threads"}), sort_keys=True)
    try:
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() if path else "" for path in files]
    except OSError as error:
        raise DataError(f"The preference pairs cannot be read: {error}") from error
    return content_id("training", method, version, base, *hashes, told, *parts)


def batch_size(arguments: Any) -> int:
    """Rows per optimizer step of TRL's ``arguments``."""
    return arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps


class TrainingRun:
    """The directory of one training.

    Parameters
    ----------
    key
        Content hash of base, data and configuration.

    Raises
    ------
    ConfigError
        The directory belongs to another training, or holds something else.
    """

    def __init__(self, out: Path, key: str) -> None:
        self.out, self.key = out, key
        self.checkpoints = out / "checkpoints"
        self.log = out / "training.csv"
        self._model, self._adapter = out / "model", out / "adapter"
        self._mark = out / "key"
        self._check_owner()

    def finished(self) -> Trained | None:
        """The result of an earlier call; None if there is still something to do."""
        if not self._model.is_dir():
            return None
        self._forget_checkpoints()  # a kill may have come between the rename and this
        return self._trained()

    def checkpoint(self) -> str | None:
        """Newest whole checkpoint; those that a kill left unfinished are removed, and so is an unfinished result."""
        shutil.rmtree(self._adapter, ignore_errors=True)
        for leftover in self.out.glob(".*.tmp"):
            shutil.rmtree(leftover)
        for found in self.checkpoints.glob("checkpoint-*"):
            if not (found / COMPLETE).is_file():
                shutil.rmtree(found)
        points = self.points()
        return str(points[max(points)]) if points else None

    def points(self) -> dict[int, Path]:
        """Whole checkpoints by step, in order."""
        whole = [found for found in self.checkpoints.glob("checkpoint-*") if (found / COMPLETE).is_file()]
        return dict(sorted((int(found.name.rpartition("-")[2]), found) for found in whole))

    def train(self, trainer: Any) -> list[dict[str, float]]:
        """Train from the newest checkpoint, or from the start, to the end; return the trainer's log.

        Raises
        ------
        ModelError
            The loss is no number any more.
        """
        self._claim()
        with without_bars():
            trainer.train(resume_from_checkpoint=self.checkpoint())
        logged = trainer.state.log_history
        lost = next((row["step"] for row in logged if not math.isfinite(row.get("loss", 0.0))), None)
        if lost is not None:
            raise ModelError(f"The loss is not finite from step {lost} on ({self.log}): lower the learning rate.")
        return logged

    def save(self, model: Any, base: BaseModel) -> tuple[Path, str]:
        """Write ``model``, an adapter merged in, to a draft directory; return that and the adapter's name, or "".

        Weights go to a fresh directory, never over old ones: an adapter_config.json that stays behind makes
        transformers lay the old adapter over new weights without a word.
        """
        with without_bars():
            return self._save(model, base)

    def _save(self, model: Any, base: BaseModel) -> tuple[Path, str]:
        name = ""
        if hasattr(model, "merge_and_unload"):
            adapter = model.peft_config["default"]
            adapter.base_model_name_or_path = base.name  # no path of this machine in the content, which is its name
            if isinstance(adapter.target_modules, set):
                adapter.target_modules = sorted(adapter.target_modules)  # a set has another order in each process
            draft = self._draft()
            model.save_pretrained(draft, save_embedding_layers=False)
            name = adapter_name(str(draft))
            os.rename(draft, self._adapter)
        return self._write(model, base), name

    def _write(self, model: Any, base: BaseModel) -> Path:
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        draft = self._draft()
        model.config.use_cache = base.use_cache  # the trainer turned it off for itself
        model.save_pretrained(draft)
        for written in map(Path, base.tokenizer.save_pretrained(draft)):
            if (base.directory / written.name).is_file():  # as they were: loading leaves traces in them
                shutil.copyfile(base.directory / written.name, written)
        return draft

    def publish(self, draft: Path, facts: dict[str, Any], user_ids: Sequence[str]) -> Trained:
        """Give the draft its card and its name, and forget the checkpoints."""
        model_card.write_card(draft, {**facts, "key": self.key}, user_ids)
        _flush(draft)
        os.rename(draft, self._model)
        self._forget_checkpoints()
        return self._trained()

    def _forget_checkpoints(self) -> None:
        for checkpoint in self.checkpoints.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        with suppress(OSError):  # gone, or a tracker of TRL's keeps its files there
            self.checkpoints.rmdir()

    def _draft(self) -> Path:
        return self.out / f".{uuid4().hex}.tmp"

    def _trained(self) -> Trained:
        facts = model_card.read_facts(self._model)
        return Trained(
            self._model,
            model_hash(str(self._model)),
            facts["steps"],
            facts["batch_size"],
            facts["metrics"],
            self._adapter if facts["adapter"] else None,
            facts["adapter"],
        )

    def _check_owner(self) -> None:
        if self._mark.is_file():
            found = self._mark.read_text().strip()
            if found == self.key:
                return
            raise ConfigError(
                f"{self.out} holds another training (of other pairs, another base or other settings: {found[:12]}..., "
                f"not {self.key[:12]}...). Give a fresh directory."
            )
        if self.out.is_dir() and any(self.out.iterdir()):
            raise ConfigError(f"{self.out} is not empty and was not made by a training. Give a fresh directory.")

    def _claim(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        written = self.out.parent / f".{self.out.name}.key"  # beside it: the directory is empty until it is claimed
        written.write_text(self.key + "\n")
        os.replace(written, self._mark)


def _flush(directory: Path) -> None:
    """After this and a rename a power cut leaves whole files, as a killed process does anyway."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as written:
                os.fsync(written.fileno())
