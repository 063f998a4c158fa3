"""``--dry-run`` counts and leaves no trace: no ledger, no model, no cluster."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lettingo_features.generation import ray_engine, transformers_engine, vllm_engine
from pipelines.profiles import profiles
from tests.pipelines.small_home import CUTOFF, USERS, small_home

ENGINES = [
    [],
    ["--engine", "vllm"],
    ["--engine-cluster", "ray"],
    ["--engine", "vllm", "--engine-cluster", "ray"],
    ["--engine", "openai", "--model", "served"],
]


@pytest.mark.parametrize("engine", ENGINES, ids=" ".join)
def test_nothing_is_written_loaded_or_started(tmp_path, monkeypatch, engine):
    def never(*arguments):
        raise AssertionError("a dry run needs a tokenizer only")

    for module, name in ((vllm_engine, "_load"), (ray_engine, "_connect"), (transformers_engine, "_load")):
        monkeypatch.setattr(module, name, never)
    home = small_home(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    told = ["generate", "--as-of", CUTOFF.isoformat(), "--home", str(home.root), "--dry-run", "--json", *engine]
    result = CliRunner().invoke(profiles, told, catch_exceptions=False)
    planned = json.loads(result.stdout)
    assert (planned["requests"], planned["calls"], planned["sampled"]) == (USERS, USERS, USERS)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(("told", "seconds"), [([], None), (["--tokens-per-second", "48"], USERS * 96 / 48)])
def test_a_speed_that_is_told_gives_the_time(tmp_path, told, seconds):
    home = small_home(tmp_path)
    command = ["generate", "--as-of", CUTOFF.isoformat(), "--home", str(home.root), "--dry-run", "--json", *told]
    planned = json.loads(CliRunner().invoke(profiles, command, catch_exceptions=False).stdout)
    assert (planned["tokens_out"], planned["seconds"]) == (USERS * 96, seconds)


@pytest.mark.parametrize(
    ("told", "money"), [([], "not counted without --price-in and --price-out"), (["--price-out", "1e6"], "USD")]
)
def test_money_is_told_where_a_price_is(tmp_path, told, money):
    home = small_home(tmp_path)
    command = ["generate", "--as-of", CUTOFF.isoformat(), "--home", str(home.root), "--dry-run", *told]
    line = CliRunner().invoke(profiles, command, catch_exceptions=False).stdout.splitlines()[-1]
    assert line.startswith("money: ") and money in line
