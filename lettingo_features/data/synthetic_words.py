"""Words of the synthetic world: titles, descriptions and reviews, joined column-wise in Arrow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def _split(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


FILM_CATEGORIES = _split(
    "Action,Adventure,Animation,Comedy,Crime,Documentary,Drama,Family,Fantasy,"
    "History,Horror,Musical,Mystery,Romance,Science Fiction,Thriller,War,Western",
    ",",
)

ADJECTIVES = _split(
    "Amber Ashen Blind Borrowed Brittle Copper Crooked Deep Distant Drifting Early Empty Faithful Fallen Feathered "
    "Final Gilded Grey Hidden Hollow Hungry Idle Ivory Kind Late Little Lost Marble Midnight Muted Narrow Northern "
    "Open Painted Pale Patient Quiet Ragged Restless Rising Rusted Sacred Salted Scarlet Second Silent Sleeping "
    "Slow Spare Stolen Stubborn Sunken Tidal Unseen Velvet Wayward White Winter Woven Young"
)
NOUNS = _split(
    "Almanac Anchor Archive Arrow Atlas Balcony Beacon Bell Bridge Cabinet Canal Candle Carousel Cellar Chapel Cliff "
    "Compass Courier Crossing Current Dial Door Echo Ember Estuary Feather Ferry Field Fountain Gallery Garden Gate "
    "Glacier Harbour Hill Hinge House Island Key Ladder Lantern Ledger Letter Lighthouse Market Meadow Mill Mirror "
    "Moon Orchard Parade Pier Quarry River Road Root Sail Shore Signal Sparrow Station Stranger Summer Theatre Thread "
    "Tower Tunnel Umbrella Valley Village Voyage Wall Watchmaker Well Wheel Window Witness Yard"
)
PLACES = _split(
    "Aberdeen Antwerp Bergen Bilbao Bologna Brno Cadiz Cork Dresden Dunkirk Fez Galway Ghent Granada Izmir Kotor "
    "Leeds Lima Lucca Malmo Mombasa Nantes Odense Oran Palermo Perth Porto Quito Riga Split Tallinn Trieste Utrecht "
    "Valparaiso Varna Vigo Wexford Zadar"
)

ASPECTS = _split("pacing characters ending dialogue atmosphere music humour visuals plot performances setting mood")
"""What reviews praise or fault: every item has two strong aspects and a weak one."""

# Around an aspect: (what comes before it, what comes after it and before the category).
LIKED_REVIEWS = (
    ("Loved the ", ". Exactly the kind of "),
    ("The ", " won me over: a fine piece of "),
    ("Came for nothing in particular and stayed for the ", ". Give me more "),
    ("What stays with me is the ", ", the best I have met in "),
)
NEUTRAL_REVIEWS = (
    ("Decent ", ", but I have met better in "),
    ("The ", " is fine, the rest is average "),
    ("Some good moments thanks to the ", ", otherwise ordinary "),
)
DISLIKED_REVIEWS = (
    ("Could not get past the ", ". Not what I look for in "),
    ("The ", " let it down; I should stay away from "),
    ("Gave up because of the ", ". Too much bother for "),
)


def join(*parts: pa.Array | str) -> pa.Array:
    """Strings joined element by element; a plain string stands for a column of it."""
    return pc.binary_join_element_wise(*[pa.scalar(p) if isinstance(p, str) else p for p in parts], "")


def pick(words: Sequence[str], index: np.ndarray) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index))


def titles(rng: np.random.Generator, n: int) -> pa.Array:
    """``n`` distinct titles; one that was drawn before becomes a numbered sequel."""
    adjective, other = pick(ADJECTIVES, rng.integers(len(ADJECTIVES), size=n)), rng.integers(len(NOUNS), size=n)
    noun, second = pick(NOUNS, rng.integers(len(NOUNS), size=n)), pick(NOUNS, other)
    place = pick(PLACES, rng.integers(len(PLACES), size=n))
    shapes = [
        join("The ", adjective, " ", noun),
        join(noun, " of ", place),
        join(adjective, " ", noun),
        join("The ", noun, " and the ", second),
        join(pc.if_else(pc.match_substring_regex(noun, "^[AEIOU]"), "An ", "A "), noun, " in ", place),
    ]
    shape = rng.choice(len(shapes), size=n, p=[0.35, 0.2, 0.2, 0.1, 0.15])
    drawn = pc.choose(pa.array(shape), *shapes)
    copy = _occurrence(np.asarray(drawn.dictionary_encode().indices))
    return pc.if_else(pa.array(copy > 0), join(drawn, " ", pa.array(copy + 1).cast(pa.string())), drawn)


def descriptions(categories: pa.Array, strong: np.ndarray, weak: np.ndarray) -> pa.Array:
    """One line per item. ``categories`` is list<string> (n,), ``strong`` (n, 2) and ``weak`` (n,) index `ASPECTS`."""
    kinds = pc.binary_join(categories, ", ")
    first, second = pick(ASPECTS, strong[:, 0]), pick(ASPECTS, strong[:, 1])
    return join(kinds, ". Known for its ", first, " and ", second, ", less for its ", pick(ASPECTS, weak), ".")


def reviews(rng: np.random.Generator, rating: np.ndarray, category: pa.Array, strong: np.ndarray, weak: np.ndarray):
    """Short texts (n,) that praise a strong aspect (rating >= 4), fault the weak one (< 3) or shrug (between)."""
    praised = pick(ASPECTS, strong[np.arange(len(rating)), rng.integers(2, size=len(rating))])
    draw = rng.random(len(rating))

    def written(templates: tuple[tuple[str, str], ...], aspect: pa.Array) -> pa.Array:
        index = (draw * len(templates)).astype(int)
        before, after = zip(*templates, strict=True)
        return join(pick(before, index), aspect, pick(after, index), pc.utf8_lower(category), ".")

    liked, disliked = written(LIKED_REVIEWS, praised), written(DISLIKED_REVIEWS, pick(ASPECTS, weak))
    shrug = written(NEUTRAL_REVIEWS, praised)
    return pc.if_else(pa.array(rating >= 4), liked, pc.if_else(pa.array(rating < 3), disliked, shrug))


def _occurrence(codes: np.ndarray) -> np.ndarray:
    """How often each code came before: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(codes)])
    result = np.empty(len(codes), dtype=np.int64)
    result[order] = np.arange(len(codes)) - np.repeat(starts, counts)
    return result
