"""The end of a run: the same numbers as text, as JSON and for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lettingo_features.generation.run_report import RunReport
from lettingo_features.profiles.build_report import ProfileBuildReport
from lettingo_features.profiles.run_report import ProfileRunReport

BUILD = ProfileBuildReport(
    release="v1", cutoffs=(), users_seen=9, users_unchanged=2, users_kept=0, users_pending=3,
    written={"model": 4, "statistical": 1}, fallbacks=1, lint_findings=6, claims=7, claims_dropped=8,
    words={"mean": 41.5, "p5": 20.0, "p50": 40.0, "p95": 60.0}, seconds={},
)  # fmt: skip
CALLS = RunReport(
    asked=10, cached=3, called=6, not_made=1, failed={"timeout": 2}, problems={"empty": 1}, tokens_in=700,
    tokens_out=300, cost_usd=0.5, seconds=2.0, stopped="budget",
)  # fmt: skip
COUNTS = {"rows_trimmed": 5, "repairs": 0, "empty": 1, "timeout": 3, "not_made": 1}
REPORT = ProfileRunReport(build=BUILD, calls=CALLS, engine="model", counts=COUNTS)


@pytest.mark.parametrize(
    "said",
    [
        "stopped by the budget: 1 prompts left",
        "6 made, 3 answered without one, 1 not made",
        "1 not made; failed or unusable: 1 empty, 2 timeout; besides: 5 rows trimmed, 3 timeout\n",
        "700 read, 300 written, 150 written per second",
        "0.5000 USD, 125.0000 per 1,000 users",
        "words per text: mean 41.5, p5 20, p50 40, p95 60",
        "6 lint findings; 7 claims, 8 dropped",
        "3 without an answer",
    ],
)
def test_the_text_says(said: str) -> None:
    assert said in REPORT.to_text()


def test_json_has_what_is_computed() -> None:
    facts = REPORT.to_json()
    assert (facts["calls"]["tokens_per_second"], facts["cost_per_1000_users"]) == (150.0, 125.0)
    assert (facts["calls"]["failed"], facts["build"]["words"]["p95"], facts["counts"]["rows_trimmed"]) == (
        {"timeout": 2},
        60.0,
        5,
    )


def test_the_textfile_has_all_that_the_text_says(tmp_path: Path) -> None:
    path = REPORT.write_metrics(tmp_path)
    assert path == tmp_path / "generation_v1.prom"
    samples = [sample for family in text_string_to_metric_families(path.read_text()) for sample in family.samples]
    found = {one.name.removeprefix("lettingo_generation_"): one.value for one in samples if len(one.labels) == 1}
    wanted = {
        "tokens_per_second": 150.0, "cost_per_1000_users_usd": 125.0, "cached_prompts": 3.0, "lint_findings": 6.0,
        "words_mean": 41.5, "words_p5": 20.0, "words_p50": 40.0, "words_p95": 60.0, "users_pending": 3.0,
    }  # fmt: skip
    assert wanted.items() <= found.items()


def test_without_calls_there_is_no_textfile(tmp_path: Path) -> None:
    report = ProfileRunReport(build=BUILD)
    assert report.write_metrics(tmp_path) is None and not list(tmp_path.iterdir())
    assert report.to_text() == BUILD.to_text()
