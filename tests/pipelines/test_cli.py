"""The command line, through the shell: cheap imports, clear errors, exit codes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import duckdb
import pytest

from pipelines.cli import main
from tests.pipelines.small_home import CUTOFF, small_home


def lettingo(*arguments: str, home=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.cli", *arguments, *(["--home", str(home)] if home else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from pipelines.cli import lettingo\n"
        "try: lettingo.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'torch', 'feast', 'pandas', 'duckdb', 'transformers', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "training-set" in done.stdout


COMMANDS = [  # arguments                                                    says
    (["behaviour", "build"], "Give either --as-of T, or all of --start T --end T --every 30d"),
    (["behaviour", "build", "--as-of", "yesterday"], "is not an ISO 8601 time"),
    (["ingest", "nowhere"], "nowhere"),
    (["behaviour", "build", "--as-of", "2024-01-01"], "There is no table interactions"),
    (["behaviour", "build", "--as-of", "2999-01-01"], "lies after now"),
    (
        ["profiles", "generate", "--as-of", "2024-01-01", "--window-days", "0", "--release", "v0"],
        "is out of range: days",
    ),
    (["ingest", "nowhere", "--map", "rating_scale=1,5", "--map", "who=uid"], "Ours is one of"),
    (["profiles", "generate", "--as-of", "2024-01-01", "--refresh-after", "soon"], "Give a number of interactions"),
    (["profiles", "generate", "--as-of", "2024-01-01", "--engine", "openai"], "Name the one that the server serves"),
    (
        ["profiles", "generate", "--as-of", "2024-01-01", "--release", "v0", "--engine-cluster", "ray", "--mask"],
        "No language model writes release v0: leave --mask, --engine-cluster out",
    ),
    (["profiles", "generate", "--as-of", "2024-01-01", "--tokens-per-second", "9"], "belongs to --dry-run"),
    (["profiles", "import", "f.csv", "--release", "a", "--generator", "g"], "State the window with --cutoff T"),
    (["profiles", "show", "u1"], "Run 'lettingo profiles generate' first"),
    (["audit", "leakage", "nowhere.parquet"], "No labels at nowhere.parquet"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_one_paragraph_and_exit_code_2(arguments, says, tmp_path):
    home = None if arguments[0] == "audit" else tmp_path
    done = lettingo(*arguments, home=home)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


FULL = [(OSError, (errno.ENOSPC, "No space left on device")), (duckdb.IOException, ("x: No space left on device",))]


@pytest.mark.parametrize(("kind", "says"), FULL, ids=["ours", "DuckDB's"])
def test_a_full_disk_is_one_paragraph_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys, kind, says):
    home = small_home(tmp_path)
    told = ["behaviour", "build", "--as-of", CUTOFF.isoformat(), "--home", str(home.root)]
    monkeypatch.setattr(sys, "argv", ["lettingo", *told])

    def full(descriptor: int) -> None:
        raise kind(*says)

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        with pytest.raises(SystemExit) as stopped:
            main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1
    assert said.startswith("Error: A disk is full: ") and "No space left on device. Free space there" in said
    assert not list(home.offline.rglob("*.tmp"))
    main()
    assert home.parts("user_behaviour_v1")


def test_a_world_is_ingested_once(tmp_path):
    home = tmp_path / "home"
    made = lettingo("world", "--out", str(tmp_path / "world"), "--users", "40", "--items", "60", "--json")
    assert made.returncode == 0, made.stderr
    n = json.loads(made.stdout)["interactions"]
    first = lettingo("ingest", str(tmp_path / "world"), "--json", home=home)
    assert first.returncode == 0, first.stderr
    again = json.loads(lettingo("ingest", str(tmp_path / "world"), "--json", home=home).stdout)
    assert json.loads(first.stdout)["interactions"]["appended"] == n
    assert again["interactions"]["appended"] == 0


def test_claims_are_shown_beside_their_interactions(tmp_path):
    from datetime import UTC, datetime, timedelta

    import numpy as np
    import pyarrow as pa

    from lettingo_features.columns import INTERACTIONS, ITEMS
    from lettingo_features.home import Home
    from lettingo_features.profiles.build import ProfileBuild, ProfileBuildConfig
    from lettingo_features.profiles.generator import Draft
    from lettingo_features.profiles.statistical import StatisticalGenerator
    from lettingo_features.profiles.structured import Claim

    class Writer:
        name, generator_id, reads_history = "writer", "id", True

        def write(self, requests, progress=None):
            yield [Draft("Likes rivers.", (Claim("Likes rivers", (1, 2)),)) for _ in requests]

    class Encoder:
        encoder_id, dim = "fake", 1

        def encode(self, texts):
            return np.ones((len(texts), 1), np.float32)

    home, start = Home(tmp_path).create(), datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(days=k) for k in range(6)]
    items = [[f"i{k}" for k in range(6)], [f"River {k}" for k in range(6)], [["Drama"]] * 6, [None] * 6, times]
    home.write_part("items", "p", pa.table(items, schema=ITEMS), ITEMS)
    rows = [["u1"] * 6, items[0], times, times, [4.0] * 6, [None] * 6, [None] * 6]
    home.write_part("interactions", "p", pa.table(rows, schema=INTERACTIONS), INTERACTIONS)
    build = ProfileBuild(home, ProfileBuildConfig(release="r"), StatisticalGenerator(), Writer(), Encoder())
    build.run([start + timedelta(days=6)])
    shown = lettingo("profiles", "show", "u1", "--release", "r", home=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[1:] == [
        "  Likes rivers.",
        "  claim: Likes rivers",
        "    2026-01-06  River 5  rated 4",
        "    2026-01-05  River 4  rated 4",
    ]
    assert shown.returncode == 0, shown.stderr
    as_json = json.loads(lettingo("profiles", "show", "u1", "--release", "r", "--json", home=tmp_path).stdout)
    (claim,) = as_json["profiles"][0]["claims"]
    assert [seen["item_id"] for seen in claim["interactions"]] == ["i5", "i4"]
