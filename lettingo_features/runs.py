"""Run records: every pipeline step leaves ``runs/<id>/run.json``, written at its start and again at its end."""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from lettingo_features.home import Home

RECORDED_PACKAGES = ("lettingo_features", "feast", "duckdb", "pyarrow", "pandas", "torch", "transformers", "lightgbm")


class Run:
    """One step's record: ``record(...)`` adds to what is written when the step ends.

    ``status`` is ``running`` until then, so a record that still says so, with a dead ``pid``, was killed.
    """

    def __init__(self, path: Path, step: str, config: dict[str, Any]) -> None:
        self.path = path
        self.facts: dict[str, Any] = {
            "id": path.parent.name,
            "step": step,
            "status": "running",
            "pid": os.getpid(),
            "started_at": datetime.now(UTC).isoformat(),
            "config": config,
            "versions": installed_versions(),
            "python": platform.python_version(),
        }

    @property
    def id(self) -> str:
        return self.facts["id"]

    def record(self, **facts: Any) -> None:
        self.facts.update(facts)

    def write(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.facts, indent=2, default=str) + "\n")
        os.replace(temporary, self.path)


@contextmanager
def run_record(home: Home, step: str, config: dict[str, Any] | None = None) -> Iterator[Run]:
    """Record ``step``: its config, versions, wall and CPU seconds, peak resident memory (MB) and how it ended."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    directory = home.runs / f"{stamp}-{step.replace(' ', '-')}-{uuid4().hex[:6]}"
    directory.mkdir(parents=True)
    run = Run(directory / "run.json", step, config or {})
    run.write()
    wall, cpu = time.monotonic(), _cpu_seconds()
    try:
        yield run
        run.record(status="done")
    except BaseException as error:
        run.record(status="failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        run.record(
            ended_at=datetime.now(UTC).isoformat(),
            seconds=round(time.monotonic() - wall, 3),
            cpu_seconds=round(_cpu_seconds() - cpu, 3),
            peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
        run.write()


def installed_versions() -> dict[str, str]:
    """Versions of the packages that shape results; a package that is not installed is left out."""
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
