"""Preference pairs for tests and benchmarks: prompts and texts of the embedded model's own corpus, made up throughout.

The chosen text is the reference profile of its prompt; the rejected one is another summary's, in the same style. So a
model that reads its prompt prefers the chosen one, and learns to more.
"""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

from lettingo_features.profiles.corpus import documents


def rows(n: int, seed: int = 4_321) -> list[dict]:
    """``n`` pairs of distinct prompts, as conversational rows."""
    made = []
    for (shared, profiles), (_, others) in pairwise(islice(documents(seed), n + 1)):
        (style, chosen), (_, rejected) = profiles[len(made) % 4], others[len(made) % 4]
        made.append(
            {
                "prompt": [{"role": "user", "content": f"{shared} {style}"}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "pair_id": str(len(made)),
                "margin": 0.5,
            }
        )
    return made


def write(rows: list[dict], target: Path) -> Path:
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target
