"""Guards on hand-written texts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lettingo_features.alignment.guards import GuardConfig, guard_effects, guarded, scrub, scrubbed, target_naming
from tests.alignment.rows import candidates, rewards

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


def test_terms_of_the_reward():
    found = candidates(("u1a", "u1", "x", "a b c d e"), ("u1b", "u1", "x", "a b"), ("u1c", "u1", "x", "a b c"))
    found = found.set_column(found.schema.get_field_index("supported"), "supported", pa.array([1.0, 0.5, None]))
    given = rewards({"u1b": 0.0, "u1a": 1.0, "u1c": 1.0})
    config = GuardConfig(faithfulness_weight=0.2, length_weight=0.01, length_norm=3)
    after = guarded(given, found, config)
    assert after["value"].to_pylist() == pytest.approx([0.1, 1.0 + 0.2 - 0.02, 1.0])
    assert after.drop_columns("value").equals(given.drop_columns("value"))
    assert guarded(after, found, config).equals(after)
    assert guarded(after, found, GuardConfig()).equals(given)
    effects = guard_effects(given, found, config)
    assert (effects["n_support_unknown"], effects["n_over_length_norm"]) == (1, 1)
    assert effects["mean_faithfulness_term"] == pytest.approx(0.1)
    assert effects["mean_length_penalty"] == pytest.approx(0.02 / 3)
