"""The report of one alignment run: a page of ``evaluation.report_page``, made from the files of the run alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features.alignment.gate import PairedMetric
from lettingo_features.alignment.gate_plot import difference_figure
from lettingo_features.alignment.report_candidates import shown_users
from lettingo_features.alignment.report_changes import changed_texts
from lettingo_features.alignment.report_plots import histogram, training_panels
from lettingo_features.alignment.report_reward import effects, facts, reward_facts
from lettingo_features.alignment.run_files import RunFiles, read_run
from lettingo_features.alignment.verdict import Comparison
from lettingo_features.evaluation.report_page import page_template
from lettingo_features.evaluation.report_plots import interval_marks, stage_bars
from lettingo_features.home import write_text

_DECISIONS = {"promote": ("Promote", "better"), "hold": ("Hold", "none"), "reject": ("Reject", "worse")}


def write_align_report(
    run_dir: Path, target: Path, command: str, candidate: str = "aligned", released: str = "base"
) -> Path:
    """Write the report of the run in ``run_dir`` to ``target``, whole or not at all, and return where it is.

    A step that has not run is said to be missing. Equal files and arguments give equal bytes.

    Parameters
    ----------
    run_dir
        ``<home>/alignment/<name>/``; see `run_files`.
    command
        That made the run, to be shown.
    candidate, released
        Arms that the gate compared.

    Raises
    ------
    DataError
        There is no such run, or one of its files cannot be read.
    MissingExtraError
        jinja2 is not installed.
    """
    return write_text(target, render_align_report(read_run(run_dir), command, candidate, released))


def render_align_report(run: RunFiles, command: str, candidate: str, released: str) -> str:
    """The page as text."""
    decision = run.verdict.get("decision")
    steps = list((run.run.get("steps") or {}).items())
    return page_template(Path(__file__).with_suffix(".html")).render(
        run=run,
        command=command,
        candidate=candidate,
        released=released,
        shuffled=(run.run.get("config") or {}).get("shuffle_labels", False),
        decision=_DECISIONS.get(decision, (decision, "none")),
        verdict=run.verdict,
        primary=(run.verdict.get("comparisons") or [None])[0],
        arms=_arms(run, candidate, released),
        figures=_figures(run, candidate, released),
        users=shown_users(run),
        by_answer=run.rewards is not None and run.rewards["correct"].null_count < len(run.rewards),
        pairs=_pairs(run),
        effects=effects(run.reward.get("shrinkage") or {}),
        sentiment=(run.reward.get("sentiment") or {}).get("rows"),
        reward_facts=reward_facts(run.reward),
        curves=[(name, training_panels(log)) for name, log in (("DPO", run.dpo), ("SFT", run.sft)) if log is not None],
        trained=[(method.upper(), list(facts(_short(card)))) for method, card in run.trained.items()],
        changes=changed_texts(run, candidate, released),
        frame=[*facts(run.run.get("frame") or {}), *facts(run.run.get("elsewhere") or {}, "texts of ")],
        config=json.dumps(run.run.get("config") or {}, indent=2, ensure_ascii=False),
        stages=stage_bars(steps, {}),
        total_seconds=sum(seconds for _, seconds in steps),
    )


def _arms(run: RunFiles, candidate: str, released: str) -> list[dict[str, Any]]:
    """By metric, those that decide first: means on one axis, paired differences from the released arm on another."""
    deciding = [each["metric"] for each in run.verdict.get("comparisons", ())]
    css = {candidate: "lm", released: "statistical"}
    tables = []
    for metric in dict.fromkeys([*deciding, *(row["metric"] for row in run.arms)]):
        own = [row for row in run.arms if row["metric"] == metric]
        if not own:
            continue
        marks, ticks = interval_marks([row["mean"] for row in own], [row["interval"] for row in own], zero=False)
        compared = [row for row in own if row["difference"] is not None]
        spans = [row["difference_interval"] for row in compared]
        gains, gain_ticks = interval_marks([0.0, *(row["difference"] for row in compared)], [(0.0, 0.0), *spans])
        sides = ["better" if low > 0 else "worse" if high < 0 else "none" for low, high in spans]
        tables.append(
            {
                "metric": metric,
                "means": [(row, mark, css.get(row["arm"], "control")) for row, mark in zip(own, marks, strict=True)],
                "ticks": ticks,
                "reference": next((m.value for row, m in zip(own, marks, strict=True) if row["arm"] == released), None),
                "gains": list(zip(compared, gains[1:], sides, strict=True)),
                "gain_ticks": gain_ticks,
                "zero": gains[0].value,
            }
        )
    return tables


def _figures(run: RunFiles, candidate: str, released: str) -> list[dict[str, Any]]:
    """The plot of each compared metric whose scores are there; the first is the primary's."""
    from markupsafe import Markup

    figures = []
    for found in run.verdict.get("comparisons", ()):
        comparison = Comparison(**{**found, "interval": tuple(found["interval"])})
        _, metric = run.paired_scores(comparison.metric, candidate, released)
        if len(metric) >= 2:
            paired = PairedMetric(comparison.metric, *metric.T)
            plot = difference_figure(paired, comparison, run.verdict["confidence"])
            figures.append({"n_scores": len(metric), "n_users": comparison.n_users, "plot": Markup(plot)})
    return figures


def _pairs(run: RunFiles) -> dict[str, Any] | None:
    found = run.pair_facts
    if not found:
        return None
    names = sorted({*found["wins"], *(loser for losers in found["wins"].values() for loser in losers)})
    steps = (
        ("comparisons with a better text", found["n_comparisons"]),
        ("margin above its noise", found["n_above_noise"]),
        ("of similar length", found["n_length_matched"]),
        ("pairs kept", found["n_pairs"]),
    )
    top = max(found["n_comparisons"], 1)
    rows = run.pairs if run.pairs is not None else pa.table({})
    plots = []
    if rows.num_rows:
        longer = pc.subtract(rows["chosen_words"], rows["rejected_words"]).to_numpy().astype(float)
        plots = [
            ("margin", *histogram(rows["margin"].to_numpy(), "pairs")),
            ("words of the chosen text less those of the rejected one", *histogram(longer, "pairs")),
        ]
    return {
        **found,
        "steps": [(label, count, round(100 * count / top, 2)) for label, count in steps],
        "per_user": sorted((int(n), users) for n, users in found["pairs_per_user"].items()),
        "spreads": [
            (label, found[name])
            for label, name in (
                ("margin", "margins"),
                ("noise of the margin", "margin_noise"),
                ("words, chosen less rejected", "word_differences"),
            )
            if found[name]
        ],
        "names": names,
        "plots": plots,
    }


def _short(card: Mapping[str, Any]) -> dict[str, Any]:
    """A training's facts without its configuration, which the run's has already."""
    return {name: value for name, value in card.items() if name not in ("config", "data", "key", "method")}
