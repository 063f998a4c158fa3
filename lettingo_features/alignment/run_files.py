"""What one run of the alignment loop left in its directory, read back for its report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.model_card import FACTS
from lettingo_features.errors import DataError


@dataclass(frozen=True)
class RunFiles:
    """The files of a run; None, or empty, where its step has not run.

    Attributes
    ----------
    name : str
        Of the run.
    run : dict
        ``config``, ``frame``, ``steps`` (seconds by step).
    candidates, prompts, rewards, pairs : pa.Table or None
        Schemas of `tables`.
    diversity : list of dict
        `diversity.diversity`.
    reward : dict
        ``ranker``, ``shrinkage``, ``guards``, ``target_naming``, ``controls``; each may be missing.
    pair_facts : dict
        `pair_statistics.PairStatistics.to_json`.
    dpo, sft : pa.Table or None
        `training_log`.
    trained : dict
        ``dpo`` and ``sft``: facts of the model's card.
    texts : pa.Table or None
        ``user_id, arm, text``.
    scores : pa.Table or None
        ``user_id, arm, metric, value``.
    arms : list of dict
        ``arm, metric, mean, interval, difference, p``.
    verdict : dict
        `verdict.Verdict.to_json`.
    """

    name: str
    run: dict[str, Any]
    candidates: pa.Table | None
    prompts: pa.Table | None
    rewards: pa.Table | None
    pairs: pa.Table | None
    diversity: list[dict[str, Any]]
    reward: dict[str, Any]
    pair_facts: dict[str, Any]
    dpo: pa.Table | None
    sft: pa.Table | None
    trained: dict[str, dict[str, Any]]
    texts: pa.Table | None
    scores: pa.Table | None
    arms: list[dict[str, Any]]
    verdict: dict[str, Any]

    def paired_scores(self, metric: str, candidate: str, released: str) -> tuple[list[str], np.ndarray]:
        """Users with finite scores under both arms, in order of id, and float64 (U, 2): candidate's, released one's."""
        if self.scores is None:
            return [], np.empty((0, 2))
        rows = self.scores.filter(pc.and_(pc.equal(self.scores["metric"], metric), pc.is_finite(self.scores["value"])))
        arms = [
            dict(zip(own[c.USER_ID].to_pylist(), own["value"].to_pylist(), strict=True))
            for own in (rows.filter(pc.equal(rows["arm"], arm)) for arm in (candidate, released))
        ]
        users = sorted(arms[0].keys() & arms[1].keys())
        return users, np.array([[arm[user] for arm in arms] for user in users], dtype=float).reshape(-1, 2)


def read_run(run_dir: Path) -> RunFiles:
    """Read ``<home>/alignment/<name>/``.

    Raises
    ------
    DataError
        There is no such directory, or a file in it cannot be read.
    """
    if not run_dir.is_dir():
        raise DataError(f"{run_dir} is no directory: `lettingo align run` makes it.")
    return RunFiles(
        name=run_dir.name,
        run=_json(run_dir / "run.json") or {},
        candidates=_table(run_dir / "candidates.parquet"),
        prompts=_table(run_dir / "prompts.parquet"),
        rewards=_table(run_dir / "rewards.parquet"),
        pairs=_table(run_dir / "pairs.parquet"),
        diversity=_json(run_dir / "diversity.json") or [],
        reward=_json(run_dir / "reward.json") or {},
        pair_facts=_json(run_dir / "pairs" / "pairs.json") or {},
        dpo=_table(run_dir / "dpo" / "training.csv"),
        sft=_table(run_dir / "sft" / "training.csv"),
        trained={method: facts for method in ("dpo", "sft") if (facts := _json(run_dir / method / "model" / FACTS))},
        texts=_table(run_dir / "gate" / "texts.parquet"),
        scores=_table(run_dir / "gate" / "scores.parquet"),
        arms=_json(run_dir / "gate" / "table.json") or [],
        verdict=_json(run_dir / "gate" / "verdict.json") or {},
    )


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not whole JSON: {error}. Run the step that writes it again.") from error


def _table(path: Path) -> pa.Table | None:
    from pyarrow import csv, parquet

    if not path.is_file():
        return None
    try:
        return csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run the step that writes it again.") from error
