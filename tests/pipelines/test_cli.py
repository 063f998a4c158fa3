"""The command line, through the shell: cheap imports, clear errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


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
