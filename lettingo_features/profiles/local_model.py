"""Models on this machine as writers of profiles: the shipped one, a release of it, or any other directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import ModelError
from lettingo_features.generation.engine import Engine
from lettingo_features.generation.runner import Runner
from lettingo_features.generation.transformers_engine import TransformersConfig
from lettingo_features.generation.worker_pool import WorkerPool
from lettingo_features.profiles.language_model import LanguageModelGenerator, ProfilePrompt
from lettingo_features.profiles.prompt import INSTRUCTION, PROMPT_VERSION, RowsPrompt

EMBEDDED_NAME = "embedded-lm"
PROMPT_KEY = "lettingo_prompt"
"""Field of config.json that names the prompt a model was trained on; without it a model gets the instruction."""


class LanguageModelConfig(Config):
    """Which model writes, and how."""

    model: str | None = None
    """Directory or hub id; None is the embedded model of this package."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 writes the likeliest text; exploration for preference pairs samples at 1."""
    seed: int = 0
    """Of the users' random streams; ignored at temperature 0."""
    max_new_tokens: int = Field(default=96, ge=1)
    """The longest reference text has about 80 tokens; a text that is still going is dropped and counted."""
    batch_size: int = Field(default=128, ge=1)
    dtype: str = "float32"
    threads: int | None = Field(default=1, ge=1)
    """Of this process; one is fastest for small models."""
    processes: int = Field(default=1, ge=1)
    """Worker processes, each with its own copy of the model; more than 1 needs a ``__main__`` guard in scripts."""


def local_generator(
    config: LanguageModelConfig | None = None,
    prompt: ProfilePrompt | None = None,
    calls: Callable[[Engine], Runner] | None = None,
) -> LanguageModelGenerator:
    """A generator on a model of this machine; the model is loaded when the first text is asked for.

    ::

        generator = local_generator(LanguageModelConfig(temperature=1.0, seed=3))
        drafts = [draft for batch in generator.write(requests) for draft in batch]

    Parameters
    ----------
    prompt
        What is asked; rows of the summary (`prompt.RowsPrompt`) when left out.
    calls
        Makes the runner of the engine, for calls that go through the ledger.

    Raises
    ------
    ModelError
        The directory lacks a file, or its model was trained on another version of the prompt.
    """
    config = config or LanguageModelConfig()
    model = config.model or str(embedded_model())
    prompt = prompt or RowsPrompt(instruction_for(model))
    shared = config.model_dump(exclude={"model", "seed", "processes"})
    told = TransformersConfig(model=model, instruction=prompt.instruction, json_schema=prompt.json_schema, **shared)
    engine = WorkerPool(told, config.processes)
    name = "" if config.model else EMBEDDED_NAME
    return LanguageModelGenerator(prompt, engine, calls(engine) if calls else None, config.seed, name)


def embedded_model() -> Path:
    """Directory of the language model that ships with this package; its CARD.md says what it is."""
    return Path(str(files("lettingo_features.profiles"))) / "embedded"


def instruction_for(model: str) -> str:
    """What precedes the rows: nothing for a model that was trained on them; ModelError for one that cannot be read."""
    directory = Path(model)
    if not directory.is_dir():
        if directory.is_absolute() or model.startswith((".", "~")):
            raise ModelError(f"There is no model directory {model}. Give one that save_pretrained wrote, or a hub id.")
        return INSTRUCTION
    missing = [name for name in ("config.json", "tokenizer.json") if not (directory / name).is_file()]
    if missing or not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{model} is no model directory: it lacks {', '.join(missing) or 'a .safetensors file'}. Save model and "
            "tokenizer with save_pretrained into one fresh directory."
        )
    try:
        config = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{directory / 'config.json'} cannot be read as JSON ({error}). Save the model again."
        ) from error
    trained_on = config.get(PROMPT_KEY) if isinstance(config, Mapping) else None
    if trained_on not in (None, PROMPT_VERSION):
        raise ModelError(
            f"The model in {model} was trained on prompt '{trained_on}', this version writes '{PROMPT_VERSION}'. Train "
            "it again with pipelines/train_embedded_lm.py, or use the release of the package that made it."
        )
    return INSTRUCTION if trained_on is None else ""
