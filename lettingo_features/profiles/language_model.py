"""Profiles written by a language model: the shipped one, a release of it, or any other by directory or id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import ModelError
from lettingo_features.generation.engine import content_id
from lettingo_features.generation.model_files import model_hash
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.generation.worker_pool import WorkerPool
from lettingo_features.profiles.generator import ProfileRequest, Progress
from lettingo_features.profiles.prompt import INSTRUCTION, PROMPT_VERSION, fit, render

VERSION = "1"
"""Part of the identity: raise it with any change to the texts that neither prompt nor model nor settings show."""
EMBEDDED_NAME = "embedded-lm"
PROMPT_KEY = "lettingo_prompt"
"""Field of config.json that names the prompt a model was trained on; without it a model gets the instruction."""
_POOL_FROM = 512  # requests from which starting worker processes pays
_WINDOW = 4_096  # requests sorted by length together, and the size of a yielded batch


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


class LanguageModelGenerator:
    """A `generator.Generator` on a causal language model.

    ::

        generator = LanguageModelGenerator(LanguageModelConfig(temperature=1.0, seed=3))
        texts = [text for batch in generator.write(requests) for text in batch]

    A request whose text cannot be used (prompt too long, empty, unfinished or looping answer) gets "", and the caller
    falls back; `counts` says how many and why. Nothing is shortened silently: ``rows_trimmed`` counts history rows
    that did not fit.

    Raises
    ------
    ModelError
        The directory lacks a file, or its model was trained on another version of the prompt.
    """

    def __init__(self, config: LanguageModelConfig | None = None) -> None:
        self.config = config or LanguageModelConfig()
        self.counts: Counter[str] = Counter()
        self._model = self.config.model or str(embedded_model())
        self._instruction = _instruction(self._model)

    @property
    def name(self) -> str:
        return Path(self._model).name if self.config.model else EMBEDDED_NAME

    @cached_property
    def generator_id(self) -> str:
        c = self.config
        settings = (c.temperature, c.seed if c.temperature > 0 else 0, c.max_new_tokens, c.dtype)
        return content_id(
            "language_model", VERSION, PROMPT_VERSION, self._instruction, model_hash(self._model), repr(settings)
        )

    def write(self, requests: Sequence[ProfileRequest], progress: Progress | None = None) -> Iterator[list[str]]:
        """Yield texts in the order of ``requests``, up to 4,096 at a time; "" where the caller must fall back."""
        for start in range(0, len(requests), _WINDOW):
            window = requests[start : start + _WINDOW]
            texts = [""] * len(window)
            done = start
            for index, text in self._answers(window):
                texts[index] = text
                done += 1
                if progress and (done % self.config.batch_size == 0):
                    progress(done, len(requests))
            if progress:
                progress(start + len(window), len(requests))
            yield texts

    def _answers(self, requests: Sequence[ProfileRequest]) -> Iterator[tuple[int, str]]:
        prompts = self._prompts(requests)
        rows = [row for row, prompt in enumerate(prompts) if prompt is not None]
        engine = self._pool if self.config.processes > 1 and len(rows) >= _POOL_FROM else self._engine
        streams = [requests[row].stream(self.config.seed) for row in rows]
        for index, answer in engine.generate([prompts[row] for row in rows], streams):
            if answer.problem:
                self.counts[answer.problem] += 1
            yield rows[index], "" if answer.problem else answer.text

    def _prompts(self, requests: Sequence[ProfileRequest]) -> list[str | None]:
        """The prompt of each request, or None where even the shortest does not fit."""
        engine = self._engine
        prompts: list[str | None] = [render(request.summary, request.style) for request in requests]
        for row, size in enumerate(engine.n_tokens(prompts)):
            if size > engine.prompt_budget:
                summary, style = requests[row].summary, requests[row].style
                prompts[row], trimmed = fit(
                    summary, style, lambda text: engine.n_tokens([text])[0], engine.prompt_budget
                )
                self.counts["rows_trimmed"] += trimmed
                self.counts["prompt_too_long"] += prompts[row] is None
        return prompts

    @cached_property
    def _engine(self) -> TransformersEngine:
        return TransformersEngine(self._engine_config)

    @cached_property
    def _pool(self) -> WorkerPool:
        return WorkerPool(self._engine_config, self.config.processes)

    @property
    def _engine_config(self) -> TransformersConfig:
        shared = self.config.model_dump(exclude={"model", "seed", "processes"})
        return TransformersConfig(model=self._model, instruction=self._instruction, **shared)


def embedded_model() -> Path:
    """Directory of the language model that ships with this package; its CARD.md says what it is."""
    return Path(str(files("lettingo_features.profiles"))) / "embedded"


def _instruction(model: str) -> str:
    """What precedes the rows: nothing for a model that was trained on them."""
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
