"""One user's part of the report."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lettingo_features.evaluation.report_users import UserStory, highlight, shown_story, sorted_story

CLASSES = {"Fiction": "c0", "Science Fiction": "c1", "R&B": "c2", "C++": "c3"}


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Likes fiction.", 'Likes <mark class="c0">fiction</mark>.'),  # any case, written as in the text
        ("Science Fiction", '<mark class="c1">Science Fiction</mark>'),  # the longest name
        ("Nonfiction, fictional", "Nonfiction, fictional"),  # whole words only
        ("R&B & soul", '<mark class="c2">R&amp;B</mark> &amp; soul'),  # names and the rest are escaped
        ("C++, not C", '<mark class="c3">C++</mark>, not C'),  # no pattern characters
        ("<b>Fiction</b>", '&lt;b&gt;<mark class="c0">Fiction</mark>&lt;/b&gt;'),
        ("", ""),
    ],
)
def test_highlight(text, marked):
    assert str(highlight(text, CLASSES)) == marked


def test_highlight_without_names():
    assert str(highlight("a < b", {})) == "a &lt; b"
    assert str(highlight("a < b", {" ": "c0"})) == "a &lt; b"


def at(day: int) -> datetime:
    return datetime(2020, 3, day, tzinfo=UTC)


def test_history_is_parted_at_the_newest_cutoff():
    history = [
        {"event_timestamp": at(day), "title": str(day), "categories": ["Drama", None], "rating": rating}
        for day, rating in ((3, 4.0), (1, float("nan")), (2, 5.0))  # shuffled; the cutoff is day 3, half-open
    ]
    profiles = [
        {"cutoff": at(day), "generator": "statistical", "text": f"Drama {day}", "n_interactions": day}
        for day in (1, 3, 2)
    ]
    story = shown_story(sorted_story(UserStory("u", history, profiles)), {"Drama": "c0"})
    assert [row["title"] for row in story["unseen"]] == ["3"]
    assert [(row["title"], row["rating"]) for row in story["seen"]] == [("2", 5.0), ("1", None)]
    assert [each["n_interactions"] for each in story["profiles"]] == [3, 2]
    assert [each["n_interactions"] for each in story["earlier"]] == [1]
    assert story["profiles"][0]["marked"] == '<mark class="c0">Drama</mark> 3'
    assert [row["title"] for row in history] == ["3", "1", "2"]  # the input is as it was
