"""The end of a run for a Prometheus node exporter: one textfile, replaced whole."""

from __future__ import annotations

import time
from pathlib import Path

from lettingo_features.generation.run_report import RunReport


def write_textfile(path: Path, run: str, report: RunReport, gauges: dict[str, float]) -> None:
    """Write the numbers of ``report``, and ``gauges`` (name without prefix -> value), labelled with ``run``
    (``job`` is the scraper's own: Prometheus would rename it).

    Point the exporter's ``--collector.textfile.directory`` at the file's directory.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float, **labels: str) -> None:
        full = f"lettingo_generation_{name}"
        known = made.get(full) or Gauge(full, text, ["run", *labels], registry=registry)
        made[full] = known
        known.labels(run=run, **labels).set(value)

    made: dict[str, Gauge] = {}
    for name in ("asked", "cached", "called", "failed_before", "not_made"):
        gauge(f"{name}_prompts", f"Prompts {name.replace('_', ' ')} in the last run", getattr(report, name))
    for direction, tokens in (("in", report.tokens_in), ("out", report.tokens_out)):
        gauge("tokens", "Tokens of the last run", tokens, direction=direction)
    for kind, counts in (("error", report.failed), ("problem", report.problems)):
        for cause, count in counts.items():
            gauge("unusable_calls", "Calls without a usable text in the last run", count, kind=kind, cause=cause)
    gauge("cost_usd", "Money spent in the last run", report.cost_usd)
    gauge("seconds", "Wall seconds of the last run", report.seconds)
    gauge("stopped", "1 if the last run left calls out", bool(report.stopped))
    gauge("finished_timestamp_seconds", "When the last run ended", time.time())
    for name, value in gauges.items():
        gauge(name, f"{name.replace('_', ' ')} of the last run", value)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)
