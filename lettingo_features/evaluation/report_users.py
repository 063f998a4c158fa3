"""One user in the report: what they did, beside what was written about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from lettingo_features.evaluation import report_plots as plots
from lettingo_features.evaluation.report_page import capped

if TYPE_CHECKING:
    from markupsafe import Markup

UNSEEN_ROWS, SEEN_ROWS, PROFILES = 3, 6, 2
"Shown per user: newest interactions after the newest cutoff, newest before it, and profiles (older ones are folded)."
TITLE_CHARS, CATEGORY_CHARS, TEXT_CHARS, CATEGORIES = 200, 60, 4_000, 8
"Caps on what one row or profile may put on the page: a title of a megabyte must not become a page of many."


@dataclass(frozen=True)
class UserStory:
    """One user: what they did, beside what was written about them.

    Attributes
    ----------
    user_id : str
    history : list of dict
        ``event_timestamp`` (datetime, UTC), ``title`` (str), ``categories`` (list of str or None), ``rating`` (float or
        None); any order. Interactions after the newest cutoff are shown as unseen by the profile.
    profiles : list of dict
        ``cutoff`` (datetime, UTC), ``generator``, ``text`` (str), ``n_interactions`` (int); any order.
    """

    user_id: str
    history: list[dict[str, Any]]
    profiles: list[dict[str, Any]]


def sorted_story(user: UserStory) -> UserStory:
    """``user`` with history oldest first and profiles newest first, in UTC, strings capped, NaN ratings None."""
    history = [
        {
            "event_timestamp": plots.utc(row["event_timestamp"]),
            "title": capped(row["title"], TITLE_CHARS),
            "categories": [capped(name, CATEGORY_CHARS) for name in (row["categories"] or ())[:CATEGORIES] if name],
            "rating": None if row["rating"] is None or isnan(row["rating"]) else row["rating"],
        }
        for row in user.history
    ]
    profiles = [
        {**profile, "cutoff": plots.utc(profile["cutoff"]), "text": capped(profile["text"], TEXT_CHARS)}
        for profile in user.profiles
    ]
    return UserStory(
        capped(user.user_id, TITLE_CHARS),
        sorted(history, key=lambda row: row["event_timestamp"]),
        sorted(profiles, key=lambda profile: profile["cutoff"], reverse=True),
    )


def shown_story(user: UserStory, colours: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows of one user; ``user`` has its history oldest first, its profiles newest first."""
    own = plots.category_counts(user.history)
    classes = {name: colours[name] for name in own}
    cutoff = user.profiles[0]["cutoff"] if user.profiles else None
    newest_first = user.history[::-1]
    unseen = [row for row in newest_first if cutoff is not None and row["event_timestamp"] >= cutoff]
    seen = newest_first[len(unseen) :]
    bars, lines = plots.rating_strip(user.history, [profile["cutoff"] for profile in user.profiles], colours)
    profiles = [{**profile, "marked": highlight(profile["text"], classes)} for profile in user.profiles]
    return {
        "user_id": user.user_id,
        "cutoff": cutoff,
        "bars": bars,
        "lines": lines,
        "categories": [(name, colours[name], count) for name, count in own.items()],
        "unseen": unseen[:UNSEEN_ROWS],
        "n_unseen": len(unseen),
        "seen": seen[:SEEN_ROWS],
        "n_seen": len(seen),
        "n_history": len(user.history),
        "first": user.history[0]["event_timestamp"] if user.history else None,
        "last": user.history[-1]["event_timestamp"] if user.history else None,
        "best_rating": max((row["rating"] for row in user.history if row["rating"] is not None), default=None),
        "profiles": profiles[:PROFILES],
        "earlier": profiles[PROFILES:],
    }


def highlight(text: str, classes: Mapping[str, str]) -> Markup:
    """``text`` escaped, with each whole-word mention of a key of ``classes`` in a ``<mark>`` of its style class.

    Case is ignored and the longest name wins, so that "Science Fiction" is not marked as "Fiction".
    """
    from markupsafe import Markup, escape

    names = sorted((name for name in classes if name.strip()), key=lambda name: (-len(name), name))
    if not names:
        return escape(text)
    folded = {name.lower(): classes[name] for name in reversed(names)}
    found = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", re.IGNORECASE)
    pieces = found.split(text)  # plain, name, plain, name, ..., plain
    mark = Markup('<mark class="{}">{}</mark>')
    return Markup("").join(
        mark.format(folded.get(piece.lower(), "cx"), piece) if place % 2 else escape(piece)
        for place, piece in enumerate(pieces)
    )
