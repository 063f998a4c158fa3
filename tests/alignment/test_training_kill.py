"""``kill -9`` at any point of a training, then the same call: the weights of a training that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.alignment import pair_texts

SCRIPT = """
import sys
from pathlib import Path
from lettingo_features.alignment.dpo import train_dpo
from lettingo_features.alignment.model_card import Provenance
from lettingo_features.alignment.sft import train_sft
from lettingo_features.alignment.training_config import DpoTraining, SftTraining
from lettingo_features.profiles.local_model import embedded_model

method, pairs, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
fields = {"learning_rate": 1e-3, "save_steps": 2}
users = Provenance(["u1"], None, "by hand", {})
lora = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "lora_dropout": 0.05}
lora = lora if method in ("adapter", "averaged") else None
if method == "sft":
    done = train_sft(pairs, SftTraining(sft=fields), embedded_model(), out, 11, users)  # six an epoch
else:
    told = {"dpo": fields | {"num_train_epochs": 2}, "lora": lora}
    if method == "averaged":
        del told["dpo"]["save_steps"]
        told["averaged"] = 3  # at steps 4, 8 and 12
    cache = out.parent / f"{out.name}-cache"
    done = train_dpo(pairs, DpoTraining(**told), embedded_model(), out, cache, users)
print(done.revision, done.adapter)
"""


def start(method: str, pairs: Path, out: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, method, str(pairs), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(method: str, pairs: Path, out: Path) -> str:
    process = start(method, pairs, out)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2_000:]
    return printed.splitlines()[-1]


def kill_when(process: subprocess.Popen, reached) -> None:
    while not reached():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "adapter", "averaged", "sft"])
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, method):
    pairs = pair_texts.write(pair_texts.rows(48), tmp_path / "pairs.jsonl")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = finish(method, pairs, whole)
    checkpoints = killed / "checkpoints"
    points = [
        lambda: (killed / "training.csv").exists(),  # before the first checkpoint
        lambda: (checkpoints / "checkpoint-4").exists(),  # while it is written, or just after
        lambda: (checkpoints / "checkpoint-8" / "COMPLETE").exists(),
        lambda: any(killed.glob(".*.tmp")) or (killed / "model").exists(),  # while the result is written
    ]
    for point in points:
        kill_when(start(method, pairs, killed), point)
    assert finish(method, pairs, killed) == expected
    assert (killed / "training.csv").read_text() == (whole / "training.csv").read_text()
    left = {path.name for path in killed.iterdir()}
    assert left == {path.name for path in whole.iterdir()} and "checkpoints" not in left
    assert finish(method, pairs, killed) == expected  # nothing is left to do
