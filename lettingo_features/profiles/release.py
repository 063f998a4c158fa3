"""A release on disk: what it was built with, which cutoffs are finished, and the lock of the run that writes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lettingo_features.champion import ALIAS
from lettingo_features.errors import ConfigError
from lettingo_features.home import Home


class Release:
    """``releases/<name>.json`` of a home."""

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self.path = home.root / "releases" / f"{name}.json"
        self._facts = self._read()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait for and hold the right to write the release; facts are read again, as the last holder left them.

        Held for seconds at a time: two runs of one release take turns. A killed holder frees it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self._facts = self._read()
            yield

    @property
    def facts(self) -> dict[str, Any]:
        """What it was built with; empty before its first build."""
        return dict(self._facts)

    @property
    def rating_max(self) -> float | None:
        """Top of the rating scale that the release reads; None before its first build."""
        return self._facts.get("rating_max")

    def register(self, identity: dict[str, Any], rating_max: Callable[[], float]) -> float:
        """Keep ``identity`` when the release is new, else require the same; return its rating scale, fixed at first.

        Raises
        ------
        ConfigError
            The release was built with another identity, or its name is reserved.
        """
        if self.name == ALIAS:
            raise ConfigError(f"No release may be called {ALIAS}: the alias services have that name. Choose another.")
        if not self._facts:
            self._write({**identity, "rating_max": rating_max(), "finished": []})
        changed = sorted(key for key in identity if identity[key] != self._facts.get(key))
        if changed:
            raise ConfigError(
                f"The release {self.name} was built with other settings: {', '.join(changed)} differ, see {self.path}. "
                "A version is a name: choose a new release name for other generators, windows, styles or encoders."
            )
        return self._facts["rating_max"]

    def is_finished(self, cutoff: datetime) -> bool:
        """True once a run over all users went through ``cutoff``: what comes later was not served then."""
        return _key(cutoff) in self._facts["finished"]

    def finish(self, cutoff: datetime) -> None:
        if not self.is_finished(cutoff):
            self._write({**self._facts, "finished": sorted([*self._facts["finished"], _key(cutoff)])})

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

    def _write(self, facts: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(f"{self.path}.tmp")
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
        os.replace(temporary, self.path)
        self._facts = facts


def _key(cutoff: datetime) -> str:
    return cutoff.astimezone(UTC).isoformat()
