"""The training texts: endless, seeded, and true to their summaries."""

from __future__ import annotations

import random
import re
from itertools import islice

import pytest

from lettingo_features.profiles import lexicon, reference
from lettingo_features.profiles.corpus import (
    Names,
    category_names,
    documents,
    held_out_summaries,
    random_summary,
    simplified,
)
from lettingo_features.profiles.faithfulness import first_named
from lettingo_features.profiles.generator import STYLES
from lettingo_features.profiles.prompt import render


def test_same_seed_same_texts() -> None:
    first, again, other = (list(islice(documents(seed), 20)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_no_word_list_shares_a_word_with_a_held_out_name() -> None:
    held_out = {word.lower() for name in lexicon.held_out_names() for word in re.findall(r"\w\w+", name)}
    listed = {
        word.lower() for words in (lexicon.GENRES, lexicon.THINGS, lexicon.QUALITIES, lexicon.NAMES) for word in words
    }
    assert held_out & listed == set()
    assert len(listed) > 600 and len(lexicon.held_out_names()) > 80


@pytest.mark.parametrize("style", STYLES)
def test_reference_names_the_strongest_category_first_and_only_what_the_prompt_shows(style: str) -> None:
    rng = random.Random(5)
    for summary in held_out_summaries(300, 11):
        text, names = reference.write(summary, style, rng), category_names(summary)
        assert first_named(text, names) == names[0], text
        assert all(f'"{title}"' in render(summary, style) for title in re.findall(r'"([^"]*)"', text)), text
        assert set(re.findall(r"\d+", text)) <= set(re.findall(r"\d+", render(summary, style))), text


def test_reference_has_variety() -> None:
    summary = held_out_summaries(1, 12)[0]
    rng = random.Random(0)
    assert len({reference.write(summary, "narrative", rng) for _ in range(200)}) > 60


def test_summaries_are_consistent() -> None:
    rng = random.Random(2)
    names = Names(rng)
    for _ in range(500):
        s = random_summary(rng, names)
        top = [entry["name"] for entry in s["top_categories"]]
        assert len(set(top)) == len(top) <= 4
        assert all(e["liked"] + e["disliked"] <= e["n"] <= s["n_interactions"] for e in s["top_categories"])
        assert s["lowest_category"] is None or s["lowest_category"]["name"] not in top[:1]
        assert (s["mean_rating"] is None) == (s["tone"] == "unrated")
        assert not set(s["loved_titles"]) & set(s["disliked_titles"]) or len(set(s["loved_titles"])) < 3


def test_simplified_keeps_the_strongest_category() -> None:
    summary = held_out_summaries(1, 13)[0]
    plain = simplified(summary)
    assert plain["top_categories"][:1] == summary["top_categories"][:1]
    assert (plain["newest"], plain["loved_titles"], len(plain["top_categories"]) <= 2) == ([], [], True)


FIRST = [  # text, names, named first
    ("Mostly Drama, not War.", ["War", "Drama"], "Drama"),  # 0
    ("Mostly Sci-Fi.", ["Fi", "Sci-Fi"], "Sci-Fi"),  # 1  the longer at one place
    ("Warm and Dramatic.", ["War", "Drama"], None),  # 2  whole words only
    ("Likes C++ & more", ["C++ & more"], "C++ & more"),  # 3  marks are literal
]


@pytest.mark.parametrize(("text", "names", "first"), FIRST)
def test_first_named(text: str, names: list[str], first: str | None) -> None:
    assert first_named(text, names) == first
