"""The mean of a training's weights: a small training's points differ by luck, and their mean is better than most.

Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407), over points evenly spaced from the start of the
training to its end; ours, LettinGo takes the end. To select one point by what its texts earn needs users of whom no
pairs are made, and some ninety of them cannot tell the points apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lettingo_features.alignment.base_model import BaseModel, load_base
from lettingo_features.alignment.training_config import Training


def averaged(points: Iterable[Path], start: BaseModel, config: Training) -> Any:
    """The model, or the model with an adapter, whose trained weights are the mean of those at ``points``, checkpoints
    of a training of ``start``.

    One model is in memory at a time, and the mean of what was trained in float32. An adapter's two factors are averaged
    each by itself: along one training they turn little.
    """
    means: dict[str, Any] = {}
    for n, point in enumerate(points):
        model = None  # before the next one is loaded
        model = _model_at(point, start, config)
        for name, weights in _trained(model):
            means.setdefault(name, weights.detach().float().clone()).lerp_(weights.detach().float(), 1 / (n + 1))
    for name, weights in _trained(model):
        weights.data.copy_(means[name])
    return model


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]


def _model_at(checkpoint: Path, start: BaseModel, config: Training) -> Any:
    """The model that a checkpoint holds; ``start`` is trained by now, so that adapters need the base anew."""
    options = config.model_init_kwargs
    if config.lora is None:
        return load_base(checkpoint, config.threads, options).model
    from peft import PeftModel

    base = load_base(start.directory, config.threads, options).model
    return PeftModel.from_pretrained(base, checkpoint, is_trainable=True)
