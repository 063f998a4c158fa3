"""Which files of a model make another model."""

from __future__ import annotations

from pathlib import Path

import pytest

from lettingo_features.generation.model_files import adapter_name, model_hash


def adapter(directory: Path, name: str, content: bytes) -> str:
    directory.mkdir()
    (directory / "adapter_config.json").write_text("{}")
    (directory / name).write_bytes(content)
    return str(directory)


SHAPING = ["adapter_model.safetensors", "adapter_model.bin", "model.pt", "modeling.py", "vocab.txt", "chat.jinja"]


@pytest.mark.parametrize("name", SHAPING)
def test_another_content_is_another_name(tmp_path: Path, name: str) -> None:
    first, again, second = (adapter(tmp_path / str(i), name, b) for i, b in enumerate((b"a", b"a", b"b")))
    assert adapter_name(first) == adapter_name(again) != adapter_name(second)


def test_a_note_beside_the_model_is_no_other_model(tmp_path: Path) -> None:
    first, second = (adapter(tmp_path / str(i), "README.md", b) for i, b in enumerate((b"a", b"b")))
    assert model_hash(first) == model_hash(second)


def test_a_hub_id_is_its_own_name() -> None:
    assert model_hash("org/a") != model_hash("org/b")
