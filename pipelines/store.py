"""The Feast repository of this checkout: opened in process, or through Feast's own command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[1] / "feature_repo"


def open_store(home):
    """Feast's FeatureStore over ``feature_repo/`` with its state in ``home``."""
    from feast import FeatureStore

    os.environ["LETTINGO_HOME"] = str(home.root)
    return FeatureStore(repo_path=str(REPO))


def feast(home, *arguments: str) -> str:
    """Run Feast's own command line on ``feature_repo/`` and return what it printed.

    Raises
    ------
    ConfigError
        It failed; the message ends with its last lines.
    """
    from lettingo_features.errors import ConfigError
    from serving.server import feast_executable

    command = [feast_executable(), "-c", str(REPO), *arguments]
    environment = {**os.environ, "LETTINGO_HOME": str(home.root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ConfigError(f"'feast -c feature_repo {' '.join(arguments)}' ended with {done.returncode}:\n{last}")
    return done.stdout
