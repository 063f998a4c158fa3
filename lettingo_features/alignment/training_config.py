"""How a generator is trained: TRL's own configurations under their own field names, over defaults for small models."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue, model_validator

from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import DPOConfig, SFTConfig

SHARED_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,  # of one million parameters, all trained; 5e-6 suits LoRA on 8 billion
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,  # below 1: a share of the steps
    "per_device_train_batch_size": 8,
    "gradient_checkpointing": False,  # TRL's default trades a fifth of the speed for memory
    "logging_steps": 1,
    "logging_nan_inf_filter": False,  # a loss that is no number must be seen: `training_run` ends the training
    "save_steps": 50,
    "save_total_limit": 2,
    "report_to": "none",
    "disable_tqdm": True,
}
DPO_DEFAULTS: dict[str, Any] = {
    **SHARED_DEFAULTS,
    "beta": 0.1,
    "num_train_epochs": 2,
    "precompute_ref_log_probs": True,
}
SFT_DEFAULTS: dict[str, Any] = {**SHARED_DEFAULTS, "packing": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
CPU_DEFAULTS: dict[str, Any] = {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
"""NOTE: TRL trains in bfloat16 by default, which on a CPU takes nine times as long as float32."""

RESERVED = {
    "output_dir": "it is the directory given to the training",
    "seed": "set the seed beside it",
    "resume_from_checkpoint": "an interrupted training goes on by itself",
    "save_only_model": "without the optimizer's state no training can go on",
    "push_to_hub": "weights stay on this machine",
    "dataset_kwargs": "texts are tokenised as the engine does",
}
"""Fields that the two trainings set themselves, and why."""


class Training(Config):
    """What both trainings are told."""

    averaged: int | None = Field(default=None, ge=2)
    """Points at most, evenly spaced over the training, and its end, whose mean weights are the result (`averaging`);
    each costs a checkpoint on disk, optimizer included. None keeps the end."""

    lora: dict[str, JsonValue] | None = None
    """Fields of peft's LoraConfig, such as ``{"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}``; None trains
    all weights."""
    instruction: str = ""
    """Trusted text that the engine puts before the data of each user turn (`generation.engine.EngineConfig`). Every
    prompt of the pairs must start with it and an empty line."""
    seed: int = 0
    """Of the order of the pairs and of an adapter's first weights."""
    threads: int | None = Field(default=1, ge=1)
    """CPU threads of the whole process; one is fastest for small models, None leaves torch's choice."""
    kl_prompts: int = Field(default=64, ge=0)
    """Prompts to sample a text for, to measure the divergence from the base at the end; 0 leaves it out."""

    def lora_config(self) -> LoraConfig | None:
        """peft's configuration.

        Raises
        ------
        ConfigError
            A name or value that peft does not know.
        """
        if self.lora is None:
            return None
        try:
            from peft import LoraConfig
        except ImportError:
            raise MissingExtraError("Training an adapter", "train") from None
        return _built(LoraConfig, "lora", {"task_type": "CAUSAL_LM", **self.lora})

    def _check_saving(self, name: str, told: dict[str, Any]) -> None:
        saving = sorted(field for field in told if field.startswith("save_"))
        if saving and self.averaged is not None:
            raise ConfigError(
                f"{name}.{saving[0]} cannot be set beside 'averaged', whose points are the checkpoints: leave it out, "
                f'or keep the end of the training ({{"{name}": {{"averaged": null}}}}).'
            )

    def _arguments(
        self, kind: type, name: str, defaults: dict[str, Any], told: dict[str, Any], checkpoints: Path, context: int
    ) -> Any:
        reserved = [f"{name}.{field} cannot be set: {RESERVED[field]}." for field in told if field in RESERVED]
        if reserved:
            raise ConfigError(" ".join(reserved))
        if self.averaged is not None:
            defaults = {**defaults, "save_steps": 1 / self.averaged, "save_total_limit": None}
        fields = {**defaults, **told}
        if not isinstance(fields["max_length"], int) or not 1 <= fields["max_length"] <= context:
            raise ConfigError(
                f"{name}.max_length is {fields['max_length']}: give 1 to {context}, the positions of the model."
            )
        return _built(kind, name, {**fields, "output_dir": str(checkpoints), "seed": self.seed})


class DpoTraining(Training):
    """Direct preference optimisation (Rafailov et al. 2023; LettinGo section 3.2.3).

    ::

        DpoTraining(dpo={"beta": 0.2, "num_train_epochs": 3}, lora={"r": 16, "lora_alpha": 32})
    """

    dpo: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of `trl.DPOConfig`, over `DPO_DEFAULTS` and, without an accelerator, `CPU_DEFAULTS`."""

    @model_validator(mode="after")
    def _points_are_the_checkpoints(self) -> DpoTraining:
        self._check_saving("dpo", self.dpo)
        return self

    @property
    def model_init_kwargs(self) -> dict[str, Any] | None:
        """How the model is loaded, such as its dtype."""
        return self.dpo.get("model_init_kwargs")

    def arguments(self, checkpoints: Path, context: int, held_out: bool = False) -> DPOConfig:
        """TRL's configuration.

        Parameters
        ----------
        checkpoints
            Where TRL may write.
        context
            Positions of the model: the default, and the most, of ``max_length``.
        held_out
            There are held-out pairs: evaluate on them after each epoch, unless ``eval_strategy`` says otherwise.

        Raises
        ------
        ConfigError
            A name or value that TRL does not know, or one that is set elsewhere.
        """
        try:
            from trl import DPOConfig
        except ImportError:
            raise MissingExtraError("Preference training", "train") from None
        defaults = {**DPO_DEFAULTS, **_device(), "max_length": context, "eval_strategy": "epoch" if held_out else "no"}
        return self._arguments(DPOConfig, "dpo", defaults, self.dpo, checkpoints, context)


class SftTraining(Training):
    """Supervised fine-tuning on the chosen texts: the baseline that preferences must beat (LettinGo, ablation)."""

    sft: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of `trl.SFTConfig`, over `SFT_DEFAULTS` and, without an accelerator, `CPU_DEFAULTS`."""

    @model_validator(mode="after")
    def _points_are_the_checkpoints(self) -> SftTraining:
        self._check_saving("sft", self.sft)
        return self

    @property
    def model_init_kwargs(self) -> dict[str, Any] | None:
        """How the model is loaded, such as its dtype."""
        return self.sft.get("model_init_kwargs")

    def arguments(self, checkpoints: Path, context: int, steps: int) -> SFTConfig:
        """TRL's configuration for ``steps`` optimizer steps; see `DpoTraining.arguments`."""
        try:
            from trl import SFTConfig
        except ImportError:
            raise MissingExtraError("Supervised fine-tuning", "train") from None
        if "max_steps" in self.sft:
            raise ConfigError("sft.max_steps cannot be set: the baseline takes the steps of the training beside it.")
        defaults = {**SFT_DEFAULTS, **_device(), "max_length": context, "max_steps": steps}
        return self._arguments(SFTConfig, "sft", defaults, self.sft, checkpoints, context)


def _device() -> dict[str, Any]:
    import torch

    return {} if torch.accelerator.is_available() else CPU_DEFAULTS


def _built(kind: type, name: str, fields: dict[str, Any]) -> Any:
    unknown = sorted(fields.keys() - {field.name for field in dataclasses.fields(kind) if field.init})
    if unknown:
        near = [f"'{match}'" for field in unknown for match in get_close_matches(field, kind.__dataclass_fields__, n=1)]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"{kind.__name__} has no field {', '.join(unknown)}, set under '{name}'.{hint}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"'{name}' does not make a {kind.__name__}: {error}") from error
