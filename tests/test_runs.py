"""Run records: written at the start, completed at the end, whichever way the step ends."""

from __future__ import annotations

import json

import pytest

from lettingo_features.home import Home
from lettingo_features.runs import run_record


def records(home: Home) -> list[dict]:
    return [json.loads(path.read_text()) for path in home.runs.glob("*/run.json")]


def test_a_step_leaves_its_config_cost_and_result(tmp_path):
    home = Home(tmp_path).create()
    with run_record(home, "ingest", {"paths": ["a.csv"]}) as run:
        (record,) = records(home)  # a kill here leaves this
        assert record["status"] == "running"
        run.record(rows=3)
    (record,) = records(home)
    assert (record["status"], record["step"], record["rows"]) == ("done", "ingest", 3)
    assert record["config"] == {"paths": ["a.csv"]}
    assert record["seconds"] >= 0 and record["peak_rss_mb"] > 0
    assert "pyarrow" in record["versions"]


def test_a_failed_step_says_why(tmp_path):
    home = Home(tmp_path).create()
    with pytest.raises(ValueError, match="boom"), run_record(home, "ingest"):
        raise ValueError("boom")
    (record,) = records(home)
    assert (record["status"], record["error"]) == ("failed", "ValueError: boom")
