"""The textfile of a run, read back as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from lettingo_features.generation.prometheus import write_textfile
from lettingo_features.generation.run_report import RunReport


def test_every_number_is_there(tmp_path):
    report = RunReport(
        asked=10, cached=3, called=6, not_made=1, failed={"timeout": 2}, problems={"empty": 1}, tokens_in=70,
        tokens_out=30, cost_usd=0.5, seconds=2.0, stopped="budget",
    )  # fmt: skip
    path = tmp_path / "metrics" / "x.prom"
    write_textfile(path, "profiles_v1", report, {"users_written": 5.0})
    write_textfile(path, "profiles_v1", report, {"users_written": 6.0})  # replaced whole
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            assert sample.labels.pop("run") == "profiles_v1"
            name = sample.name.removeprefix("lettingo_generation_")
            found[(name, *sorted(sample.labels.values()))] = sample.value
    found.pop(("finished_timestamp_seconds",))
    assert found == {
        ("asked_prompts",): 10, ("cached_prompts",): 3, ("called_prompts",): 6, ("failed_before_prompts",): 0,
        ("not_made_prompts",): 1, ("tokens", "in"): 70, ("tokens", "out"): 30, ("cost_usd",): 0.5, ("seconds",): 2.0,
        ("unusable_calls", "error", "timeout"): 2, ("unusable_calls", "empty", "problem"): 1, ("stopped",): 1,
        ("users_written",): 6,
    }  # fmt: skip
