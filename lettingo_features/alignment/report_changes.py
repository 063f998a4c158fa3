"""What changed in the texts, for the report: over all users of the gate, and for those whose metric moved most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lettingo_features import columns as c
from lettingo_features.alignment.report_candidates import ID_CHARS, TEXT_CHARS
from lettingo_features.alignment.run_files import RunFiles
from lettingo_features.alignment.text_changes import changed_words, text_facts, word_diff
from lettingo_features.evaluation.report_page import capped

EACH = 3
"Users shown whose primary metric gained most, and lost most."
WORD_CHARS = 60


def changed_texts(run: RunFiles, candidate: str, released: str) -> dict[str, Any] | None:
    """Texts of ``candidate`` beside those of ``released``, of the same users; None where no text was kept."""
    if run.texts is None:
        return None
    arms: dict[str, dict[str, str]] = {}
    for row in run.texts.to_pylist():
        if row["text"]:  # an arm without profiles has none
            arms.setdefault(row["arm"], {})[row[c.USER_ID]] = row["text"]
    before, after = arms.get(released, {}), arms.get(candidate, {})
    both = sorted(before.keys() & after.keys())
    gained, lost = changed_words([before[user] for user in both], [after[user] for user in both])
    primary = next((each["metric"] for each in run.verdict.get("comparisons", ())), "")
    users, values = run.paired_scores(primary, candidate, released)
    rows = [
        (user, *pair) for user, pair in zip(users, values.tolist(), strict=True) if user in before and user in after
    ]
    rows.sort(key=lambda row: (row[2] - row[1], row[0]))  # most gained first
    return {
        "facts": text_facts(arms, released),
        "n_both": len(both),
        "gained": [replace(each, word=capped(each.word, WORD_CHARS)) for each in gained],
        "lost": [replace(each, word=capped(each.word, WORD_CHARS)) for each in lost],
        "metric": primary,
        "groups": [
            ("Gained most", [_side_by_side(row, before, after) for row in rows[:EACH] if row[1] > row[2]]),
            ("Lost most", [_side_by_side(row, before, after) for row in rows[::-1][:EACH] if row[1] < row[2]]),
        ],
    }


def _side_by_side(row: tuple[str, float, float], before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    user, new, old = row
    left, right = word_diff(capped(before[user], TEXT_CHARS), capped(after[user], TEXT_CHARS))
    return {
        "user_id": capped(user, ID_CHARS),
        "before": left,
        "after": right,
        "n_before": len(before[user].split()),
        "n_after": len(after[user].split()),
        "old": old,
        "new": new,
    }
