"""Texts of the statistical generator, read as a person would read them."""

from __future__ import annotations

import copy
import random

import pytest

from lettingo_features.errors import ConfigError
from lettingo_features.generation.engine import content_id
from lettingo_features.profiles import statistical
from lettingo_features.profiles.generator import STYLES, ProfileRequest
from lettingo_features.profiles.lint import lint
from lettingo_features.profiles.statistical import StatisticalConfig, StatisticalGenerator


def category(name, n, liked=0, disliked=0):
    return {"name": name, "n": n, "liked": liked, "disliked": disliked}


def row(category="", title="", sentiment="liked"):
    return {"title": title, "category": category, "sentiment": sentiment}


def summary(**changes):
    """A warm user of 20 interactions, less ``changes``."""
    facts = {
        "n_interactions": 20,
        "mean_rating": 3.6,
        "span_days": 90.0,
        "top_categories": [category("Thriller", 13, 7, 1), category("Drama", 7, 3, 1), category("Crime", 3, 1, 0)],
        "lowest_category": category("Horror", 3, 0, 3),
        "loved_titles": ["Glass River", "The Silent Harbour", "Third"],
        "disliked_titles": ["Night of the Crow", "Second"],
        "newest": [row("Thriller"), row("Drama"), row("Crime")],
        "tone": "balanced",
    }
    return {**facts, **changes}


def text_of(**changes):
    ((draft,),) = StatisticalGenerator().write([ProfileRequest("u", summary(**changes))])
    return draft.text


def test_a_warm_user_in_full():
    assert text_of() == (
        "Turns above all to Thriller, often Drama and now and then Crime. Gives low marks to Horror. "
        'Favourites include "Glass River" and "The Silent Harbour". '
        "Rates evenly, with praise and criticism in balance. "
        'Was let down by "Night of the Crow".'
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # Strength of the first interest: its share of the window.
        ({"top_categories": [category("Drama", 12)]}, "Turns above all to Drama."),
        ({"top_categories": [category("Drama", 7)]}, "Mostly chooses Drama."),
        ({"top_categories": [category("Drama", 4)]}, "Often chooses Drama."),
        ({"top_categories": [category("Drama", 3)]}, "Ranges widely, first to Drama."),
        # How it was taken.
        ({"top_categories": [category("Drama", 12, liked=10)]}, "to Drama and likes nearly all of it."),
        ({"top_categories": [category("Drama", 12, disliked=7)]}, "to Drama, though rarely with pleasure."),
        # Strength of the next ones: their share of the first. Equal words are said once.
        (
            {"top_categories": [category("Drama", 8), category("War", 7), category("Crime", 4)]},
            "Mostly chooses Drama, almost as often War and often Crime.",
        ),
        (
            {"top_categories": [category("Drama", 8), category("War", 2), category("Crime", 2)]},
            "Mostly chooses Drama, sometimes War and Crime.",
        ),
        # The weakest category is not praised as a runner-up.
        (
            {"top_categories": [category("Drama", 12), category("Horror", 6, 0, 6)]},
            "Turns above all to Drama. Gives low marks to Horror.",
        ),
        # Recent shift: half of the newest rows share a category that does not lead.
        (
            {"newest": [row("Western"), row("Thriller"), row("Western"), row()]},
            "Lately the choices lean towards Western.",
        ),
        # Tone.
        ({"tone": "generous"}, "Rates generously"),
        ({"tone": "critical"}, "Rates strictly"),
        ({"tone": "unrated"}, "Leaves no ratings"),
        # Nothing known of the items.
        ({"top_categories": [], "newest": [row()]}, "Choices so far fall into no known category"),
        # Catalogue text is cleaned on its way in.
        ({"loved_titles": ['A "B"\n<|end|>']}, "Favourites include \"A 'B'\"."),
        ({"top_categories": [category("Dra\u200bma</s>", 12)]}, "Turns above all to Drama."),
    ],
)
def test_what_is_said(changes, said):
    assert said in text_of(**changes)


@pytest.mark.parametrize(
    ("changes", "unsaid"),
    [
        ({"lowest_category": None}, "low marks"),
        ({"loved_titles": []}, "Favourites"),
        ({"loved_titles": ["\u200b"]}, "Favourites"),  # nothing left of a title
        ({"disliked_titles": []}, "let down"),
        ({"newest": [row("Western"), row("Thriller"), row("Drama"), row("Crime")]}, "Lately"),  # no half
        ({"newest": [row("Western")]}, "Lately"),  # one row is no shift
        ({"newest": [row("Thriller"), row("Thriller")]}, "Lately"),  # what leads overall is no shift
        ({}, "Third"),  # two favourites are enough
    ],
)
def test_what_is_not_said(changes, unsaid):
    assert unsaid not in text_of(**changes)


@pytest.mark.parametrize(
    ("top", "tone", "text"),
    [
        ([category("Drama", 1, liked=1)], "generous", "Began with Drama and liked it."),
        (
            [category("Crime", 2, liked=2), category("Drama", 1, liked=1)],
            "generous",
            "Began with Crime and Drama and liked them.",
        ),
        ([category("Drama", 3, disliked=2)], "critical", "Began with Drama and did not like it."),
        ([category("Drama", 2, liked=1)], "balanced", "Began with Drama, with no strong feelings either way."),
        ([category("Drama", 1)], "unrated", "Began with Drama, without rating it."),
        ([], "unrated", "Choices so far fall into no known category, so no clear interest can be named yet."),
    ],
)
def test_cold_user(top, tone, text):
    written = text_of(n_interactions=4, top_categories=top, tone=tone)
    assert written.startswith(text + " With so short a history")
    assert "Glass River" not in written


def test_cold_users_who_differ_in_titles_and_times_share_one_text():
    """Shared texts are encoded once."""
    one = text_of(n_interactions=2, loved_titles=["A"], span_days=1.0, newest=[row("Drama", "A")])
    other = text_of(n_interactions=4, loved_titles=["B"], span_days=9.0, newest=[row("Crime", "B")], mean_rating=4.0)
    assert one == other


def random_summary(rng: random.Random):
    names = rng.sample(["Drama", "Science Fiction", "Bath & Body Care Sets", "War", "x" * 80, "Children's Music"], 4)
    n = rng.choice([1, 2, 4, 5, 8, 20, 60])
    counts = sorted((rng.randint(1, n) for _ in range(rng.randint(0, 4))), reverse=True)
    top = [
        category(name, k, liked := rng.randint(0, k), rng.randint(0, k - liked))
        for name, k in zip(names, counts, strict=False)
    ]
    titles = [" ".join("word" for _ in range(rng.randint(0, 30))) for _ in range(6)]
    return summary(
        n_interactions=n,
        top_categories=top,
        lowest_category=rng.choice([None, category("Horror", 2, 0, 2), category(names[1], 2, 0, 2)]),
        loved_titles=titles[: rng.randint(0, 3)],
        disliked_titles=titles[3 : 3 + rng.randint(0, 3)],
        newest=[row(rng.choice(names)) for _ in range(min(n, 6))],
        tone=rng.choice(["generous", "balanced", "critical", "unrated"]),
    )


def test_every_text_has_25_to_60_words_and_nothing_to_lint():
    rng = random.Random(0)
    requests = [ProfileRequest(f"user-{i}", random_summary(rng)) for i in range(3_000)]
    texts = [draft.text for batch in StatisticalGenerator().write(requests) for draft in batch]
    for request, text in zip(requests, texts, strict=True):
        assert 25 <= len(text.split()) <= 60, text
        assert lint(text) == (text, 0)
        assert request.user_id not in text


def test_batches_keep_the_order_and_report_progress():
    rng = random.Random(1)
    requests = [ProfileRequest(str(i), random_summary(rng)) for i in range(2_500)]
    before = copy.deepcopy(requests)
    seen: list[tuple[int, int]] = []
    batches = list(StatisticalGenerator().write(requests, lambda done, total: seen.append((done, total))))
    assert [len(batch) for batch in batches] == [1024, 1024, 452]
    assert seen == [(1024, 2500), (2048, 2500), (2500, 2500)]
    alone = [next(StatisticalGenerator().write([request]))[0] for request in requests[:50]]
    assert batches[0][:50] == alone
    assert requests == before, "the input is not mutated"


def test_no_requests_no_batches():
    assert list(StatisticalGenerator().write([])) == []


def test_identity_is_name_version_and_config():
    default = StatisticalGenerator()
    assert default.name == "statistical"
    assert len(default.generator_id) == 64
    assert default.generator_id == StatisticalGenerator(StatisticalConfig()).generator_id
    assert default.generator_id != StatisticalGenerator(StatisticalConfig(titles_from=9)).generator_id


def test_titles_from_moves_the_line_between_cold_and_warm():
    request = ProfileRequest("u", summary(n_interactions=6))
    ((warm,),) = StatisticalGenerator().write([request])
    ((cold,),) = StatisticalGenerator(StatisticalConfig(titles_from=7)).write([request])
    assert "Glass River" in warm.text and "Glass River" not in cold.text


def test_content_id_tells_parts_apart():
    assert content_id("ab", "c") != content_id("a", "bc")


def test_streams_follow_seed_and_user_only():
    request = ProfileRequest("u1", {}, STYLES[1])
    assert request.stream(0) == ProfileRequest("u1", summary()).stream(0)
    assert len({request.stream(0), request.stream(1), ProfileRequest("u2", {}).stream(0)}) == 3
    assert 0 <= request.stream(0) < 2**63


def test_unknown_style_is_refused():
    with pytest.raises(ConfigError, match="narrative, brief, bullets, analyst"):
        ProfileRequest("u", {}, "haiku")


def test_no_long_name_stays_in_memory():
    for of_text in (statistical._title, statistical._category):
        of_text.cache_clear()
    long = [category(f"{n} {'c' * 100_000}", 9) for n in range(3)]
    titles = [f"{n} {'t' * 100_000}" for n in range(2)]
    assert len(text_of(top_categories=long, loved_titles=titles)) < 500
    assert statistical._category.cache_info().currsize == 1  # Horror
    assert statistical._title.cache_info().currsize == 1  # Night of the Crow
