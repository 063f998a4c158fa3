"""What lint removes from a generated text, how it counts, and what it leaves alone."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lettingo_features.profiles.lint import MAX_WORDS, lint


@pytest.mark.parametrize(
    ("text", "clean", "findings"),
    [
        # Left alone.
        ('Loved "Startup.com" and "We\'re #1": 9 of 10, a/b & c_d.', None, 0),
        ('Favourites include "Se7en" and "[REC]". I <3 it.', None, 0),
        ("- main interest: Drama\n- avoids: Sci-Fi", None, 0),  # bullets keep their lines
        ("Rates a < b, b<3 and x <= y. I <3 it", None, 0),
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
        # Tags that never end: what follows on the page would end them.
        ("Likes <img src=x onerror=alert(1)", "Likes", 1),
        ("<img src='a b' alt=\"c d\" onerror = alert(1) Drama", "Drama", 1),  # attributes go, words stay
        ("Likes <script", "Likes", 1),
        ("</div <svg/onload=alert(1) Drama", "Drama", 2),
        ("<!-- Drama", "Drama", 1),
        ("Likes <a\nhref=x Drama\nand Crime", "Likes Drama\nand Crime", 1),
        ("<**img src=x> Drama", "Drama", 2),  # a tag once its inside is gone
        ("ww**w.evil.example", "", 2),
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
        ("word " * 999, None, (("word " * 999).strip(), 0)),  # None caps nothing
    ],
)
def test_overlong_text_is_capped(text, max_words, expected):
    assert lint(text, max_words) == expected


def test_default_cap():
    text, findings = lint("word " * (MAX_WORDS + 1))
    assert (len(text.split()), findings) == (MAX_WORDS, 1)


pieces = st.sampled_from([*"<>!?/ab=*_`#[]()|+-@:. \n'\"", "www.a", "img ", "\u200b"])


@given(st.lists(pieces, max_size=40).map("".join))
@example("<__a")
def test_lint_leaves_no_tag_and_nothing_to_lint(text):
    linted, _ = lint(text)
    assert lint(linted) == (linted, 0)
    assert not re.search("</?[A-Za-z]|<[!?]", linted)


@pytest.mark.parametrize("text", ["<a b='" * 20_000, "*_" * 50_000 + "_*" * 50_000, "<a" * 50_000 + ">" * 50_000])
def test_layers_without_end_cost_no_endless_time(text):
    started = time.perf_counter()
    assert not re.search("[<*_]", lint(text)[0])
    assert time.perf_counter() - started < 20  # a second at most, where one layer at a time takes many minutes


def test_lint_of_a_linted_text_finds_nothing():
    text, findings = lint("Likes **Drama** <b>a lot</b>, www.example.org. " * 40)
    assert findings > 40
    assert lint(text) == (text, 0)
