"""Preference pairs as the conversational JSON lines that TRL reads::

    {"prompt": [{"role": "user", "content": "..."}], "chosen": [{"role": "assistant", "content": "..."}],
     "rejected": [{"role": "assistant", "content": "..."}], "pair_id": "...", "margin": 0.41}

``trl dpo --dataset_name DIRECTORY``, where the file is alone in its directory, and `trl.DPOTrainer` take it as it is
and ignore the last two. No user id is in it: `pair_store.PairStore` knows whose a pair is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa


def write_pairs(pairs: pa.Table, target: Path, user_turn: Callable[[str], str] = str) -> Path:
    """Write ``pairs`` (schema `tables.PAIRS`) to ``target``, one line each in their order, whole or not at all.

    Parameters
    ----------
    user_turn
        Puts the instruction before a prompt, as the engine of the generator in training does
        (`generation.engine.EngineConfig.user_turn`); left out for a model that was trained on the bare prompts.
    """
    columns = [pairs[name].to_pylist() for name in ("prompt", "chosen", "rejected", "pair_id", "margin")]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid4().hex}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for prompt, chosen, rejected, pair_id, margin in zip(*columns, strict=True):
                row = {
                    "prompt": _turn("user", user_turn(prompt)),
                    "chosen": _turn("assistant", chosen),
                    "rejected": _turn("assistant", rejected),
                    "pair_id": pair_id,
                    "margin": margin,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _turn(role: str, content: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]
