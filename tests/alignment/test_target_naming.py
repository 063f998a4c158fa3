"""Texts that name titles."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lettingo_features.alignment.target_naming import target_naming
from tests.alignment.rows import candidates


def of(users: int, text: str) -> pa.Table:
    return candidates(*((f"u{n}a", f"u{n}", "x", text.format(n=n)) for n in range(users)))


def titles(users: int) -> pa.Table:
    return pa.table(
        {"user_id": [f"u{n}" for n in range(users)], "title": [f"Matrix {n}, The (1999)" for n in range(users)]}
    )


def test_texts_that_name_their_own_target_are_found():
    naming = target_naming(of(30, 'Adores "The Matrix {n}".'), titles(30))
    assert (naming.own, naming.by_chance, naming.n_users, naming.n_candidates) == (1.0, 0.0, 30, 30)
    assert naming.p_value <= 0.001
    assert naming.to_text().startswith("100.00% of texts name their own target, 0.00% another user's (p = ")


def test_texts_that_name_any_target_are_as_by_chance():
    naming = target_naming(of(30, "Adores the matrix 3."), titles(30))
    assert naming.own == pytest.approx(1 / 30)
    assert naming.by_chance == pytest.approx(1 / 30, abs=0.015)
    assert naming.p_value > 0.5


NAMES = [  # title, text, named
    ("It (1990)", "It was bitten.", True),  # short titles meet any text: that is what chance is for
    ("It (1990)", "Bitten by wit.", False),
    ("M*A*S*H (1970)", "likes m-a-s-h a lot", True),
    ("Amélie", "AMÉLIE!", True),
]


@pytest.mark.parametrize(("title", "text", "named"), NAMES)
def test_whole_words_in_any_case(title, text, named):
    found = candidates(("u1a", "u1", "x", text), ("u2a", "u2", "x", "nothing"))
    targets = pa.table({"user_id": ["u1", "u2"], "title": [title, "Something Else"]})
    assert target_naming(found, targets).own == (0.5 if named else 0.0)


def test_one_user_has_nobody_to_compare_with():
    assert target_naming(of(1, "x"), titles(1)) is None
    assert target_naming(of(3, "x"), pa.table({"user_id": ["u0"], "title": pa.array([None], pa.string())})) is None
