"""Sixty users with six rated films each: a home for runs of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from lettingo_features.columns import INTERACTIONS, ITEMS
from lettingo_features.home import Home
from lettingo_features.profiles.tables import text_table
from lettingo_features.sql import connect

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CUTOFF = T0 + timedelta(days=10)
USERS = 60
ROOT = Path(__file__).resolve().parents[2]


def small_home(root: Path) -> Home:
    home = Home(root).create()
    n = 6 * USERS
    ids = [f"i{k}" for k in range(n)]
    items = [ids, [f"Film {k}" for k in range(n)], [["Drama"]] * n, [None] * n, [T0] * n]
    home.write_part("items", "p", pa.table(items, schema=ITEMS), ITEMS)
    times = [T0 + timedelta(days=k % 6, minutes=k) for k in range(n)]
    rows = [[f"user-{k // 6:03d}" for k in range(n)], ids, times, times, [4.0] * n, [None] * n, [None] * n]
    home.write_part("interactions", "p", pa.table(rows, schema=INTERACTIONS), INTERACTIONS)
    return home


def start_generate(home: Home, *options: str, **environment: str) -> subprocess.Popen[str]:
    """``lettingo profiles generate`` on ``home`` in a process of its own, whose standard output is the report."""
    command = [sys.executable, "-m", "pipelines.cli", "profiles", "generate", "--as-of", CUTOFF.isoformat()]
    return subprocess.Popen(
        [*command, "--home", str(home.root), "--json", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The report of a run that must end well, and what it said on standard error."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out), err


def texts(home: Home, release: str = "v1") -> list[tuple[str, str]]:
    """(user, text), by user."""
    return connect().sql(f"SELECT user_id, profile_text FROM {home.scan(text_table(release))} ORDER BY ALL").fetchall()
