"""The model that a training starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lettingo_features.errors import MissingExtraError, ModelError
from lettingo_features.generation.frame import context


@dataclass(frozen=True)
class BaseModel:
    """A causal language model in memory, its tokenizer, positions and directory, and its config's cache setting."""

    model: Any
    tokenizer: Any
    context: int
    directory: Path
    use_cache: bool

    @property
    def name(self) -> str:
        return self.directory.name


def load_base(directory: Path, threads: int | None, options: Mapping[str, Any] | None = None) -> BaseModel:
    """Load a model directory in float32, unless ``options`` (of ``from_pretrained``) say otherwise.

    Raises
    ------
    ModelError
        No whole model directory, or one with an adapter: merge that first.
    MissingExtraError
        torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingExtraError("Training", "train") from None
    from lettingo_features.profiles.local_model import instruction_for  # brings the ledger and its SQL: seconds

    if not directory.is_dir():
        raise ModelError(f"There is no model directory {directory}. Download the model and give its directory.")
    instruction_for(str(directory))  # says what a broken directory lacks, and refuses a model of another prompt
    if (directory / "adapter_config.json").is_file():
        raise ModelError(f"{directory} holds an adapter. Give the directory of the merged model.")
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with without_bars():
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                directory, local_files_only=True, **{"dtype": torch.float32, **(options or {})}
            )
    except Exception as error:  # transformers, tokenizers and safetensors share no error type
        cause = " ".join(str(error).split())[:300]
        raise ModelError(f"Cannot load a causal language model from {directory}: {cause}") from error
    return BaseModel(model, tokenizer, context(model.config), directory, model.config.use_cache)


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers draws no bar per file that it reads or writes: they say nothing here."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
