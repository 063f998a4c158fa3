"""The int8 form of an encoder: exported to ONNX and quantised once, then run by onnxruntime."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lettingo_features.errors import ConfigError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PACKAGES = ("onnx", "onnxruntime")
_LEAST_COSINE = 0.8  # int8 MiniLM has about 0.95; a wrong export has about 0
_PROBES = ["Enjoys slow science fiction.", "Rates romantic comedies low and prefers documentaries about war and music."]

Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]


def int8_forward(
    model: SentenceTransformer, encoder_id: str, cache_dir: Path | str | None, threads: int | None
) -> Forward:
    """A function from token ids and mask, int64 ``(n, length)``, to vectors, float32 ``(n, dim)``.

    The quantised model is made at first use and kept as ``cache_dir/onnx/<encoder_id>.onnx``. Weights are int8 per
    channel; activations take their range from the batch at hand (onnxruntime's dynamic quantisation).

    Raises
    ------
    MissingExtraError
        ONNX or its runtime is not installed.
    ConfigError
        There is no ``cache_dir`` to keep the model in.
    ModelError
        The exported model does not give the vectors of the original.
    """
    from importlib.util import find_spec

    if not all(find_spec(package) for package in _PACKAGES):
        raise MissingExtraError("an int8 encoder", "onnx")
    if cache_dir is None:
        raise ConfigError("an int8 encoder is exported once and kept: give SentenceEncoder a cache_dir")

    path = Path(cache_dir) / "onnx" / f"{encoder_id}.onnx"
    if not path.exists():
        _export(model, path)
    return _session(path, threads)


def _session(path: Path, threads: int | None) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    return forward


def _export(model: SentenceTransformer, target: Path) -> None:
    """Export, quantise, compare with the original, and only then keep."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Vectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

    target.parent.mkdir(parents=True, exist_ok=True)
    example = torch.ones((2, 8), dtype=torch.int64)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        exported, quantised = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of shape checks that always hold
            torch.onnx.export(
                Vectors().eval(),
                (example, example),
                str(exported),
                input_names=["input_ids", "attention_mask"],
                output_names=["sentence_embedding"],
                dynamic_axes={name: {0: "texts", 1: "tokens"} for name in ("input_ids", "attention_mask")},
                opset_version=17,
                dynamo=False,  # torch 2.13's newer exporter gives a MiniLM whose vectors are wrong, without a word
            )
        quantize_dynamic(exported, quantised, weight_type=QuantType.QInt8, per_channel=True)
        cosine = _worst_cosine(model, _session(quantised, threads=1))
        if cosine < _LEAST_COSINE:
            raise ModelError(
                f"the int8 export of this encoder is wrong: cosine {cosine:.2f} to its fp32 vectors, expected at least "
                f"{_LEAST_COSINE}. Use precision='fp32', and report the versions of torch and onnxruntime"
            )
        os.replace(quantised, target)


def _worst_cosine(model: SentenceTransformer, forward: Forward) -> float:
    cosines = []
    for text in _PROBES:
        ids = np.array([model.tokenizer(text, padding=False)["input_ids"]], dtype=np.int64)
        ours, theirs = forward(ids, np.ones_like(ids))[0], model.encode(text, show_progress_bar=False)
        cosines.append(float(ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))))
    return min(cosines)
