"""What a directory of model files is, by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lettingo_features.generation.engine import content_id

_SHAPING = ("*.json", "*.jinja", "*.safetensors", "*.bin", "*.pt", "*.model", "*.txt", "*.py")
"Files of a model directory that shape a text. Of older trainers the *.bin and *.pt may be mere state: a name too many."


def model_hash(model: str) -> str:
    """sha256 over the names and contents of the files that shape a text; of a hub id, over the id.

    NOTE: a hub id names no revision. Download the model and give its directory where a run must be repeatable.
    """
    directory = Path(model)
    if not directory.is_dir():
        return content_id(model)
    parts = []
    for path in sorted({path for pattern in _SHAPING for path in directory.glob(pattern)}):
        with path.open("rb") as stream:
            parts += [path.name, hashlib.file_digest(stream, "sha256").hexdigest()]
    return content_id(*parts)


def adapter_name(directory: str) -> str:
    """The name under which an adapter is served, "adapter-" and 16 hex digits of its content: a new adapter is a new
    name, so no server or cache can answer with an old one."""
    return f"adapter-{model_hash(directory)[:16]}"
