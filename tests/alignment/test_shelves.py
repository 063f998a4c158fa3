"""Categories by first mention, against nDCG@5 worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lettingo_features.alignment.shelves import Shelves

CATEGORIES = ["Drama", "Crime", "Science", "Science Fiction", "Fiction", "C++ (x)", ".*", "Film-Noir", "", "Drama"]


def gain(*relevances: int) -> float:
    """Discounted gain of relevances in order of place."""
    return sum(each / math.log2(place + 2) for place, each in enumerate(relevances[:5]))


CASES = [  # text, categories of later liked items, nDCG@5
    ("Drama, then Crime.", ["Drama"], 1),  # 0
    ("Crime, then Drama.", ["Drama"], gain(0, 1)),  # 1
    ("Crime, Crime, Crime, Drama.", ["Drama"], gain(0, 1)),  # 2  the first mention counts
    ("Science Fiction.", ["Science Fiction"], 1),  # 3  the longer name ...
    ("Science Fiction.", ["Science"], 0),  # 4  ... and no part of it
    ("Science, Fiction.", ["Fiction"], gain(0, 1)),  # 5
    ("Dramatic Crimes, drama", ["Drama", "Crime"], 0),  # 6  whole words in exact case
    ("Likes C++ (x) and .*", [".*"], gain(0, 1)),  # 7  a name is no pattern
    ("Anything at all", [".*"], 0),  # 8
    ("Film-Noir", ["Film-Noir"], 1),  # 9
    ("Nothing of the kind", ["Drama"], 0),  # 10
    ("", ["Drama"], 0),  # 11
    ("Drama", [], 0),  # 12 liked nothing later
    ("Drama, Crime", ["Drama", "Crime", "Crime", "Crime"], gain(1, 3) / gain(3, 1)),  # 13 graded
    ("Crime, Drama", ["Drama", "Crime", "Crime", "Crime"], 1),  # 14
    ("Crime", ["Drama", "Crime"], gain(1) / gain(1, 1)),  # 15 what is not named is missed
    ("Western", ["Western"], 0),  # 16 not of the catalogue
    ("Film-Noir, Science, Fiction, .*, Drama, Crime", ["Crime"], 0),  # 17 five places; Crime is the sixth
]


@pytest.mark.parametrize(("text", "liked", "expected"), CASES)
def test_one_user(text, liked, expected):
    assert Shelves(CATEGORIES, [liked]).ndcg([text]) == pytest.approx([expected])


def test_users_keep_their_rows():
    order = np.random.default_rng(0).permutation(len(CASES)).tolist() * 2  # more than ten: "10" sorts before "2"
    found = Shelves(CATEGORIES, [CASES[row][1] for row in order]).ndcg([CASES[row][0] for row in order])
    assert found == pytest.approx([CASES[row][2] for row in order]) and found.dtype == np.float64


def test_judging_again_changes_nothing():
    shelves = Shelves(CATEGORIES, [["Drama"], ["Crime"]])
    first = shelves.ndcg(["Drama", "Drama, Crime"])
    assert shelves.ndcg(["Crime", ""]).tolist() == [0, 0]
    assert shelves.ndcg(["Drama", "Drama, Crime"]).tolist() == first.tolist()


EDGES = [  # categories, liked by user, texts, nDCG by user
    (["Drama"], [], [], []),
    ([], [["Drama"]], ["Drama"], [0]),
    (["Drama"], [[], []], ["Drama", ""], [0, 0]),
]


@pytest.mark.parametrize(("categories", "liked", "texts", "expected"), EDGES)
def test_edges(categories, liked, texts, expected):
    assert Shelves(categories, liked).ndcg(texts).tolist() == expected
