"""The demo's report, a page of `report_page` with its plots inline as SVG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.evaluation import report_plots as plots
from lettingo_features.evaluation.report_page import page_template
from lettingo_features.evaluation.report_users import UserStory, shown_story, sorted_story
from lettingo_features.evaluation.splits import Split
from lettingo_features.evaluation.uplift_report import (
    LANGUAGE_MODEL,
    NO_PROFILE,
    SHUFFLED,
    STATISTICAL,
)
from lettingo_features.home import write_text

_TABLES = ("interactions", "items")
_DOOR = ("rows_in", "appended", "already_there", "exact_duplicates", "quarantined")
_STATS = (
    ("users_seen", "user snapshots with a window"),
    ("users_unchanged", "unchanged, skipped"),
    ("fallbacks", "fallbacks to the statistical text"),
    ("lint_findings", "findings removed by lint"),
)
_ARM_CLASSES = {LANGUAGE_MODEL: "lm", STATISTICAL: "statistical"}


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the report shows; an empty piece is shown as missing.

    Attributes
    ----------
    title, data_name, created_at : str
    activity : pa.Table
        ``day`` (timestamp, UTC), ``interactions`` (int64); any order.
    cutoffs : list of datetime
        Profile snapshots.
    split : Split
    ingest : dict
        ``IngestReport.model_dump()``.
    users : list of UserStory
    stages : list of (str, float)
        Steps in order, wall seconds.
    profile_stats : dict
        ``ProfileBuildReport.model_dump()``, and, where known, ``word_histogram``: (words, texts) pairs. Its ``seconds``
        split the stage whose name begins with ``profiles <release>``.
    uplift : dict
        ``UpliftReport.to_dict()``.
    certificate : dict
        ``Certificate.model_dump()``.
    online : dict
        By feature service: ``rows``, ``values``, ``equal``, ``mismatches`` (by column), ``missing_rows``,
        ``missing_columns``, ``median_ms``.
    commands : list of str
        What to run next.
    """

    title: str
    data_name: str
    created_at: str
    activity: pa.Table
    cutoffs: list[datetime]
    split: Split
    ingest: dict[str, Any]
    users: list[UserStory]
    stages: list[tuple[str, float]]
    profile_stats: dict[str, Any]
    uplift: dict[str, Any]
    certificate: dict[str, Any]
    online: dict[str, dict[str, Any]]
    commands: list[str]


def render_report(inputs: ReportInputs) -> str:
    """The page as text; equal inputs give equal bytes.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    stories = [sorted_story(user) for user in inputs.users]
    colours = plots.category_colours(story.history for story in stories)
    words, word_ticks = plots.word_bars(inputs.profile_stats.get("word_histogram") or [])
    template = page_template(Path(__file__).with_suffix(".html"))
    return template.render(
        inputs=inputs,
        split=inputs.split,
        n_interactions=pc.sum(inputs.activity["interactions"]).as_py() or 0,
        timeline=plots.timeline(inputs.activity, inputs.cutoffs, inputs.split),
        ingest=_door(inputs.ingest),
        quarantine=_quarantine(inputs.ingest),
        stories=[shown_story(story, colours) for story in stories],
        colours=colours,
        stats=inputs.profile_stats,
        written=sorted((inputs.profile_stats.get("written") or {}).items()),
        profile_facts=[(label, inputs.profile_stats[key]) for key, label in _STATS if key in inputs.profile_stats],
        word_bars=words,
        word_ticks=word_ticks,
        uplift=_uplift(inputs.uplift) if inputs.uplift else None,
        certificate=inputs.certificate,
        online=_online(inputs.online),
        stages=plots.stage_bars(inputs.stages, _parts(inputs.stages, inputs.profile_stats)),
        total_seconds=sum(seconds for _, seconds in inputs.stages),
    )


def write_report(inputs: ReportInputs, path: str | os.PathLike[str]) -> Path:
    """Write the page to ``path`` (UTF-8; its folder is made), whole or not at all, and return where it is."""
    return write_text(Path(path), render_report(inputs))


def _door(ingest: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    return [(table, [ingest[table][name] for name in _DOOR]) for table in _TABLES if table in ingest]


def _quarantine(ingest: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    reasons = [(table, ingest[table]["quarantine_reasons"]) for table in _TABLES if table in ingest]
    return [(reason, table, count) for table, counts in reasons for reason, count in sorted(counts.items())]


def _parts(stages: Sequence[tuple[str, float]], profile_stats: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    prefix = f"profiles {profile_stats.get('release')}"
    return {name: profile_stats.get("seconds") or {} for name, _ in stages if f"{name} ".startswith(f"{prefix} ")}


def _uplift(uplift: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of every row and the paired differences, each with its place on its plot's axis."""
    rows, comparisons = uplift["rows"], uplift["comparisons"]
    scores, score_ticks = plots.interval_marks([r["means"][0] for r in rows], [r["intervals"][0] for r in rows])
    gains, gain_ticks = plots.interval_marks(
        [c["difference"] for c in comparisons], [c["interval"] for c in comparisons]
    )
    baseline = next((mark.value for row, mark in zip(rows, scores, strict=True) if row["name"] == NO_PROFILE), None)
    return {
        **uplift,
        "scores": [
            (row, mark, _ARM_CLASSES.get(row["name"], "control")) for row, mark in zip(rows, scores, strict=True)
        ],
        "score_ticks": score_ticks,
        "baseline": baseline,
        "gains": [(each, mark, _sign(each)) for each, mark in zip(comparisons, gains, strict=True)],
        "gain_ticks": gain_ticks,
        "zero": next((tick.at for tick in gain_ticks if float(tick.label) == 0), 0),
        "gain": next((c for c in comparisons if (c["arm"], c["baseline"]) == (LANGUAGE_MODEL, NO_PROFILE)), None),
        "questions": {
            (LANGUAGE_MODEL, NO_PROFILE): "Is there a gain?",
            (LANGUAGE_MODEL, SHUFFLED): "Does it come from what the profile says?",
            (LANGUAGE_MODEL, STATISTICAL): "Does it need a language model?",
            (SHUFFLED, NO_PROFILE): "A control that must not gain",
        },
    }


def _sign(comparison: Mapping[str, Any]) -> str:
    return {1: "better", 0: "none", -1: "worse"}[comparison["sign"]]


def _online(online: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Per service the number of values that differ or are missing, and both totals."""
    services = [
        {**facts, "service": name, "differ": sum(facts["mismatches"].values()), "missing": _missing(facts)}
        for name, facts in online.items()
    ]
    return {
        "services": services,
        "values": sum(facts["values"] for facts in services),
        "equal": all(facts["equal"] for facts in services),
        "differ": sum(facts["differ"] for facts in services),
    }


def _missing(facts: Mapping[str, Any]) -> str:
    parts = [f"{facts['missing_rows']:,} rows"] if facts["missing_rows"] else []
    return ", ".join([*parts, *facts["missing_columns"]]) or "none"
