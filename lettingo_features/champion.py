"""Which release the alias services name: one small file of a home, read by the feature repository.

The registry (`releases.ReleaseRegistry`) decides; this file repeats its decision for ``feast apply``, which must work
on hosts without that database and must see one state from its first module to its last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from lettingo_features.errors import ReleaseError

ALIAS = "champion"
"""In the place of a release's name: ``profile_text_champion``. No release may take it."""
FIRST_CHAMPION = "v1"
"""Champion of a home that never promoted: the release that the quick start builds."""
ALIAS_TAG = "alias_of"
"""Tag of an alias service; its value is the release that answers."""


class Served(NamedTuple):
    """What the registry decided: the champion, and the releases that are no longer declared."""

    champion: str = FIRST_CHAMPION
    withheld: tuple[str, ...] = ()


def served_path(root: Path) -> Path:
    return root / "serving.json"


def read_served(root: Path) -> Served:
    """The decision as last published in the home at ``root``; the default where there was none.

    Raises
    ------
    ReleaseError
        The file cannot be read.
    """
    path = served_path(root)
    try:
        facts = json.loads(path.read_text())
        return Served(facts["champion"], tuple(facts["withheld"]))
    except FileNotFoundError:
        return Served()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"{path} cannot be read ({error}). Write it again: lettingo release promote NAME, with the champion's "
            "name, which changes nothing else."
        ) from error


def write_served(root: Path, served: Served) -> None:
    """Publish ``served``, whole or not at all, on disk before this returns."""
    path = served_path(root)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as stream:
        json.dump(served._asdict(), stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
