"""The gate of one alignment run: texts of every arm for unseen users, frozen judges, verdict, report, registration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.evaluator import Evaluator
from lettingo_features.alignment.gate import PairedMetric, decide
from lettingo_features.alignment.gate_scores import METRICS, GateJudges, arms_table, arms_text, scores_rows
from lettingo_features.alignment.guardrails import GeneratorFacts, guardrails
from lettingo_features.errors import ConfigError
from lettingo_features.evaluation.controls import foreign_rows
from lettingo_features.profiles.generator import Generator
from lettingo_features.profiles.support import names_in
from pipelines.align_files import AlignmentRun

BASE, SFT, ALIGNED = "base", "sft", "aligned"
STATISTICAL, NO_PROFILE = "statistical", "no profile"
SHUFFLED = {ALIGNED: "aligned, shuffled", BASE: "base, shuffled"}


def run_gate(run: AlignmentRun, candidate: str = ALIGNED) -> dict[str, Any]:
    """Compare ``candidate`` with the base on the gate's users; returns the verdict as JSON."""
    from lettingo_features.alignment.model_card import write_gate_result

    with run.step("gate", "gate/verdict.json") as is_due:
        if is_due:
            if run.config.sft is not None and not run.has("sft/model"):
                raise ConfigError("The SFT baseline is not trained yet: run lettingo align train first.")
            scene = run.scene("gate")
            texts, facts = _texts(run, scene.user_ids)
            judges = _judges(run, scene)
            scores = {arm: judges.scores(run.as_judged(lines)) for arm, lines in texts.items()}
            rows = arms_table(scores, BASE, seed=run.config.gate.seed)
            run.say(arms_text(rows))
            metrics = [PairedMetric(name, scores[candidate][name], scores[BASE][name]) for name in METRICS]
            limits = guardrails(facts[candidate], facts[BASE], run.config.gate.limits)
            dropped = {"no target that can be ranked": len(run.frame.gate) - len(scene.user_ids)}
            verdict = decide(metrics, limits, run.config.gate, dropped)
            run.say(verdict.to_text())
            run.write("gate/texts.parquet", _text_rows(scene.user_ids, texts))
            run.write("gate/scores.parquet", scores_rows(scene.user_ids, scores))
            run.write_json("gate/table.json", rows)
            write_gate_result(run.path("dpo/model"), verdict)
            run.write_json("gate/verdict.json", verdict.to_json() | {"released_revision": run.facts["base"]})
    return run.read_json("gate/verdict.json")


def run_report(run: AlignmentRun, command: str) -> Path:
    """The page that shows the run, with the first command that made one of it."""
    from lettingo_features.alignment.report import write_align_report

    known = run.facts
    if "command" not in known:
        run.write_json("run.json", known | {"command": command})
    return write_align_report(run.directory, run.path("report.html"), known.get("command", command))


def run_release(run: AlignmentRun, release: str, promote: bool) -> dict[str, Any]:
    """Register the aligned generator as ``release`` with its verdict; promote it if asked and if the gate says so.

    A release that was champion already, or was abandoned, is left as it is: a command that is repeated undoes neither
    a rollback nor what a person decided. A promotion that was interrupted is finished.
    """
    from lettingo_features.alignment.database_tables import ABANDONED, CHAMPION, RETIRED
    from pipelines.release import open_registry, run_promote, run_register

    config, verdict = run.config, run.read_json("gate/verdict.json")
    writer = replace(run.writer, model=str(run.path("dpo/model")))
    built = {
        "window": config.window.model_dump(),
        "max_words": config.max_words,
        "style": config.explore.styles[0],
        "min_interactions": config.frame.min_interactions,
    }
    with open_registry(run.home) as registry:
        settled = {one.name: one.state for one in registry.all() if one.state in (CHAMPION, RETIRED, ABANDONED)}
        promoted = False
        if release not in settled:
            adapter = run.path("dpo/adapter")  # of a training with LoRA
            merged = {"adapter": str(adapter), "base": str(run.base)} if adapter.is_dir() else None
            told = {"verdict": verdict, "encoder": run.encoder.config.model, "built": built, "merged": merged}
            run_register(run.home, registry, release, writer, **told)
            promoted = promote and verdict["decision"] == "promote"
            if promoted:
                run_promote(run.home, registry, release)
        state = registry.get(release).state
    return {"release": release, "state": state, "promoted": promoted}


def _texts(run: AlignmentRun, users: pa.Array) -> tuple[dict[str, list[str]], dict[str, GeneratorFacts]]:
    """One text per user and arm, and what the guardrails need of the arms that a model wrote.

    Where a model gave no text the statistical one stands, as it would be served.
    """
    from lettingo_features.profiles.statistical import StatisticalGenerator

    cutoff = run.frame.gate_cutoff
    plain = _plain(run, StatisticalGenerator(), users)
    arms: dict[str, list[str]] = {NO_PROFILE: [""] * len(users), STATISTICAL: plain}
    facts: dict[str, GeneratorFacts] = {}
    models = {BASE: None, SFT: run.path("sft/model") if run.has("sft/model") else None, ALIGNED: run.path("dpo/model")}
    for arm, model in models.items():
        if arm == SFT and model is None:
            continue
        written = run.written(model, cutoff, users)
        seconds = run.seconds_per_text(model, cutoff, users) * len(users)
        own = dict(zip(written[c.USER_ID].to_pylist(), written["text"].to_pylist(), strict=True))
        arms[arm] = [own.get(user) or other for user, other in zip(users.to_pylist(), plain, strict=True)]
        facts[arm] = _facts(written, len(users), seconds)
    every = np.ones(len(users), dtype=bool)
    order = foreign_rows(users, np.zeros(len(users), dtype=np.int64), every, run.config.gate.seed)
    for arm, name in SHUFFLED.items():
        arms[name] = [arms[arm][place] for place in order]
    return arms, facts


def _plain(run: AlignmentRun, generator: Generator, users: pa.Array) -> list[str]:
    asked = run.asked(run.frame.gate_cutoff, users, generator.reads_history)
    drafts = [draft.text for batch in generator.write(asked.requests) for draft in batch]
    own = dict(zip(asked.rows[c.USER_ID].to_pylist(), drafts, strict=True))
    return [own.get(user, "") for user in users.to_pylist()]


def _facts(written: pa.Table, n_users: int, seconds: float) -> GeneratorFacts:
    """Free text makes no claims: names stand for them, and one that the prompt does not hold is unsupported."""
    names = np.array([len(names_in(text)) for text in written["text"].to_pylist()])
    shares = written["supported"].to_numpy()
    unsupported = np.nansum(names * (1 - shares))
    return GeneratorFacts(
        n_users=n_users,
        n_with_text=written.num_rows,
        words=written["n_words"].to_numpy(),
        n_cold=0,  # cold users get the statistical text, whoever writes for the others
        n_cold_with_text=0,
        n_claims=int(names.sum()),
        n_unsupported=round(float(unsupported)),
        n_lint=int(written["n_lint"].to_numpy().sum()),
        cost=0.0,  # a model of this machine
        seconds=seconds,
    )


def _judges(run: AlignmentRun, scene) -> GateJudges:
    """All fitted on users and times before the gate's: the trees on texts of every kind that was explored."""
    read, other = run.reader(), run.reader(other=True)
    explored = run.scene("explored")
    candidates = run.read("candidates.parquet")
    mine = candidates.filter(pc.is_in(candidates[c.USER_ID], value_set=explored.user_ids))
    picked = _one_of_each(mine, run.config.evaluator.seed)
    judged = run.as_judged(picked["text"].to_pylist())
    evaluator = Evaluator(explored, explored.rows_of(picked[c.USER_ID]), judged, run.config.evaluator)
    matched, reward = run.ranking_reward(scene, other, matched=True), run.ranking_reward(scene, read)
    return GateJudges(scene, matched, other, evaluator, reward, read)


def _one_of_each(candidates: pa.Table, seed: int) -> pa.Table:
    """Two candidates of each user at most, drawn by seed: the trees see every kind, and no user dominates."""
    order = np.random.default_rng(seed).permutation(candidates.num_rows)
    user = candidates[c.USER_ID].combine_chunks().dictionary_encode().indices.to_numpy()[order]
    by_user = np.argsort(user, kind="stable")
    place = np.arange(len(user)) - np.searchsorted(user[by_user], user[by_user], side="left")
    return candidates.take(np.sort(order[by_user[place < 2]]))


def _text_rows(users: pa.Array, texts: Mapping[str, list[str]]) -> pa.Table:
    tables = [
        pa.table({c.USER_ID: users, "arm": pa.array([arm] * len(users)), "text": pa.array(lines, pa.string())})
        for arm, lines in texts.items()
    ]
    return pa.concat_tables(tables)
