"""Scrubbing of hand-written texts."""

from __future__ import annotations

import pytest

from lettingo_features.alignment.rating_scrub import scrub, scrubbed
from tests.alignment.rows import candidates

SMUGGLED = [  # what a text says -> what a judge may read
    ("Rates 4.2 of 5 on average.", "Rates N on average."),
    ("Average rating of 3.7, mostly dramas.", "Average rating of N, mostly dramas."),
    ("mean 3.7 over 24 films", "mean N over 24 films"),
    ("Mean rating: 3.7", "Mean rating: N"),
    ("The average score is about 4,1.", "The average score is about N."),
    ("gives films four out of five", "gives films N"),
    ("scores 8/10 for westerns", "scores N for westerns"),
    ("a 5-star fan; often three stars", "a N fan; often N"),
    ("gives 4 to 5 stars", "gives N"),
    ("★★★★☆ for comedies", "N for comedies"),
    ("a 3.9 average", "a N average"),
    ("85% of films are liked", "N of films are liked"),
    ("Likes 85 percent of what is watched", "Likes N of what is watched"),
]
HONEST = [
    "Likes Drama (11 of 24) and films from 1994.",
    "Watched 24 films in 118 days, mostly thrillers.",
    'Loved "12 Angry Men" and "Se7en"; disliked "9".',
    "Rated many films made after 1990 and liked the older ones.",
    "60% dramas, 20% westerns.",
    "Of 24 rated items most are Drama.",
    "Has rated 24 films.",
    "Fond of Apollo 13 and Ocean's Eleven.",
    "One of the five favourites is Horror.",
]


@pytest.mark.parametrize(("text", "expected"), SMUGGLED)
def test_numbers_that_smuggle_a_rating_go(text, expected):
    once, found = scrub(text)
    assert once == expected
    assert found > 0
    assert scrub(once) == (once, 0)


@pytest.mark.parametrize("text", HONEST)
def test_other_numbers_stay(text):
    assert scrub(text) == (text, 0)


def test_scrubbed_candidates_keep_their_ids():
    found = candidates(("u1a", "u1", "x", "Rates 4.5 of 5."), ("u1b", "u1", "x", "Likes drama."))
    clean, changed = scrubbed(found)
    assert changed == 1
    assert clean["text"].to_pylist() == ["Rates N.", "Likes drama."]
    assert clean.drop_columns("text").equals(found.drop_columns("text"))
