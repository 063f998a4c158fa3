"""Several processes with one engine each: the way to use more than one core with a small model.

Nothing is loaded before the first prompt, so that a run with nothing to ask costs nothing.

Threads do not help there: at one million parameters an operation lasts microseconds, and two threads spend them waiting
for each other. NOTE: workers are spawned, so a script that starts a pool needs ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cached_property
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from lettingo_features.generation.engine import Completion
from lettingo_features.generation.local_engine import LocalEngine
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine

POOL_FROM = 512
"""Prompts from which starting worker processes pays."""
_engine: TransformersEngine | None = None  # of this worker process


class WorkerPool(LocalEngine):
    """An engine that answers as `TransformersEngine` does: same identity, same texts.

    Parameters
    ----------
    config
        Of every worker's engine; its ``threads`` become 1.
    processes
        Workers; each loads the model once, which costs an import of torch.
    """

    def __init__(self, config: TransformersConfig, processes: int) -> None:
        super().__init__(config)
        self._processes = processes
        self._executor = ProcessPoolExecutor(
            processes, get_context("spawn"), _start, (config.model_copy(update={"threads": 1}),)
        )
        self._share = 4 * config.batch_size

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Yield (index into ``prompts``, answer) as they come, each index once.

        Few prompts are answered in this process: starting workers would cost more. Of many, those of like size go to
        one worker, so that its batches need little padding.
        """
        if self._processes == 1 or len(prompts) < POOL_FROM:
            yield from self._here.generate(prompts, streams)
            return
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        size = min(self._share, -(-len(prompts) // self._processes) or 1)
        shares = [order[start : start + size] for start in range(0, len(order), size)]
        futures = {
            self._executor.submit(_answer, [prompts[row] for row in share], [streams[row] for row in share]): share
            for share in shares
        }
        try:
            for future in as_completed(futures):
                share = futures[future]
                yield from ((share[index], completion) for index, completion in future.result())
        finally:  # a caller that stops early wants no more of them
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Stop the workers."""
        self._executor.shutdown(cancel_futures=True)
        self.__dict__.pop("_here", None)

    @cached_property
    def _here(self) -> TransformersEngine:
        return TransformersEngine(self.config)


def _start(config: TransformersConfig) -> None:
    global _engine
    Thread(target=_end_with_the_parent, daemon=True).start()
    _engine = TransformersEngine(config)


def _end_with_the_parent() -> None:
    """A worker of a process that was killed would answer what is queued, and then wait and hold its memory for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(prompts: list[str], streams: list[int]) -> list[tuple[int, Completion]]:
    if _engine is None:
        raise RuntimeError("worker without an engine")
    return list(_engine.generate(prompts, streams))
