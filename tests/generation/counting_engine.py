"""An engine that is quick, exact, and writes each call it makes into a file: what no test can argue with."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lettingo_features.generation.engine import Completion, content_id


class CountingEngine:
    """Answers "prompt/stream" in reverse, or what ``outcome(prompt)`` returns; each call is a line in ``log``."""

    name = "counting"
    samples = True
    prompt_budget = 1000

    def __init__(
        self,
        log: Path,
        identity: str = "counting-1",
        pause_s: float = 0.0,
        cost: float = 0.0,
        outcome: Callable[[str], Completion | None] = lambda prompt: None,
    ) -> None:
        self.identity = content_id(identity)
        self.batches: list[int] = []
        self._log = log
        self._pause_s = pause_s
        self._cost = cost
        self._outcome = outcome

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        self.batches.append(len(prompts))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for index in reversed(range(len(prompts))):  # not in order: no engine promises one
                os.write(log, f"{prompts[index]}/{streams[index]}\n".encode())
                time.sleep(self._pause_s)
                yield index, self._outcome(prompts[index]) or answer(prompts[index], streams[index], self._cost)
        finally:
            os.close(log)

    def close(self) -> None: ...


def answer(prompt: str, stream: int, cost: float = 0.0) -> Completion:
    return Completion(f"{prompt}/{stream}"[::-1], n_tokens=3, n_prompt_tokens=len(prompt), seconds=0.5, cost=cost)


def calls_made(log: Path) -> Counter[str]:
    """How often each "prompt/stream" was called."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()
