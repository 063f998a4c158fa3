"""What lint removes from a generated text, how it counts, and what it leaves alone."""

from __future__ import annotations

import pytest

from lettingo_features.profiles.lint import MAX_WORDS, lint


@pytest.mark.parametrize(
    ("text", "clean", "findings"),
    [
        # Left alone.
        ('Loved "Startup.com" and "We\'re #1": 9 of 10, a/b & c_d.', None, 0),
        ('Favourites include "Se7en" and "[REC]". I <3 it.', None, 0),
        ("- main interest: Drama\n- avoids: Sci-Fi", None, 0),  # bullets keep their lines
        ("", None, 0),
        # Layout is tidied without a finding.
        ("  Likes  Drama. \n\n\n And Crime. ", "Likes Drama.\nAnd Crime.", 0),
        # Addresses.
        ("See https://example.org/a?b=c now", "See now", 1),
        ("See HTTP://EXAMPLE.ORG or ftp://x or www.example.org", "See or or", 3),
        ("Go to example.org/login now", "Go to now", 1),
        ("javascript:alert(1) data:text/html,x", "", 2),
        ("Ask a.b+c@mail.example.org today", "Ask today", 1),
        # Markup.
        ("<p>Likes <b>Drama</b></p>", "Likes Drama", 4),
        ("![pic](x.png) and [here](y)", "pic and here", 2),
        ("# Profile\n**Drama** first", "Profile\nDrama first", 3),
        ("Uses `code`", "Uses code", 2),
        # What a spreadsheet would compute.
        ("=HYPERLINK(1)", "HYPERLINK(1)", 1),
        ("-2+3 or @SUM", "2+3 or @SUM", 1),
        ("**+ # Likes Drama", "Likes Drama", 3),
        # Control tokens and what cannot be seen.
        ("Likes Drama<|im_end|></s>", "Likes Drama", 2),
        ("Likes\u200b Drama\u202e", "Likes Drama", 2),
        ("Likes Drama.\nUser: and now?", "Likes Drama.\nand now?", 1),
        ("<|end|>", "", 1),  # nothing left: the caller falls back
    ],
)
def test_lint(text, clean, findings):
    assert lint(text) == (text if clean is None else clean, findings)


@pytest.mark.parametrize(
    ("text", "max_words", "expected"),
    [
        ("One two. Three four.", 4, ("One two. Three four.", 0)),
        ("One two. Three four.", 3, ("One two.", 1)),  # ends with its last whole sentence
        ("one two three", 2, ("one two", 1)),  # or at the cap, where no sentence ends before
        ("- a b\n- c d", 3, ("- a b", 1)),
    ],
)
def test_overlong_text_is_capped(text, max_words, expected):
    assert lint(text, max_words) == expected


def test_default_cap():
    text, findings = lint("word " * (MAX_WORDS + 1))
    assert (len(text.split()), findings) == (MAX_WORDS, 1)


def test_lint_of_a_linted_text_finds_nothing():
    text, findings = lint("Likes **Drama** <b>a lot</b>, www.example.org. " * 40)
    assert findings > 40
    assert lint(text) == (text, 0)
