"""What a training changed in texts, counted by hand."""

from __future__ import annotations

import math

import pytest

from lettingo_features.alignment.text_changes import changed_words, text_facts, word_diff


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ("Loves Drama.", "Loves Drama.", [(False, "Loves Drama.")], [(False, "Loves Drama.")]),
        (
            "Loves Drama a lot.",
            "Loves Crime a lot.",
            [(False, "Loves"), (False, " "), (True, "Drama"), (False, " a lot.")],
            [(False, "Loves"), (False, " "), (True, "Crime"), (False, " a lot.")],
        ),
        ("a b", "a\nb", [(False, "a b")], [(False, "a\nb")]),  # white space is no difference
        ("", "new", [], [(True, "new")]),
        ("Drama, Crime", "Crime", [(True, "Drama,"), (False, " Crime")], [(False, "Crime")]),
    ],
)
def test_word_diff(before, after, left, right):
    assert word_diff(before, after) == (left, right)


@pytest.mark.parametrize("text", ["", " a  b\n\nc ", "naïve – «R&B» 100%", "日本語 <b>"])
def test_pieces_join_to_the_text(text):
    for other in ("", "a c", text[::-1]):
        left, right = word_diff(text, other)
        assert ("".join(piece for _, piece in left), "".join(piece for _, piece in right)) == (text, other)


def test_changed_words_by_hand():
    before, after = ["the " * 60 + "crime " * 40], ["The " * 60 + "Drama " * 40]
    [gained], [lost] = changed_words(before, after)
    assert (gained.word, gained.before, gained.after) == ("drama", 0.0, 400.0)
    assert (lost.word, lost.before, lost.after) == ("crime", 400.0, 0.0)
    # 100 words each; the prior of 500 words gives both words a fifth: 100
    odds = math.log(140 / 460) - math.log(100 / 500)
    assert gained.z == pytest.approx(odds / math.sqrt(1 / 140 + 1 / 100)) == pytest.approx(-lost.z)


def test_few_uses_show_nothing():
    assert changed_words(["the crime"], ["the drama"]) == ([], [])
    assert changed_words([], []) == changed_words(["a"], [""]) == ([], [])


def test_text_facts_by_hand():
    arms = {
        "base": {"u1": 'Loves "Heat".', "u2": "Loves Drama."},
        "aligned": {"u1": 'Loves "Heat".', "u2": 'Loves "Heat" and "Alien", mostly.', "u3": "Nothing."},
    }
    base, aligned = text_facts(arms, "base")
    assert (base.n_texts, base.names_per_text, base.different_names, base.same) == (2, 1.0, 2, None)
    assert base.words == (2, 2, 2)
    assert (aligned.n_texts, aligned.different_texts, aligned.different_names) == (3, 3, 2)
    assert aligned.names_per_text == pytest.approx(1.0)  # 1, 2 and 0
    assert aligned.same == 0.5  # of the two users who have both
