"""Hand-written rows of the loop's tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from lettingo_features.alignment.tables import CANDIDATES, PROMPTS, REWARDS

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)


def candidates(*rows: tuple[str, str, str, str]) -> pa.Table:
    """(candidate_id, user_id, generator, text) each."""
    return _table(
        CANDIDATES,
        [
            {"candidate_id": candidate_id, "user_id": user_id, "generator": generator, "text": text}
            | {"cutoff": CUTOFF, "window_digest": f"window of {user_id}", "generator_id": f"id of {generator}"}
            | {"style": "", "draw": n, "n_words": len(text.split()), "n_lint": 0, "call_key": ""}
            for n, (candidate_id, user_id, generator, text) in enumerate(rows)
        ],
    )


def rewards(values: dict[str, float], noise: float = 0.0, correct: dict[str, bool] | None = None) -> pa.Table:
    """Reward of each candidate_id; the user stands before the first letter's number: "u1a" is of "u1"."""
    return _table(
        REWARDS,
        [
            {"candidate_id": candidate_id, "user_id": candidate_id[:2], "reward": "judge", "value": value, "raw": value}
            | {"noise": noise, "no_profile": 0.0, "n_targets": 1, "answer": ""}
            | {"correct": None if correct is None else correct[candidate_id]}
            for candidate_id, value in values.items()
        ],
    )


def prompts(*users: str) -> pa.Table:
    return _table(
        PROMPTS,
        [
            {"user_id": user, "cutoff": CUTOFF, "window_digest": f"window of {user}"}
            | {"n_interactions": 5, "prompt": f"history of {user}"}
            for user in users
        ],
    )


def _table(schema: pa.Schema, rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)
