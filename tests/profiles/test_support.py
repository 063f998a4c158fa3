"""Names of a text, and which of them its prompt holds: read as a table."""

from __future__ import annotations

import numpy as np
import pytest

from lettingo_features.profiles.support import names_in, supported_shares

NAMES = [  # text, its names: quoted titles first, then runs of capitals
    ("Mostly Drama and Comedy.", ["Drama", "Comedy"]),  # 0  opening word is none; "and" joins two names
    ("Likes Drama. Hates Horror.", ["Drama", "Horror"]),  # 1  no name goes across a full stop
    ("Loves Drama. Often. Never Crime.", ["Drama", "Crime"]),  # 2  a sentence of one word ends where it ends
    ("Drama comes first.", []),  # 3  a capital by rule
    ("Well! Drama? Yes.", []),  # 4
    ("- Mostly Drama\n- Likes Crime\n- Horror last", ["Drama", "Crime"]),  # 5  bullets open sentences
    ("* Mostly Drama\n• Likes Crime", ["Drama", "Crime"]),  # 6  of any kind
    ("top: Drama, Crime", ["Crime"]),  # 7  so does a colon
    ('Loved "Singin\' in the Rain" and "Heat".', ["Singin' in the Rain", "Heat"]),  # 8  an apostrophe ends no title
    ('Loved "Heat" Drama', ["Heat", "Drama"]),  # 9  a title is no part of the next name
    ('Drama "Heat" Crime', ["Heat", "Crime"]),  # 10
    ('Said "..." of it', []),  # 11 nothing but signs
    ("saw The Lord of the Rings twice", ["The Lord of the Rings"]),  # 12
    ("likes Science Fiction, Sci-Fi, Film-Noir, Children's", ["Science Fiction", "Sci-Fi", "Film-Noir", "Children's"]),
    ("films by Émile Zola, Αθήνα, Ирония", ["Émile Zola", "Αθήνα", "Ирония"]),  # 14
    ("the 1990s, 12 of them, a B film I like", []),  # 15 numbers and single letters
    ("loves Drama, Drama and Drama", ["Drama"] * 3),  # 16 as often as said
    ("", []),  # 17
]


@pytest.mark.parametrize(("text", "names"), NAMES)
def test_names(text: str, names: list[str]) -> None:
    assert names_in(text) == names


PROMPT = 'loved: "Heat" "Singin\' in the Rain"\nalso: Drama=3, Sci-Fi=2, C++ (x)=1, Café=1\ntop: Science Fiction=9'
SHARES = [  # text, share of its names in PROMPT
    ("Mostly Drama and Science Fiction.", 1),  # 0
    ("Mostly Dramma and Science Fiction.", 1 / 2),  # 1  misspelt copy
    ("Likes Dram.", 0),  # 2  part of a word
    ('Loved "Heat" and "Heat 2".', 1 / 2),  # 3
    ('Loved "heat".', 0),  # 4  exact case
    ('Loved "Singin\' in the Rain".', 1),  # 5
    ('Of "C++ (x)" and ".*".', 1 / 2),  # 6  a name is no pattern
    ("Sits in a Café, a Cafe", 1 / 2),  # 7
    ("Likes Western, Western, Drama", 1 / 3),  # 8  each mention counts
    ("likes all sorts of films.", np.nan),  # 9  nothing to judge
    ("", np.nan),  # 10
]


@pytest.mark.parametrize(("text", "share"), SHARES)
def test_shares(text: str, share: float) -> None:
    assert supported_shares([text], [PROMPT]) == pytest.approx([share], nan_ok=True)


def test_each_text_meets_its_own_prompt() -> None:
    texts, prompts = ["Likes Drama", "Likes Drama", "none"], ["Crime", "Drama", "Drama"]
    assert supported_shares(texts, prompts).tolist()[:2] == [0, 1]
    with pytest.raises(ValueError):
        supported_shares(texts, prompts[:2])
