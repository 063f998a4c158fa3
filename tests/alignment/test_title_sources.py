"""Where the titles in a text come from."""

from __future__ import annotations

import numpy as np
import pytest

from lettingo_features.alignment.title_sources import title_sources
from lettingo_features.errors import DataError

TITLES = [
    "Toy Story (1995)",
    "Godfather, The (1972)",
    "Heat (1995)",
    "True Lies (1994)",
    "True Lies (1999)",
    "Blue Sky",
]
HISTORY = np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=bool)
HELD_OUT = np.array([[0, 1, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]], dtype=bool)

CASES = [  # text of the first user                             history held out neither
    ("Loved TOY STORY and the Godfather.", (1, 1, 0)),
    ("Godfather fans", (0, 0, 0)),  # not the title: the article belongs to it
    ("A toy storyteller under a blue, blue sky", (0, 0, 1)),  # whole words; punctuation does not matter
    ("In the heat of the night; told true lies", (0, 0, 0)),  # one word; two items share it
    ("", (0, 0, 0)),
]


@pytest.mark.parametrize(("text", "wanted"), CASES)
def test_titles_are_looked_up(text, wanted):
    found = title_sources([text, "", ""], TITLES, HISTORY, HELD_OUT)
    assert (found.history, found.held_out, found.neither) == wanted


def test_what_fame_alone_would_name():
    """The Godfather is held out for two of three users, none of whom has it in the history; Blue Sky for none."""
    found = title_sources(["The Godfather, Blue Sky"] * 3, TITLES, HISTORY, HELD_OUT)
    assert (found.held_out, found.neither) == (2, 4)
    assert found.expected == pytest.approx(3 * 2 / 3)
    assert "2 are held out, 2.0 by fame alone" in found.to_text()


def test_no_title_at_all():
    assert title_sources(["Plain."] * 3, TITLES, HISTORY, HELD_OUT).to_text() == "3 texts name no title"


def test_refused():
    with pytest.raises(DataError, match="2 texts and 6 titles do not fit"):
        title_sources(["", ""], TITLES, HISTORY, HELD_OUT)
