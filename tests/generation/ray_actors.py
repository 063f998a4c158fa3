"""Actors for tests of the Ray pipeline: quick, without a model; they live in Ray's worker processes. And their pids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ray_engine import Worker


class Logs:
    """Writes a line into ``log`` for each block; answers (block, pid) with ``padding`` bytes of ballast."""

    def __init__(self, log: Path, padding: int = 0) -> None:
        self._log = log
        self._padding = padding

    def __call__(self, block: pa.Table) -> pa.Table:
        (number,) = block["block"].to_pylist()
        with self._log.open("a") as log:
            log.write(f"{number}\n")
        return pa.table({"block": [number], "pid": [os.getpid()], "ballast": [b"x" * self._padding]})


class DiesOnce(Logs):
    """Kills its own process in the middle of block 3, the first time."""

    def __call__(self, block: pa.Table) -> pa.Table:
        done = self._log.with_suffix(".died")
        if block["block"].to_pylist() == [3] and not done.exists():
            done.touch()
            os.kill(os.getpid(), 9)
        return super().__call__(block)


class CannotStart:
    """Fails as an engine does whose model is not on this node."""

    def __init__(self) -> None:
        raise OSError("no such directory: models/lost")

    def __call__(self, block: pa.Table) -> pa.Table:
        return block


class Breaks(Worker):
    """An engine that is dead after the prompt "bad", as one whose GPU ran out of memory; each load is a line."""

    def __init__(self, log: Path) -> None:
        with log.open("a") as lines:
            lines.write("loaded\n")
        self._engine = _Brittle()
        self._broken = False


class _Brittle:
    dead = False

    def generate(self, prompts: list[str], streams: list[int]) -> Iterator[tuple[int, Completion]]:
        self.dead |= "bad" in prompts
        if self.dead:
            raise RuntimeError("CUDA out of memory")
        yield from ((row, Completion(prompt.upper(), 1)) for row, prompt in enumerate(prompts))


def pids(driver: int) -> list[int]:
    """Processes that are actors of the pipeline (by the title Ray gives them) of the Ray that ``driver`` started."""
    return [process for process, title in _titles().items() if _ACTOR in title and driver in _ancestors(process)]


_ACTOR = b"MapWorker(MapBatches(Worker))"


def _titles() -> dict[int, bytes]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(process.name)] = (process / "cmdline").read_bytes()
    return found


def _ancestors(process: int) -> set[int]:
    found: set[int] = set()
    with suppress(OSError):
        while process > 1:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            found.add(process)
    return found
