"""Profiles of real interactions by the embedded model, killed at random: every call once, the same bytes.

    python -m tests.bench.bench_exactly_once --data DIR             # 20 kills: ten minutes on two cores
    python -m tests.bench.bench_exactly_once --data DIR --kills 3

Each run is a process of its own on the whole data, with a stand-in for the encoder (vectors are not the question).

1. An uninterrupted run; a second one, which must make no call; one after a new interaction of one user: one call.
2. A run that is killed (SIGKILL) at random points and started again until it ends.
3. Two runs at once.

Printed: answers that the engine gave (each is logged before the runner gets it), answers stored, keys stored twice (a
call made again though its answer was stored: must be 0), answers given again because a kill came before they were
stored, and whether the tables hold the same bytes as those of the uninterrupted run: the SHA-256 of all rows in order,
as Arrow IPC.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

RELEASE, ENCODER = "v1", "characters"


class CharacterEncoder:
    """Counts of the bytes of a text: deterministic and at once."""

    encoder_id, dim = ENCODER, 128

    def encode(self, texts):
        rows = [np.bincount(np.frombuffer(text.encode(), np.uint8) % 128, minlength=128) for text in texts]
        return np.array(rows, dtype=np.float32)


def run_once(home_dir: Path) -> dict:
    """One run in this process; the calls that it made."""
    from lettingo_features.home import Home
    from lettingo_features.profiles.build import ProfileBuildConfig
    from pipelines.profiles import run_profiles

    home = Home(home_dir)
    log_answers(home_dir / "answers.log")
    cutoff = datetime.fromisoformat((home.root / "cutoff.txt").read_text())
    report = run_profiles(home, ProfileBuildConfig(release=RELEASE), [cutoff], CharacterEncoder())
    return {"called": report.calls.called, "written": report.build.written, "pending": report.build.users_pending}


def log_answers(path: Path) -> None:
    """Have the engine note every answer that it gives, one line each."""
    from lettingo_features.generation.worker_pool import WorkerPool

    generate = WorkerPool.generate

    def logged(self, prompts, streams):
        with path.open("a") as log:
            for index, completion in generate(self, prompts, streams):
                log.write(hashlib.sha256(prompts[index].encode()).hexdigest() + "\n")
                log.flush()
                yield index, completion

    WorkerPool.generate = logged


def start(home: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.bench.bench_exactly_once", "--child", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(child: subprocess.Popen) -> dict:
    out, err = child.communicate()
    if child.returncode:
        sys.exit(f"a run failed:\n{err[-2000:]}")
    return json.loads(out.splitlines()[-1])


def new_home(root: Path, name: str, data: str) -> Path:
    """A home with the interactions of ``data``; profiles are as of a day after the newest."""
    from lettingo_features.home import Home
    from lettingo_features.sql import connect
    from pipelines.ingest import run_ingest

    home = Home(root / name).create()
    run_ingest(home, [data], format=None)
    ((newest,),) = connect().sql(f"SELECT max(event_timestamp) FROM {home.scan('interactions')}").fetchall()
    (home.root / "cutoff.txt").write_text((newest.astimezone(UTC) + timedelta(days=1)).isoformat())
    return home.root


def digest(root: Path) -> str:
    """SHA-256 over all rows of the feature tables, in the order of users."""
    from lettingo_features.home import Home
    from lettingo_features.profiles.tables import embedding_table, meta_table, text_table
    from lettingo_features.sql import connect

    home, found = Home(root), hashlib.sha256()
    for table in (text_table(RELEASE), meta_table(RELEASE), embedding_table(RELEASE, ENCODER)):
        rows = connect().sql(f"SELECT * FROM {home.scan(table)} ORDER BY user_id, event_timestamp, created_timestamp")
        sink = pa.BufferOutputStream()
        content = rows.to_arrow_table().combine_chunks()
        with pa.ipc.new_stream(sink, content.schema) as writer:
            writer.write_table(content)
        found.update(sink.getvalue())
    return found.hexdigest()


def stored(root: Path) -> tuple[int, int, int, int]:
    """(answers given, answers stored, keys stored twice, answers given more than once)."""
    from lettingo_features.sql import connect, literal

    parts = literal(str(root / "generation" / "*.parquet"))
    ((n, distinct),) = connect().sql(f"SELECT count(*), count(DISTINCT key) FROM read_parquet({parts})").fetchall()
    given = (root / "answers.log").read_text().split()
    return len(given), n, n - distinct, len(given) - len(set(given))


def add_interaction(root: Path) -> None:
    """One more interaction, within the window, of a user whose text the model wrote."""
    from lettingo_features.columns import INTERACTIONS
    from lettingo_features.home import Home
    from lettingo_features.profiles.tables import meta_table
    from lettingo_features.sql import connect

    home = Home(root)
    cutoff = datetime.fromisoformat((root / "cutoff.txt").read_text())
    ((user,),) = (
        connect()
        .sql(
            f"SELECT user_id FROM {home.scan(meta_table(RELEASE))} WHERE call_key <> '' AND profile_n_words > 0 "
            "ORDER BY n_interactions DESC, user_id LIMIT 1"
        )
        .fetchall()
    )
    at = cutoff - timedelta(hours=1)
    row = pa.table(
        [[user], ["an item not met before"], [at], [at + timedelta(microseconds=1)], [4.0], [None], [None]],
        schema=INTERACTIONS,
    )
    home.write_part("interactions", "one-more", row, INTERACTIONS)


def killed_until_done(home: Path, kills: int, seed: int, longest_s: float) -> tuple[int, dict]:
    """Kill runs at random points, then let one end; (kills that met a live run, the last report)."""
    import os
    import signal

    draw, met = random.Random(seed), 0
    for _ in range(kills):
        child = start(home)
        try:
            child.wait(draw.uniform(3, longest_s))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            met += 1
        child.communicate()
    return met, finish(start(home))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="directory of interactions in a format that ingest knows")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=20, help="longest seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_once(Path(arguments.child))))
        return
    if not arguments.data:
        parser.error("--data DIR is needed")
    with tempfile.TemporaryDirectory() as directory:
        wrong = compare(Path(directory), arguments)
    sys.exit(1 if wrong else 0)


def compare(root: Path, arguments: argparse.Namespace) -> bool:
    """Run all three cases and print them; True if one breaks its promise."""
    heads = "".join(f"{head:>9s}" for head in ("calls", "answers", "stored", "twice", "again"))
    print(f"{'run':34s}{heads}{'same bytes':>12s}{'s':>6s}")
    wrong = False

    def line(name: str, home: Path, calls: int | str, same: bool | str, began: float) -> None:
        numbers = "".join(f"{number:9,}" for number in stored(home))
        print(f"{name:34s}{calls!s:>9s}{numbers}{same!s:>12s}{time.monotonic() - began:6.0f}", flush=True)

    whole, began = new_home(root, "whole", arguments.data), time.monotonic()
    first = finish(start(whole))
    wanted = digest(whole)
    line("uninterrupted", whole, first["called"], "-", began)
    began = time.monotonic()
    second = finish(start(whole))
    line("the same again", whole, second["called"], digest(whole) == wanted, began)
    add_interaction(whole)
    began = time.monotonic()
    third = finish(start(whole))
    line("after one user's new interaction", whole, third["called"], "-", began)
    wrong |= second["called"] != 0 or third["called"] != 1

    home, began = new_home(root, "killed", arguments.data), time.monotonic()
    met, _ = killed_until_done(home, arguments.kills, arguments.seed, arguments.longest)
    same = digest(home) == wanted
    line(f"killed {met} times, then finished", home, "-", same, began)
    wrong |= not same or stored(home)[2] > 0 or met < arguments.kills  # fewer kills show less

    home, began = new_home(root, "two", arguments.data), time.monotonic()
    both = [finish(child) for child in [start(home), start(home)]]
    same = digest(home) == wanted
    line("two runs at once", home, " + ".join(str(run["called"]) for run in both), same, began)
    wrong |= not same or sum(run["called"] for run in both) != first["called"]
    print("calls: as the last run's report says; the other numbers are of all runs on the home so far")
    return wrong


if __name__ == "__main__":
    main()
