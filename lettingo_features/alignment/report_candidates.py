"""Three explored users for the report: their candidates side by side, with rewards, and the pairs made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.run_files import RunFiles
from lettingo_features.evaluation.report_page import capped
from lettingo_features.evaluation.report_plots import interval_marks

CANDIDATES, TEXT_CHARS, PROMPT_CHARS, ID_CHARS = 24, 4_000, 8_000, 200
"Caps on what one user may put on the page."


def shown_users(run: RunFiles) -> list[dict[str, Any]]:
    """The users with the largest and the median margin, and one without a pair, each as the template shows them."""
    if run.candidates is None or run.rewards is None:
        return []
    candidates = _with_rewards(run.candidates, run.rewards)
    pairs = run.pairs if run.pairs is not None else pa.table({c.USER_ID: pa.array([], pa.string())})
    return [_shown(user, why, candidates, pairs, run.prompts) for user, why in _picked(candidates, pairs)]


def _with_rewards(candidates: pa.Table, rewards: pa.Table) -> pa.Table:
    """``candidates`` with the columns of their rewards, null without one."""
    place = pc.index_in(candidates["candidate_id"], rewards["candidate_id"].combine_chunks())
    names = ("value", "raw", "noise", "no_profile", "n_targets", "correct", "answer")
    for name in names:
        candidates = candidates.append_column(name, rewards[name].take(place))
    return candidates


def _picked(candidates: pa.Table, pairs: pa.Table) -> list[tuple[str, str]]:
    """(user, why) each: by the best margin of a user, ties by id; without a pair, the widest spread of values."""
    picked = []
    if pairs.num_rows:
        best = pairs.group_by(c.USER_ID).aggregate([("margin", "max")])
        best = best.sort_by([("margin_max", "descending"), (c.USER_ID, "ascending")])[c.USER_ID].to_pylist()
        picked.append((best[0], "the largest margin"))
        if len(best) > 1:
            picked.append((best[len(best) // 2], "the median of the users' largest margins"))
    without = candidates.filter(pc.invert(pc.is_in(candidates[c.USER_ID], pairs[c.USER_ID].combine_chunks())))
    values = without.group_by(c.USER_ID).aggregate([("value", "min"), ("value", "max"), ("value", "count")])
    values = values.filter(pc.greater(values["value_count"], 1))
    if values.num_rows:
        spread = pc.subtract(values["value_max"], values["value_min"])
        values = values.append_column("spread", spread).sort_by([("spread", "descending"), (c.USER_ID, "ascending")])
        picked.append((values[c.USER_ID][0].as_py(), "no pair, of these the widest spread of rewards"))
    return picked


def _shown(user: str, why: str, candidates: pa.Table, pairs: pa.Table, prompts: pa.Table | None) -> dict[str, Any]:
    texts = _distinct(candidates.filter(pc.equal(candidates[c.USER_ID], user)).to_pylist())
    number = {candidate_id: text["number"] for text in texts for candidate_id in text["ids"]}
    own = pairs.filter(pc.equal(pairs[c.USER_ID], user)).to_pylist()
    for pair in own:
        pair["better"], pair["worse"] = number.get(pair["chosen_id"]), number.get(pair["rejected_id"])
    for text in texts:
        text["over"] = [pair["worse"] for pair in own if pair["better"] == text["number"]]
        text["under"] = [pair["better"] for pair in own if pair["worse"] == text["number"]]
    judged = [text for text in texts if text["value"] is not None]
    prompt = None if prompts is None else prompts.filter(pc.equal(prompts[c.USER_ID], user)).to_pylist()
    return {
        "user_id": capped(user, ID_CHARS),
        "why": why,
        "prompt": {**prompt[0], "prompt": capped(prompt[0]["prompt"], PROMPT_CHARS)} if prompt else None,
        "texts": texts[:CANDIDATES],
        "n_texts": len(texts),
        "first": judged[0] if judged else None,
        "pairs": own,
        **_plot(judged[:CANDIDATES]),
    }


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per text, the best reward first, those without one last; ``number`` counts from 1, ``ids`` has all.

    As for pairs, the candidate with the smallest id stands for all that say the same.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["candidate_id"]):
        text = found.setdefault(row["text"], {**row, "ids": []})
        text["ids"].append(row["candidate_id"])
    texts = sorted(found.values(), key=lambda row: (row["value"] is None, -(row["value"] or 0.0)))
    for place, text in enumerate(texts, 1):
        text |= {"number": place, "text": capped(text["text"], TEXT_CHARS), "answer": capped(text["answer"] or "", 60)}
    return texts


def _plot(judged: list[dict[str, Any]]) -> dict[str, Any]:
    """Value with one standard error, and raw reward, of each judged text on one axis."""
    if not judged:
        return {"marks": {}, "ticks": [], "zero": None}
    values = np.array([text["value"] for text in judged])
    noise = np.array([text["noise"] for text in judged])
    raw = [text["raw"] for text in judged]
    means = [*values.tolist(), *raw, 0.0]
    intervals = [
        *zip((values - noise).tolist(), (values + noise).tolist(), strict=True),
        *((x, x) for x in raw),
        (0, 0),
    ]
    marks, ticks = interval_marks(means, intervals)
    n = len(judged)
    places = {text["number"]: (marks[k], marks[n + k].value) for k, text in enumerate(judged)}
    return {"marks": places, "ticks": ticks, "zero": marks[-1].value}
