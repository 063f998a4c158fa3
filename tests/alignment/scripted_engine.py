"""A judge whose every answer stands in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lettingo_features.generation.engine import Completion, content_id


class ScriptedEngine:
    """Answers what ``script(prompt)`` returns: a text, or a whole completion; keeps the prompts it saw."""

    name = "scripted"
    identity = content_id("scripted-1")

    def __init__(self, script: Callable[[str], str | Completion], prompt_budget: int = 10_000, samples: bool = False):
        self.script, self.prompt_budget, self.samples = script, prompt_budget, samples
        self.seen: list[str] = []

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        for index in reversed(range(len(prompts))):  # no engine promises an order
            self.seen.append(prompts[index])
            found = self.script(prompts[index])
            yield index, found if isinstance(found, Completion) else Completion(found, n_tokens=5)

    def close(self) -> None: ...
