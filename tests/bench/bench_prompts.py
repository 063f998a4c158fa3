"""Prompts: how fast histories are rendered and trimmed, relative to the plain way in the same run; what attacks reach.

Command: ``python -m tests.bench.bench_prompts`` (``--quick`` for a small one, ``--no-attacks`` for speed alone)

The peer of the renderer is the same rows written by a loop over ``to_pylist()`` with ``json.dumps`` and a cached
cleaning of each item: what one would write first. Both run on one thread over the same Arrow table; texts must agree.
The attacks are those of tests/generation/hostile.py on scripted models: they show what each layer stops by
construction, not how a real model judges.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import click
import numpy as np
import pyarrow as pa

from lettingo_features.generation.untrusted import clean
from lettingo_features.profiles import lettingo_prompt
from lettingo_features.profiles.history import HISTORY, ROW
from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt, fit

RATE_WANTED = 5_000
SENTIMENTS = ("liked", "neutral", "disliked", "engaged")


@click.command()
@click.option("--users", default=20_000, show_default=True)
@click.option("--rows", default=60, show_default=True, help="Interactions per user: 10 recent and 50 of long history.")
@click.option("--items", default=10_000, show_default=True)
@click.option("--quick", is_flag=True, help="2,000 users, 1,000 items.")
@click.option("--attacks/--no-attacks", default=True, show_default=True)
def main(users: int, rows: int, items: int, quick: bool, attacks: bool) -> None:
    """Print prompts per second and their ratio to the peer, then the table of attacks."""
    pa.set_cpu_count(1)
    users, items = (2_000, 1_000) if quick else (users, items)  # as many rows per item: each is cleaned once
    table = _histories(users, rows, items)
    print(f"{table.num_rows:,} users with {rows} interactions, {items:,} items, one thread, best of 3 in turn")
    ours, theirs, texts = _race(table)
    _line("render", table.num_rows / ours, theirs / ours)
    slow_fit, fast_fit, trimmed = _fit_race(texts)
    _line("render + fit (half too long)", table.num_rows / (ours + fast_fit), (theirs + slow_fit) / (ours + fast_fit))
    print(f"trimmed: {trimmed:,} prompts; measured in words, so that no tokenizer is timed")
    if attacks:
        _attacks()
    if table.num_rows / ours < RATE_WANTED:
        raise SystemExit(f"below {RATE_WANTED:,} prompts/s")


def _line(what: str, rate: float, ratio: float) -> None:
    print(f"{what:<30} {rate:>10,.0f} prompts/s   {ratio:>6.1f} x the loop", flush=True)


def _histories(users: int, rows: int, items: int) -> pa.Table:
    """Histories over items in a popularity law."""
    random = np.random.default_rng(0)
    item = (random.random(users * rows) ** 3 * items).astype(np.int64)
    titles = [f'The {"Long " * (no % 5)}Title "{no}" ({1950 + no % 70})' for no in range(items)]
    genres = [[f"Genre {no % 19}", f"Genre {no % 7}"][: 1 + no % 2] for no in range(items)]
    columns = {
        "n": pa.array(np.tile(np.arange(1, rows + 1), users)),
        "item_id": pa.array([str(no) for no in range(items)]).take(pa.array(item)),
        "title": pa.array(titles).take(pa.array(item)),
        "categories": pa.array(genres).take(pa.array(item)),
        "sentiment": pa.array(SENTIMENTS).take(pa.array(random.integers(0, 4, users * rows))),
        "segment": pa.array(["recent"] * (users * rows)),
        "days": pa.array(np.zeros(users * rows, np.float32)),
    }
    struct = pa.StructArray.from_arrays([columns[field.name] for field in ROW], fields=list(ROW))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, users * rows + 1, rows, dtype=np.int32)), struct)
    cutoff = pa.nulls(users, HISTORY.field("cutoff").type)
    return pa.table([cutoff, pa.array([f"u{no}" for no in range(users)]), lists], schema=HISTORY)


def _race(table: pa.Table) -> tuple[float, float, list[str]]:
    """Seconds of ours and of the loop, and the texts; every round starts with cold caches."""
    prompt, best = LettinGoPrompt(), {}
    for _ in range(3):
        lettingo_prompt._cached_fields.cache_clear()
        _loop_fields.cache_clear()
        texts, ours = _timed(prompt.render, table)
        same, theirs = _timed(_loop, table)
        if texts != same:
            raise SystemExit("the two renderers disagree")
        best = {"ours": min(ours, best.get("ours", ours)), "theirs": min(theirs, best.get("theirs", theirs))}
    return best["ours"], best["theirs"], texts


def _fit_race(texts: list[str]) -> tuple[float, float, int]:
    """Seconds of trimming row by row and of `fit`, and how many prompts are trimmed."""
    sizes = np.array(_words(texts))
    budget = int(np.median(sizes)) - 1
    fitted, fast = _timed(fit, texts, _words, budget)
    plain, slow = _timed(lambda: [_trim(text, budget) for text in texts])
    if [one.text for one in fitted] != plain:
        raise SystemExit("the two ways of trimming disagree")
    return slow, fast, sum(one.n_trimmed > 0 for one in fitted)


def _timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(*arguments), time.perf_counter() - start


def _words(texts: list[str]) -> list[int]:
    return [text.count(" ") + text.count("\n") + 1 for text in texts]


def _trim(text: str, budget: int) -> str:
    while _words([text])[0] > budget:
        text = text.rpartition("\n")[0]
    return text


@lru_cache(maxsize=65_536)
def _loop_fields(title: str, categories: tuple[str, ...]) -> dict[str, Any]:
    plain = str.maketrans({'"': "'", "\\": "/", "{": "(", "}": ")"})
    names = [clean(name, lettingo_prompt.CATEGORY_CHARS).translate(plain) for name in categories]
    shown = {"title": clean(title, lettingo_prompt.TITLE_CHARS).translate(plain), "categories": names}
    return {key: value for key, value in shown.items() if value}


def _loop(table: pa.Table) -> list[str]:
    return [
        "\n".join(
            json.dumps(
                {"n": row["n"], **_loop_fields(row["title"], tuple(row["categories"])), "sentiment": row["sentiment"]},
                ensure_ascii=False,
                separators=(",", ":"),
            )
            for row in rows
        )
        for rows in table["rows"].to_pylist()
    ]


def _attacks() -> None:
    """Success rates by family: two models; no defence, each layer alone, both."""
    from tests.generation.hostile import HOSTILE, ScriptedModel, attack_succeeds, profile_of

    families = Counter(attack.family for attack in HOSTILE)
    columns = [
        ("naive", True, False, False),
        ("rows", True, True, False),
        ("output", True, False, True),
        ("both", True, True, True),
        ("naive", False, False, False),
        ("both", False, True, True),
    ]  # name, the model obeys data, our rows, checks of the output
    won: Counter[tuple[str, int]] = Counter()
    for attack in HOSTILE:
        for place, (_, obeys_data, prompt, output) in enumerate(columns):
            profile = profile_of(attack.text, ScriptedModel(obeys_data), prompt, output)
            won[attack.family, place] += attack_succeeds(attack, profile)
            won["all", place] += attack_succeeds(attack, profile)
    print(f"\n{len(HOSTILE)} attacks: share that succeeds on scripted models")
    print(f"{'':<22} {'':>3}  {'obeys every order it reads':^30} {'keeps to structure':^16}")
    print(f"{'family':<22} {'n':>3}  " + " ".join(f"{name:>7}" for name, *_ in columns))
    for family, n in [*families.items(), ("all", len(HOSTILE))]:
        print(f"{family:<22} {n:>3}  " + " ".join(f"{won[family, place] / n:>7.0%}" for place in range(len(columns))))
    print(
        "rows: JSON rows of cleaned text; output: lint and leak check. An order in plain words stays readable: against"
    )
    print("it stand only the model's own judgement and the schema; no link, markup, formula or leak gets through.")


if __name__ == "__main__":
    main()
