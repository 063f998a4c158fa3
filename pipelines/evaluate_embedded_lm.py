"""Print what the embedded language model can do, with 95 % Wilson intervals.

    python -m pipelines.evaluate_embedded_lm                        # the shipped model, about 2 minutes
    python -m pipelines.evaluate_embedded_lm --model DIR --n 100    # a quick look at another

Every summary is new: known = names from the space that training drew from, unseen = `lexicon.HELD_OUT`, of which no
training text holds a name; world = users of `data.synthetic`, with its own titles, through windows and summaries. A
text is on top when it mentions the strongest category before any other of its prompt, and grounded when each of its
words stands in its prompt or in the grammar of `reference`.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from lettingo_features.profiles.corpus import Summary, category_names, held_out_summaries, random_summary
from lettingo_features.profiles.faithfulness import first_named
from lettingo_features.profiles.generator import STYLES, ProfileRequest
from lettingo_features.profiles.lexicon import HELD_OUT, held_out_names
from lettingo_features.profiles.local_model import LanguageModelConfig, local_generator
from lettingo_features.profiles.prompt import render

SEED = 10_001  # of the evaluation sets: no training run uses it
SAMPLES = 4  # of each prompt where variety is measured


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.96
    centre, half = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return (centre - half) / (n + z * z), (centre + half) / (n + z * z)


def world_summaries(n: int, **settings: Any) -> list[Summary]:
    """Summaries of ``n`` users with at least five interactions of a synthetic world, made as a profile build does."""
    from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig
    from lettingo_features.profiles.summary import SummaryConfig, summaries, summarise
    from lettingo_features.sql import connect
    from lettingo_features.windows import WindowConfig, create_windows

    world = SyntheticWorld(WorldConfig(seed=SEED, n_users=2 * n, **settings))
    connection = connect(threads=1)
    connection.register("interactions", world.interactions())
    connection.register("items", world.items())
    cutoff = world.config.start + timedelta(days=world.config.n_days)
    create_windows(connection, "interactions", [cutoff], WindowConfig())
    rows = summaries(summarise(connection, "items", SummaryConfig(rating_max=5.0)).read_all())
    return [summary for _, summary in rows if summary["n_interactions"] >= 5 and summary["top_categories"]][:n]


def evaluation_sets(n: int) -> dict[str, list[Summary]]:
    """``n`` summaries each: known names, unseen ones, synthetic users of both; a quarter for each unseen domain."""
    sets = {
        "known": held_out_summaries(n, SEED),
        "unseen": held_out_summaries(n, SEED + 1, held_out_names()),
        "world, its films": world_summaries(n),
        "world, unseen names": world_summaries(n, category_names=tuple(held_out_names()[::4])),
    }
    for offset, (domain, names) in enumerate(HELD_OUT.items(), start=2):
        sets[f"unseen: {domain}"] = held_out_summaries(
            max(1, n // 4), SEED + offset, [" ".join(name.split()) for name in names.split("|")]
        )
    return sets


def answers(summaries: Sequence[Summary], config: LanguageModelConfig) -> list[str]:
    """One text per summary, the styles in turn."""
    requests = [ProfileRequest(f"u{i}", summary, STYLES[i % len(STYLES)]) for i, summary in enumerate(summaries)]
    return [draft.text for batch in local_generator(config).write(requests) for draft in batch]


def is_on_top(text: str, summary: Summary) -> bool:
    """Whether ``text`` names the strongest category before any other that the prompt names."""
    names = category_names(summary)
    return first_named(text, names) == names[0]


def grammar_words() -> set[str]:
    """Words that reference profiles use of themselves."""
    from lettingo_features.profiles import reference
    from lettingo_features.profiles.corpus import Names

    rng = random.Random(SEED)
    names, found = Names(rng), set()
    for _ in range(2_000):
        summary = random_summary(rng, names)
        for style in STYLES:
            found |= words(reference.write(summary, style, rng)) - words(render(summary, style))
    return found


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


@dataclass(frozen=True)
class Row:
    """Figures of one set at one temperature; shares as (hits, n)."""

    name: str
    temperature: float
    on_top: tuple[int, int]
    grounded: tuple[int, int]
    empty: int


def measure(name: str, summaries: Sequence[Summary], config: LanguageModelConfig, grammar: set[str]) -> Row:
    texts = answers(summaries, config)
    on_top = sum(map(is_on_top, texts, summaries))
    grounded = sum(
        bool(text) and words(text) <= grammar | words(render(summary, STYLES[i % len(STYLES)]))
        for i, (text, summary) in enumerate(zip(texts, summaries, strict=True))
    )
    n = len(texts)
    return Row(name, config.temperature, (on_top, n), (grounded, n), sum(not text for text in texts))


def variety(summaries: Sequence[Summary], config: LanguageModelConfig) -> dict[str, float]:
    """How different the samples of one prompt are: distinct texts of `SAMPLES`, and distinct 1- and 2-grams."""
    runs = [answers(summaries, config.model_copy(update={"seed": seed})) for seed in range(SAMPLES)]
    found: dict[str, float] = {
        "distinct_texts": sum(len(set(texts)) for texts in zip(*runs, strict=True)) / len(summaries)
    }
    tokens = [re.findall(r"\w+|[^\w\s]", text) for texts in runs for text in texts]
    for width in (1, 2):
        grams = [tuple(row[i : i + width]) for row in tokens for i in range(len(row) - width + 1)]
        found[f"distinct_{width}"] = len(set(grams)) / len(grams)
    return {key: round(value, 3) for key, value in found.items()}


def top_first(model: str, n: int) -> dict[str, float]:
    """Share of greedy texts on top, for known and for unseen names."""
    config = LanguageModelConfig(model=model, max_new_tokens=64)
    sets = {"known": held_out_summaries(n, SEED), "unseen": held_out_summaries(n, SEED + 1, held_out_names())}
    return {name: round(sum(map(is_on_top, answers(rows, config), rows)) / n, 3) for name, rows in sets.items()}


def _line(row: Row) -> str:
    shares = []
    for hits, n in (row.on_top, row.grounded):
        low, high = wilson(hits, n)
        shares.append(f"{hits / n:6.1%} [{low:.1%}, {high:.1%}]".ljust(24))
    return f"| {row.name:<24} | {row.temperature:3.1f} | {row.on_top[1]:4d} | {' | '.join(shares)} | {row.empty:5d} |"


@click.command()
@click.option("--model", default=None, help="Model directory; the shipped model if left out.")
@click.option(
    "--n", type=click.IntRange(4), default=400, show_default=True, help="Summaries per set (a quarter per domain)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(model: str | None, n: int, as_json: bool) -> None:
    """Evaluate an embedded language model."""
    sets, grammar = evaluation_sets(n), grammar_words()
    rows = [
        measure(name, summaries, LanguageModelConfig(model=model, temperature=temperature), grammar)
        for temperature in (0.0, 1.0)
        for name, summaries in sets.items()
    ]
    different = variety(sets["known"][:100], LanguageModelConfig(model=model, temperature=1.0))
    started, cpu = time.perf_counter(), time.process_time()
    timed = sets["known"] * max(1, 1_600 // n)
    answers(timed, LanguageModelConfig(model=model, temperature=1.0))
    speed = {
        "profiles_per_s": round(len(timed) / (time.perf_counter() - started), 1),
        "profiles_per_cpu_s": round(len(timed) / (time.process_time() - cpu), 1),
    }
    if as_json:
        click.echo(json.dumps({"rows": [vars(row) for row in rows], "variety": different, "speed": speed}))
        return
    click.echo(
        "| names                    |   T |    n | top category first       | every word grounded      | empty |"
    )
    click.echo("|---|---|---|---|---|---|")
    for row in rows:
        click.echo(_line(row))
    click.echo(f"\nAt temperature 1, {SAMPLES} samples of 100 prompts: {different}")
    click.echo(f"One process, one thread, model loading included: {speed}")


if __name__ == "__main__":
    main()
