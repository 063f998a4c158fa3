"""What an engine of a model directory says without the weights: its name, its identity, how long a prompt may be.

Whoever only counts calls and tokens (a dry run, a run whose answers are all in the ledger) loads a tokenizer, no model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lettingo_features.generation.engine import EngineConfig
from lettingo_features.generation.frame import Frame, load_frame


class LocalConfig(EngineConfig):
    """Of an engine that has the model's directory; each kind adds how it loads it."""

    extra: ClassVar[str]
    """Extra of this package that brings what the engine needs."""

    def model_name(self) -> str:
        """Short name for tables and reports."""
        return Path(self.model).name

    @abstractmethod
    def model_identity(self) -> str:
        """The engine's identity (see `engine.Engine.identity`)."""

    def frame(self) -> Frame:
        """What stands round the data of a prompt; loads the tokenizer."""
        return load_frame(self.model, self, self.extra)


class LocalEngine:
    """The part of an `engine.Engine` that its config answers."""

    def __init__(self, config: LocalConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        return self.config.model_name()

    @cached_property
    def identity(self) -> str:
        return self.config.model_identity()

    @property
    def samples(self) -> bool:
        return self.config.temperature > 0

    @cached_property
    def frame(self) -> Frame:
        return self.config.frame()

    @property
    def prompt_budget(self) -> int:
        """Tokens that the data of one prompt may take, so that frame and answer fit into the context."""
        return self.frame.budget

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as data, without the frame of the chat template."""
        return self.frame.n_tokens(texts)
