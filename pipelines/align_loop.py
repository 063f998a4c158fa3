"""The steps of one alignment run, each of which leaves files in ``alignment/<name>/`` and is skipped where they are.

A step writes its last file only when all of it is done, so that a run that was killed anywhere goes on with the step it
was at; calls of a language model go through the ledger and training through its checkpoints, so that little of that
step is lost either.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.explore import Asked, explore, prompts_of, recorded, stated_windows
from lettingo_features.errors import ConfigError
from pipelines.align_files import AlignmentRun
from pipelines.release import alignment_url


def run_explore(run: AlignmentRun) -> None:
    """Candidates and prompts of the explored users, a text of each fit user, and how different candidates are."""
    from lettingo_features.alignment.diversity import diversity, diversity_text

    config, frame = run.config, run.frame
    with run.step("explore", "diversity.json") as is_due:
        if not is_due:
            return
        elsewhere = run.elsewhere()
        windows = {name: stated_windows(rows, frame.explored, frame.reward_cutoff, name) for name, rows in elsewhere}
        run.write_json("run.json", run.facts | {"elsewhere": windows})
        fitted = run.written(None, frame.reward_cutoff, frame.fit)
        run.write("fit_texts.parquet", fitted.select([c.USER_ID, "text"]))
        with run.generator(temperature=config.explore.temperature) as generator:
            _require_trainable(generator.prompt, config.explore.styles)
            asked = run.asked(frame.reward_cutoff, frame.explored, generator.reads_history)
            own = explore(asked, generator, config.explore, config.max_words)
            run.write("prompts.parquet", prompts_of(asked, generator, config.explore.styles[0]))
        theirs = [
            _recorded(run, asked, name, rows[c.USER_ID].to_pylist(), rows["text"].to_pylist())
            for name, rows in elsewhere
        ]
        candidates = pa.concat_tables([own, *theirs]).combine_chunks()
        run.write("candidates.parquet", candidates)
        rows = diversity(candidates, run.encoder.encode(candidates["text"].to_pylist()))
        run.say(diversity_text(rows))
        run.write_json("diversity.json", rows)


def _require_trainable(prompt, styles: Sequence[str]) -> None:
    """The loop trains on what a generator writes: plain text, in styles that its prompt knows."""
    from lettingo_features.profiles.prompt import RowsPrompt

    if prompt.json_schema is not None:
        raise ConfigError("The loop trains free text: align with a prompt of free text, such as --prompt lettingo-1.")
    if len(styles) > 1 and not isinstance(prompt, RowsPrompt):
        raise ConfigError(f"This prompt knows no styles, and {len(styles)} are asked for: ask for one.")


def _recorded(run: AlignmentRun, asked: Asked, name: str, users: Sequence[str], texts: Sequence[str]) -> pa.Table:
    """Candidates of a writer elsewhere; who is not explored is left out, and said."""
    table = recorded(asked, users, texts, name)
    if not table.num_rows:
        raise ConfigError(
            f"None of {len(users):,} texts of {name} is of an explored user. Are the ids those of the interactions? "
            f"The explored users are in {run.path('frame/explored.parquet')}."
        )
    unstated = run.facts["elsewhere"][name]["without_window_end"]
    run.say(
        f"{name}: {table.num_rows:,} of {len(users):,} texts are of explored users and take part; of those users' "
        f"texts {unstated:,} do not state what they saw (column window_end)"
    )
    return table


def run_reward(run: AlignmentRun) -> None:
    """Rewards of all candidates who can be judged, what the guards did, and the controls."""
    from lettingo_features.alignment.guards import guard_effects, guarded
    from lettingo_features.alignment.rating_scrub import scrubbed
    from lettingo_features.alignment.shrinkage import shrunk
    from lettingo_features.alignment.target_naming import target_naming
    from pipelines.align_judges import open_judge

    config = run.config
    with run.step("reward", "reward.json") as is_due:
        if not is_due:
            return
        candidates = run.read("candidates.parquet")
        texts, n_scrubbed = scrubbed(candidates) if config.guards.scrub_ratings else (candidates, 0)
        with open_judge(run) as judge:
            judged = judge.judge(texts)
        run.say(judged.text)
        rewards = guarded(judged.rewards, candidates, config.guards)
        guards = guard_effects(rewards, candidates, config.guards) | {"n_scrubbed": n_scrubbed}
        facts: dict[str, Any] = judged.facts | {"guards": guards}
        if config.guards.target_independence:
            mine = candidates.filter(pc.is_in(candidates["candidate_id"], rewards["candidate_id"].combine_chunks()))
            naming = target_naming(mine, _titles(run, judged.targets), config.frame.seed)
            facts["target_naming"] = naming.to_json() if naming else None
        if config.shrink:
            rewards, shrinkage = shrunk(rewards, candidates, judged.attributes)
            facts["shrinkage"] = shrinkage.to_json()
            run.say(shrinkage.to_text())
        run.write("rewards.parquet", rewards)
        run.write_json("reward.json", facts)


def _titles(run: AlignmentRun, targets: pa.Table) -> pa.Table:
    """``targets`` with ``title``, '' where unknown."""
    from lettingo_features.data.ingest import latest_items_sql
    from lettingo_features.sql import connect

    connection = connect(run.home.spill)
    connection.register("targets", targets)
    return connection.sql(
        f"""SELECT targets.*, coalesce(title, '') AS title FROM targets
            LEFT JOIN {latest_items_sql(run.home)} USING (item_id) ORDER BY user_id, event_timestamp, item_id"""
    ).to_arrow_table()


def run_pairs(run: AlignmentRun) -> int:
    """Preference pairs: in SQL with their provenance, as parquet, and as the lines that a trainer reads; how many."""
    from lettingo_features.alignment.pair_file import write_pairs
    from lettingo_features.alignment.pair_store import PairStore
    from lettingo_features.alignment.pairs import preference_pairs, shuffled

    config = run.config
    with run.step("pairs", "pairs/pairs.json") as is_due:
        if not is_due:
            return run.read("pairs.parquet").num_rows
        candidates, rewards = run.read("candidates.parquet"), run.read("rewards.parquet")
        pairs = preference_pairs(candidates, rewards, run.read("prompts.parquet"), config.pairs)
        rows = shuffled(pairs.rows, config.frame.seed) if config.shuffle_labels else pairs.rows
        run.say(pairs.statistics.to_text())
        shaping = ("judge", "reward", "sentiment", "reader", "guards", "shrink", "pairs", "shuffle_labels")
        rule = {name: value for name, value in config.shaping().items() if name in shaping}
        with closing(PairStore(alignment_url(run.home))) as store:
            store.add(run.name, rule, rows, candidates, rewards)
        run.write("pairs.parquet", rows)  # not beside the lines: a trainer reads their whole directory
        with run.generator() as generator:
            write_pairs(rows, run.path("pairs/pairs.jsonl"), generator.engine.config.user_turn)
        run.write_json("pairs/pairs.json", pairs.statistics.to_json())
    return rows.num_rows


def run_train(run: AlignmentRun) -> None:
    """The aligned generator by DPO, and the baseline by supervised fine-tuning on the chosen texts."""
    from lettingo_features.alignment.dpo import train_dpo
    from lettingo_features.alignment.model_card import Provenance
    from lettingo_features.alignment.sft import train_sft

    config, pairs = run.config, run.path("pairs/pairs.jsonl")
    rows = run.read("pairs.parquet")
    start = run.frame.reward_cutoff - timedelta(days=config.window.days)
    provenance = Provenance(
        user_ids=rows[c.USER_ID].to_pylist(),
        window=(start, run.frame.gate_cutoff),  # prompts end at the reward's cutoff, its targets at the gate's
        pair_rule=config.pairs.model_dump_json(),
        counts={"pairs": rows.num_rows, "users": len(rows[c.USER_ID].unique())},
    )
    with run.generator() as generator:
        told = {"instruction": generator.prompt.instruction}
    with run.step("dpo", "dpo/model") as is_due:
        cache = run.home.cache / "reference"
        dpo = train_dpo(pairs, config.dpo.model_copy(update=told), run.base, run.path("dpo"), cache, provenance)
        if is_due:
            run.say(", ".join(f"{name} {value:.4g}" for name, value in dpo.metrics.items()))
    if config.sft is not None:
        with run.step("sft", "sft/model"):
            train_sft(pairs, config.sft.model_copy(update=told), run.base, run.path("sft"), dpo.steps, provenance)
