"""What a trained model carries with it: where it comes from, whom it was trained on, what the gate said.

``CARD.md`` is for people and is made anew from the files in ``card/``, which are for programs. Neither is part of the
model's content hash (`generation.model_files.model_hash` reads the directory's own JSON, text and weights only), so a
gate's verdict does not rename the model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.errors import ModelError
from lettingo_features.home import write_parquet

FACTS = Path("card") / "training.json"
_GATE = Path("card") / "gate.json"
_USERS = Path("card") / "trained_on.parquet"
_USER = pa.schema([pa.field("user", pa.binary(32))])


@dataclass(frozen=True)
class Provenance:
    """Whose interactions the pairs come from, and how they were made.

    Parameters
    ----------
    user_ids
        Of all pairs, held-out ones included.
    window
        [start, cutoff) of the interactions that prompts, candidates and rewards saw; None where unknown.
    pair_rule
        In words or as a configuration's JSON.
    counts
        Such as pairs per reason of being dropped.
    """

    user_ids: Sequence[str]
    window: tuple[datetime, datetime] | None
    pair_rule: str
    counts: Mapping[str, int]

    def facts(self) -> dict[str, Any]:
        return {
            "users": len(set(self.user_ids)),
            "window": [end.isoformat() for end in self.window] if self.window else None,
            "pair_rule": self.pair_rule,
            "counts": dict(self.counts),
        }


class Verdict(Protocol):
    """Of a gate: `verdict.Verdict`."""

    def to_json(self) -> dict[str, Any]: ...

    def to_text(self) -> str: ...


def write_card(model_dir: Path, facts: Mapping[str, Any], user_ids: Sequence[str]) -> None:
    """Write the card of a model directory that is not published yet.

    Parameters
    ----------
    facts
        JSON values; ``key``, the content hash of the training, salts the list of users.
    """
    (model_dir / FACTS.parent).mkdir()
    (model_dir / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    hashes = sorted(_hashed(facts["key"], user_id) for user_id in set(user_ids))
    write_parquet(model_dir / _USERS, pa.table([hashes], schema=_USER).to_batches(), _USER)
    _render(model_dir)


def read_facts(model_dir: Path) -> dict[str, Any]:
    """What `write_card` was given.

    Raises
    ------
    ModelError
        The directory has no such card.
    """
    try:
        return json.loads((model_dir / FACTS).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model_dir} has no readable {FACTS} ({error}): it was not trained here, or was copied without its card."
        ) from error


def trained_on(model_dir: Path, user_id: str) -> bool:
    """True if the model learned from interactions of this user: what an erasure asks.

    The card holds sha256(key of the training ‖ user id) and no id. The key differs between trainings, so two cards
    cannot be joined; but who has the card and guesses an id can check the guess, as this function does.
    """
    hashes = pq.read_table(model_dir / _USERS, filters=[("user", "==", _hashed(read_facts(model_dir)["key"], user_id))])
    return hashes.num_rows > 0


def write_gate_result(model_dir: Path, verdict: Verdict) -> None:
    """Keep a gate's verdict beside the weights and show it in the card; an earlier one is replaced."""
    read_facts(model_dir)
    text = {"text": verdict.to_text(), "verdict": verdict.to_json()}
    _replace(model_dir / _GATE, json.dumps(text, indent=2) + "\n")
    _render(model_dir)


def _hashed(salt: str, user_id: str) -> bytes:
    return hashlib.sha256(f"{salt}\x1f{user_id}".encode()).digest()


def _render(model_dir: Path) -> None:
    facts = read_facts(model_dir)
    gate = json.loads((model_dir / _GATE).read_text())["text"] if (model_dir / _GATE).is_file() else "Not judged yet."
    data = facts["data"]
    window = " to ".join(data["window"]) + " (end excluded)" if data["window"] else "not stated"
    told = {"held out": facts["held_out"], **data["counts"]}
    counts = ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in told.items())
    adapter = (
        f"`{facts['adapter']}`, merged into these weights" if facts["adapter"] else "none: all weights were trained"
    )
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in facts["metrics"].items())
    card = f"""# {facts["method"]} of {facts["base_name"]}

| | |
|---|---|
| base model | `{facts["base_name"]}`, content hash `{facts["base"]}` |
| adapter | {adapter} |
| training | content hash `{facts["key"]}`: base, pairs and configuration |
| interactions | {window} |
| users | {data["users"]:,}; `card/trained_on.parquet` holds their salted hashes, `model_card.trained_on` asks it |
| pairs | {facts["pairs"]:,}; {counts} |
| pair rule | {" ".join(data["pair_rule"].split()).replace("|", "/")} |
| licence | that of the base model: its owner decides what these weights may be used for |

## Metrics

| metric | value |
|---|---|
{rows}

## Configuration

```json
{json.dumps(facts["config"], indent=2)}
```

## Gate

```
{gate}
```
"""
    _replace(model_dir / "CARD.md", card)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
