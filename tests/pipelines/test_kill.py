"""``kill -9`` amid a backfill: every table stays readable, and the next run ends where one run would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from lettingo_features.home import Home

BACKFILL = ["profiles", "backfill", "--start", "2024-01-01", "--end", "2024-07-01", "--every", "60d", "--release", "v0"]
N_PARTS = 12  # four cutoffs, three tables each
TABLES = ("user_profile_text_v0", "user_profile_meta_v0", "user_profile_embedding_v0_minilm_l6_v2")


def start(*arguments: str, home: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.cli", *arguments, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(*arguments: str, home: Path) -> None:
    process = start(*arguments, home=home)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()


def parts(home: Path) -> list[Path]:
    return [path for table in TABLES for path in Home(home).parts(table)]


def rows(home: Path, table: str):
    return duckdb.sql(f"SELECT * FROM {Home(home).scan(table)} ORDER BY ALL").to_arrow_table()


@pytest.mark.slow
def test_a_backfill_killed_three_times_ends_as_one_that_was_not(tmp_path):
    world, whole, killed = tmp_path / "world", tmp_path / "whole", tmp_path / "killed"
    made = [sys.executable, "-m", "pipelines.cli", "world", "--out", str(world), "--users", "60", "--items", "80"]
    subprocess.run(made, check=True, capture_output=True)
    for home in (whole, killed):
        finish("ingest", str(world), home=home)
    finish(*BACKFILL, home=whole)
    assert len(parts(whole)) == N_PARTS
    for seen in (1, 5, 9):  # kill as soon as this many parts are there: between two tables of one chunk
        process = start(*BACKFILL, home=killed)
        while len(parts(killed)) < seen and process.poll() is None:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for table in TABLES:
            if Home(killed).parts(table):
                rows(killed, table)  # readable
    finish(*BACKFILL, home=killed)
    for table in TABLES:
        assert rows(killed, table).equals(rows(whole, table)), table
