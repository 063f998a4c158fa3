"""Engines on one model: vLLM in process and served, against transformers; and what the runner adds to vLLM.

Command: ``make bench-vllm``, which is ``python -m tests.bench.bench_engines`` in the environment of ``make test-vllm``
(``--quick``: 128 prompts, one round)

The embedded model, greedy, float32, on a CPU; every round asks all engines the same new prompts, each round in another
order, after a warm-up. Tokens are generated ones, by each engine's own count; seconds are wall time, and CPU seconds
those of all processes of the engine. vLLM compiles nothing (enforce_eager) and reuses no prefix. The last line is a
run through `Runner` on a fresh home against the bare engine on the same prompts, in pairs, each in the other order.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import click
import psutil

from lettingo_features.generation.engine import Engine
from lettingo_features.generation.openai_engine import OpenAIConfig, OpenAIEngine
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.generation.vllm_engine import VllmConfig, VllmEngine
from lettingo_features.profiles.corpus import STYLES, held_out_summaries
from lettingo_features.profiles.prompt import render
from tests.generation.vllm_server import CPU_ENVIRONMENT, VllmServer

MODEL = str(Path(str(files("lettingo_features.profiles"))) / "embedded")
PEER = "transformers"
LIMIT_OVERHEAD = 1.05


@click.command()
@click.option("--prompts", "n_prompts", type=click.IntRange(1), default=512, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help="128 prompts, one round.")
def main(n_prompts: int, rounds: int, quick: bool) -> None:
    """Print tokens per second of each engine and its ratio to transformers; exit status 1 if the runner costs much."""
    n_prompts, rounds = (128, 1) if quick else (n_prompts, rounds)
    os.environ.update(CPU_ENVIRONMENT)
    shared = {"model": MODEL, "dtype": "float32"}
    with ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "server.log"
        server = stack.enter_context(VllmServer(MODEL, log, "--no-enable-prefix-caching"))
        in_process = VllmEngine(VllmConfig(**shared, enforce_eager=True, enable_prefix_caching=False))
        stack.callback(in_process.close)
        engines: dict[str, Engine] = {
            PEER: TransformersEngine(TransformersConfig(**shared, threads=1)),
            "vLLM in process": in_process,
            "vLLM over HTTP": OpenAIEngine(
                OpenAIConfig(model="base", base_url=server.url, tokenizer=MODEL, concurrency=256)
            ),
        }
        stack.callback(engines["vLLM over HTTP"].close)
        compare(engines, n_prompts, rounds)
        if overhead(in_process, n_prompts, rounds) > LIMIT_OVERHEAD and not quick:
            raise SystemExit(f"the runner costs more than {LIMIT_OVERHEAD} of the bare engine")


def compare(engines: dict[str, Engine], n_prompts: int, rounds: int) -> None:
    for engine in engines.values():
        list(engine.generate(prompts(32, seed=0), [0] * 32))  # warm
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for round_ in range(rounds):
        asked = prompts(n_prompts, seed=round_ + 1)
        names = list(engines)
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            wall, cpu = time.perf_counter(), cpu_seconds()
            answers = dict(engines[name].generate(asked, [0] * len(asked)))
            tokens = sum(answer.n_tokens for answer in answers.values())
            speeds[name].append((tokens / (time.perf_counter() - wall), tokens / (cpu_seconds() - cpu)))
    print(f"\n{'engine':<18} {'tokens/s':>9} {'ratio':>6}   {'tokens/CPU s':>12} {'ratio':>6}", flush=True)
    for name, found in speeds.items():
        columns = []
        for column in (0, 1):
            ratios = [one[column] / peer[column] for one, peer in zip(found, speeds[PEER], strict=True)]
            columns += [statistics.median(one[column] for one in found), statistics.median(ratios)]
        print("{:<18} {:>9,.0f} {:>6.2f}   {:>12,.0f} {:>6.2f}".format(name, *columns), flush=True)
    print(f"{n_prompts:,} prompts, median of {rounds} rounds; ratio to {PEER} in the same round\n", flush=True)


def overhead(engine: Engine, n_prompts: int, rounds: int) -> float:
    """Wall time through the runner relative to the bare engine."""
    from lettingo_features.generation.ledger import Ledger
    from lettingo_features.generation.runner import Runner
    from lettingo_features.home import Home

    def bare(asked: list[str]) -> None:
        list(engine.generate(asked, [0] * len(asked)))

    def run(asked: list[str]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            home = Home(directory).create()
            Runner(engine, Ledger(home.ledger_url), home).run(asked, [0] * len(asked))

    def seconds(kind: Callable[[list[str]], None], asked: list[str]) -> float:
        start = time.perf_counter()
        kind(asked)
        return time.perf_counter() - start

    run(prompts(16, seed=99))  # imports
    ratios = []
    for round_ in range(rounds):
        asked = prompts(n_prompts, seed=100 + round_)
        times = {kind: seconds(kind, asked) for kind in ((bare, run) if round_ % 2 else (run, bare))}
        ratios.append(times[run] / times[bare])
    ratio = statistics.median(ratios)
    each = ", ".join(f"{one:.3f}" for one in ratios)
    print(f"runner on vLLM in process: {ratio:.3f} of the bare engine's wall time ({each}; limit {LIMIT_OVERHEAD})")
    return ratio


def prompts(n: int, seed: int) -> list[str]:
    return [render(summary, STYLES[row % len(STYLES)]) for row, summary in enumerate(held_out_summaries(n, seed))]


def cpu_seconds() -> float:
    """Of this process and all that it started."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [me, *me.children(recursive=True)])


if __name__ == "__main__":
    main()
