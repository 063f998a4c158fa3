"""A run directory as the loop leaves it, small and made by the loop's own tables, pairs and gate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lettingo_features.alignment.diversity import diversity
from lettingo_features.alignment.gate import GateConfig, MinimumEffect, PairedMetric, decide
from lettingo_features.alignment.guardrails import Guardrail
from lettingo_features.alignment.pairs import PairConfig, preference_pairs
from lettingo_features.alignment.shrinkage import Shrinkage
from lettingo_features.alignment.training_log import COLUMNS
from tests.alignment import rows

USERS = [f"u{n}" for n in range(8)]
METRICS = ("nDCG@10", "log-likelihood")
SHOWN = ("reward", *METRICS)
"In the order of the table of arms; the first decides nothing."
BASE_TEXT = 'Mostly Drama, some Crime. Loved "Heat".'
ALIGNED_TEXT = 'Mostly Drama, some Comedy. Loved "Heat" and "Alien".'
ARMS = {"base": 0.0, "sft": 0.01, "aligned": 0.05}  # arm: what it adds to every score
TEXTS = {"no profile": "", "base": BASE_TEXT, "sft": BASE_TEXT, "aligned": ALIGNED_TEXT}


def write_run(run_dir: Path, evil: str = "plain", written: str | None = None) -> Path:
    """All files of a run; ``evil`` stands in every string that comes from data or people, ``written`` in all texts."""
    written = evil if written is None else written
    candidates = rows.candidates(
        *(
            (f"{user}{name}", user, f"lm {evil}" if name != "c" else "statistical", f"{text} {written}")
            for user in USERS
            for name, text in (("a", "Loves Drama"), ("b", "Likes Crime"), ("c", "Mostly Drama"), ("d", "Likes Crime"))
        )
    )
    # u7 has no pair: its margins are below their noise
    values = {
        f"{user}{name}": (0.001 if user == "u7" else 0.1 * (number + 1)) * step
        for number, user in enumerate(USERS)
        for name, step in (("a", 1.0), ("b", -1.0), ("c", 0.25), ("d", -1.0))
    }
    rewards = rows.rewards(values, noise=0.02)
    prompts = rows.prompts(*USERS)
    prompts = prompts.set_column(4, "prompt", pa.array([f"history of {user}: {written}" for user in USERS]))
    pairs = preference_pairs(candidates, rewards, prompts, PairConfig())
    (run_dir / "pairs").mkdir(parents=True)
    for name, table in (("candidates", candidates), ("rewards", rewards), ("prompts", prompts)):
        pq.write_table(table, run_dir / f"{name}.parquet")
    pq.write_table(pairs.rows, run_dir / "pairs.parquet")
    vectors = np.eye(len(candidates), dtype=np.float32)
    shrinkage = Shrinkage({"log words": (0.02, 0.005), f"style {evil}": (-0.01, 0.02)}, 0.1, 0.05, 0.02)
    documents = {
        "run.json": {
            "config": {"name": evil, "shuffle_labels": False},
            "frame": {"reward_cutoff": "2024-03-01T00:00:00+00:00", "gate_users": 1234, "note": evil},
            "steps": {"explore": 12.0, f"train {evil}": 48.0},
        },
        "diversity.json": diversity(candidates, vectors),
        "reward.json": {
            "ranker": {"loss": 5.4321, "behaviour": {evil: 1.0}},
            "scene": {"targets": 77},
            "candidates_without_targets": 5,
            "shrinkage": shrinkage.to_json(),
            "guards": {"scrub_ratings": True, "mean_supported": None},
            "target_naming": {"own": 0.0125, "by_chance": 0.01},
            "controls": {"base": 0.0123, "shuffled": -0.0045, evil: 0.5},
        },
        "pairs/pairs.json": pairs.statistics.to_json(),
    }
    for name, document in documents.items():
        (run_dir / name).write_text(json.dumps(document))
    _write_training(run_dir)
    _write_gate(run_dir, evil, written)
    return run_dir


def _write_training(run_dir: Path) -> None:
    head = ["step", "epoch", "pairs", *COLUMNS]
    loss = [f"{step},{step / 100},training,{0.7 - step / 400},{step / 100},0.5" for step in range(1, 201)]
    for method in ("dpo", "sft"):
        (run_dir / method).mkdir()
        empty = "," * (len(head) - 6)
        lines = [",".join(head), *(row + empty for row in loss), f"200,2,held-out,0.25,1.5,0.75{empty}"]
        if method == "sft":  # knows a loss alone
            lines = [
                ",".join(head),
                *(f"{step},1,training,{3 - step / 10}{',' * (len(head) - 4)}" for step in (1, 2, 3)),
            ]
        (run_dir / method / "training.csv").write_text("\n".join(lines) + "\n")
    card = run_dir / "dpo" / "model" / "card" / "training.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"steps": 200, "metrics": {"kl": 1.2345}, "config": {}, "data": {}}))


def _write_gate(run_dir: Path, evil: str, written: str) -> None:
    rng = np.random.default_rng(0)
    base = {
        "reward": np.full(len(USERS), 0.1),
        "nDCG@10": rng.uniform(0.1, 0.4, len(USERS)),
        "log-likelihood": rng.normal(-6, 0.5, len(USERS)),
    }
    moves = np.array([1, 2, 3, 1, 1, 1, 1, -0.5])  # u2 gains most, u7 alone loses
    scores = {(arm, metric): base[metric] + add * moves for arm, add in ARMS.items() for metric in SHOWN}
    metrics = [PairedMetric(metric, scores["aligned", metric], scores["base", metric]) for metric in METRICS]
    config = GateConfig(permutations=199, resamples=200, minimum_effect=MinimumEffect(absolute=0.01), alpha=0.1)
    rails = (
        Guardrail(f"coverage {evil}", 0.9, 1.0, "at most 0.01 lower", low=0.99),
        Guardrail("cost", None, 1.0, evil),
        Guardrail("claims", math.nan, math.nan, "at most 0.02 higher", high=0.02),
    )
    verdict = decide(metrics, rails, config, {f"{evil} without a target": 3})
    gate = run_dir / "gate"
    gate.mkdir()
    (gate / "verdict.json").write_text(json.dumps(verdict.to_json()))
    table = [_row(arm, metric, found, found - scores["base", metric]) for (arm, metric), found in scores.items()]
    (gate / "table.json").write_text(json.dumps(table))
    ids = [f"{user} {evil}" for user in USERS]
    long = [
        {"user_id": user, "arm": arm, "metric": metric, "value": value}
        for (arm, metric), found in scores.items()
        for user, value in zip(ids, found.tolist(), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(long), gate / "scores.parquet")
    texts = [
        {"user_id": user, "arm": arm, "text": text and f"{text} {written}"}
        for arm, text in TEXTS.items()
        for user in ids
    ]
    pq.write_table(pa.Table.from_pylist(texts), gate / "texts.parquet")


def _row(arm: str, metric: str, values: np.ndarray, differences: np.ndarray) -> dict[str, object]:
    mean, difference = float(values.mean()), float(differences.mean())
    row = {"arm": arm, "metric": metric, "mean": mean, "interval": [mean - 0.1, mean + 0.1]}
    if arm == "base":
        return row | {"difference": None, "difference_interval": None, "p": None}
    return row | {"difference": difference, "difference_interval": [difference - 0.02, difference + 0.02], "p": 0.0321}
