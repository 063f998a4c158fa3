"""Preference training: pairs per second beside ``trl dpo`` on the same model, pairs and batches, in the same run.

Command: ``python -m tests.bench.bench_dpo`` (``--quick`` for a small one)

The peer is TRL's own script (`trl.scripts.dpo`), which runs the reference model in each step; with its option
``precompute_ref_log_probs`` it runs it once per pair, and keeps the scores for a run on the same file. All train all
weights in float32 without gradient checkpointing, on one thread: TRL's defaults, bfloat16 and checkpointing, take nine
times as long on a CPU. Timed is all but imports: model, tokens, reference scores, steps, saved weights. Our divergence
at the end is left out, as TRL does not measure it. Each runs in a process of its own; the best of the rounds counts, in
CPU seconds, which a busy neighbour disturbs less than wall seconds.
"""

from __future__ import annotations

import io
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click

from lettingo_features.profiles.local_model import embedded_model
from tests.alignment import pair_texts

FIRST_WANTED, CACHED_WANTED = 1.0, 1.5


class Cost(NamedTuple):
    cpu_s: float
    wall_s: float
    peak_mb: int
    loss: float
    """Mean over the last tenth of the steps."""


@click.command()
@click.option("--pairs", default=320, show_default=True)
@click.option("--epochs", default=2, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="96 pairs, one round.")
def main(pairs: int, epochs: int, rounds: int, quick: bool) -> None:
    """Print pairs per second, the ratio to `trl dpo`, and peak memory."""
    pairs, rounds = (96, 1) if quick else (pairs, rounds)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir()
        pair_texts.write(pair_texts.rows(pairs), data / "train.jsonl")
        found: dict[str, list[Cost]] = {}
        for number in range(rounds):
            work = Path(directory) / str(number)
            os.environ["HF_HOME"] = str(work / "hub")  # nothing that TRL kept in an earlier round
            for name, run, options in CONTENDERS:
                cost = _apart(run, data, work, f"{number}-{len(found.get(name, []))}", epochs, options)
                found.setdefault(name, []).append(cost)
    best = {name: min(costs) for name, costs in found.items()}
    plain = best["trl dpo"]
    print(f"{pairs:,} pairs, {epochs} epochs, batches of 8, embedded model, float32, one thread, best of {rounds}")
    print(f"{'':<34}{'pairs/cpu-s':>12}{'x trl dpo':>11}{'pairs/s':>9}{'peak MB':>9}{'last loss':>11}")
    for name, cost in best.items():
        done = pairs * epochs
        print(
            f"{name:<34}{done / cost.cpu_s:>12.1f}{plain.cpu_s / cost.cpu_s:>11.2f}{done / cost.wall_s:>9.1f}"
            f"{cost.peak_mb:>9,}{cost.loss:>11.4f}"
        )
    first, cached = plain.cpu_s / best["ours, first run"].cpu_s, plain.cpu_s / best["ours, scores kept"].cpu_s
    if first < FIRST_WANTED or cached < CACHED_WANTED:
        raise SystemExit(f"below {FIRST_WANTED} x in a first run or {CACHED_WANTED} x with kept scores")


def _apart(run: Callable, *arguments: object) -> Cost:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def _timed(train: Callable[[], list[float]]) -> Cost:
    cpu, wall = time.process_time(), time.monotonic()
    with redirect_stdout(io.StringIO()):  # TRL prints each step
        losses = train()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    last = losses[-max(1, len(losses) // 10) :]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Cost(cpu, wall, peak, sum(last) / len(last))


def _trl(data: Path, work: Path, name: str, epochs: int, options: list[str]) -> Cost:
    import torch
    from trl import DPOTrainer
    from trl.scripts import dpo

    torch.set_num_threads(1)
    told = f"--dataset_name {data} --model_name_or_path {embedded_model()} --output_dir {work / f'trl-{name}'} "
    told += f"--num_train_epochs {epochs} --per_device_train_batch_size 8 --learning_rate 5e-5 --seed 0 "
    told += "--lr_scheduler_type cosine --warmup_steps 0.1 --max_length 512 --save_steps 50 --logging_steps 1 "
    told += "--bf16 False --gradient_checkpointing False --use_cpu True --report_to none --disable_tqdm True"
    trainers = []
    keep, DPOTrainer.__init__ = (
        DPOTrainer.__init__,
        lambda self, **given: (trainers.append(self), keep(self, **given))[1],
    )
    parsed = dpo.make_parser().parse_args_and_config([*told.split(), *options])

    def train() -> list[float]:
        dpo.main(*parsed)
        return [row["loss"] for row in trainers[0].state.log_history if "loss" in row]

    return _timed(train)


def _ours(data: Path, work: Path, name: str, epochs: int, options: list[str]) -> Cost:
    import lettingo_features.alignment.trainers  # noqa: F401  torch and trl, before the clock starts
    from lettingo_features.alignment.dpo import train_dpo
    from lettingo_features.alignment.model_card import Provenance
    from lettingo_features.alignment.training_config import DpoTraining

    config = DpoTraining(dpo={"num_train_epochs": epochs}, kl_prompts=0)
    out = work / f"ours-{name}-{'-'.join(options)}"

    def train() -> list[float]:
        users = Provenance([], None, "by hand", {})
        return [train_dpo(data / "train.jsonl", config, embedded_model(), out, work / "scores", users).metrics["loss"]]

    return _timed(train)


CONTENDERS = (
    ("trl dpo", _trl, []),
    ("ours, first run", _ours, ["first"]),
    ("ours, scores kept", _ours, ["kept"]),
    ("trl dpo, precomputed, first run", _trl, ["--precompute_ref_log_probs", "True"]),
    ("trl dpo, precomputed, scores kept", _trl, ["--precompute_ref_log_probs", "True"]),
)

if __name__ == "__main__":
    main()
