"""Deterministic prose from a summary: the baseline that every language model must beat, and the cold-start fallback.

Sentences are added in order of worth until the word cap. Below ``titles_from`` interactions a text says only which
categories and how they were taken: many cold users then share one text, which is encoded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.generation.engine import content_id
from lettingo_features.generation.untrusted import clean, remembered
from lettingo_features.profiles.generator import Draft, ProfileRequest, Progress

VERSION = "1"  # part of the identity: raise it with any change to the texts
MIN_WORDS = 25
TITLE_CHARS, CATEGORY_CHARS = 40, 32
BATCH = 1_024  # texts per batch

# (share of the window from which it is said, words before the category)
_LEAD = (
    (0.6, "Turns above all to"),
    (0.35, "Mostly chooses"),
    (0.2, "Often chooses"),
    (0.0, "Ranges widely, first to"),
)
# (share of the leading category's count from which it is said, words before the category)
_NEXT = ((0.8, "almost as often"), (0.5, "often"), (0.25, "sometimes"), (0.0, "now and then"))
_TONE = {
    "generous": "Rates generously and is easily pleased.",
    "balanced": "Rates evenly, with praise and criticism in balance.",
    "critical": "Rates strictly and is hard to please.",
    "unrated": "Leaves no ratings, so liking shows only in what is chosen.",
}
_COLD_LEAD = {
    "liked": "Began with {top} and liked {it}.",
    "disliked": "Began with {top} and did not like {it}.",
    "neutral": "Began with {top}, with no strong feelings either way.",
    "unrated": "Began with {top}, without rating {it}.",
}
_COLD_CLOSE = (
    "With so short a history this is only a first impression, "
    "so well-known and well-liked items remain a safe next step."
)
_NO_CATEGORY = "Choices so far fall into no known category, so no clear interest can be named yet."
_THIN = "Little more can be said of this history yet, so well-liked items of any kind remain a safe next step."


class StatisticalConfig(Config):
    """What a statistical text may hold."""

    titles_from: int = Field(default=5, ge=0)
    """Interactions from which titles, weak spots, shifts and tone are told: fewer say too little about them."""
    max_words: int = Field(default=60, ge=40)
    """Cap on a text: an embedding of more words blurs what matters."""


class StatisticalGenerator:
    """Writes 25 to ``max_words`` words per user from counts alone; same summary, same text. Source: none, our own."""

    name = "statistical"
    reads_history = False

    def __init__(self, config: StatisticalConfig | None = None) -> None:
        self.config = config or StatisticalConfig()
        self.generator_id = content_id(self.name, VERSION, self.config.model_dump_json())

    def write(self, requests: Sequence[ProfileRequest], progress: Progress | None = None) -> Iterator[list[Draft]]:
        """Batches of drafts in the order of ``requests``; the style is ignored, there is one way of writing."""
        for start in range(0, len(requests), BATCH):
            batch = [Draft(self._text(request.summary)) for request in requests[start : start + BATCH]]
            yield batch
            if progress:
                progress(start + len(batch), len(requests))

    def _text(self, summary: Mapping[str, Any]) -> str:
        if summary["n_interactions"] < self.config.titles_from:
            return " ".join(_cold(summary))
        sentences, words = [], 0
        for sentence in _warm(summary):
            n = sentence.count(" ") + 1
            if sentence and (not sentences or words + n <= self.config.max_words):
                sentences.append(sentence)
                words += n
        if words < MIN_WORDS:
            sentences.append(_THIN)
        return " ".join(sentences)


def _cold(summary: Mapping[str, Any]) -> list[str]:
    """Sentences of a short history, from few values, so that texts recur."""
    top = summary["top_categories"][:2]
    if not top:
        return [_NO_CATEGORY, _COLD_CLOSE]
    names = " and ".join(_category(entry["name"]) for entry in top)
    taken = "unrated" if summary["tone"] == "unrated" else _taken(top)
    return [_COLD_LEAD[taken].format(top=names, it="them" if top[1:] else "it"), _COLD_CLOSE]


def _warm(summary: Mapping[str, Any]) -> Iterator[str]:
    """Sentences, the worthiest first; '' where there is nothing to say."""
    yield _interests(summary)
    low = summary["lowest_category"]
    yield f"Gives low marks to {_category(low['name'])}." if low else ""
    yield _titles("Favourites include", summary["loved_titles"][:2])
    yield _shift(summary)
    yield _TONE[summary["tone"]]
    yield _titles("Was let down by", summary["disliked_titles"][:1])


def _interests(summary: Mapping[str, Any]) -> str:
    top, n = summary["top_categories"][:3], summary["n_interactions"]
    if not top:
        return _NO_CATEGORY
    first, *others = top
    text = f"{_worded(_LEAD, first['n'] / n)} {_category(first['name'])}"
    if _taken([first]) == "disliked":
        text += ", though rarely with pleasure"
    elif first["liked"] >= 0.8 * first["n"]:
        text += " and likes nearly all of it"
    weak = summary["lowest_category"]
    said: dict[str, list[str]] = {}  # categories by the words that they share
    for entry in others:
        if weak is None or entry["name"] != weak["name"]:
            said.setdefault(_worded(_NEXT, entry["n"] / first["n"]), []).append(_category(entry["name"]))
    rest = " and ".join(f"{words} {' and '.join(names)}" for words, names in said.items())
    return f"{text}, {rest}." if rest else f"{text}."


def _shift(summary: Mapping[str, Any]) -> str:
    """Says where the newest rows went, when at least half of them share a category that does not lead overall."""
    newest = [row["category"] for row in summary["newest"]]
    counted = Counter(name for name in newest if name)
    if not counted or not summary["top_categories"]:
        return ""
    name, n = counted.most_common(1)[0]
    if name == summary["top_categories"][0]["name"] or 2 * n < len(newest) or n < 2:
        return ""
    return f"Lately the choices lean towards {_category(name)}."


def _titles(opening: str, titles: Sequence[str]) -> str:
    names = [name for name in map(_title, titles) if name]
    return f"{opening} {' and '.join(names)}." if names else ""


def _taken(entries: Sequence[Mapping[str, Any]]) -> str:
    """How the interactions of ``entries`` were taken on the whole: liked, disliked, or neither."""
    n = sum(entry["n"] for entry in entries)
    if 2 * sum(entry["liked"] for entry in entries) > n:
        return "liked"
    return "disliked" if 2 * sum(entry["disliked"] for entry in entries) > n else "neutral"


def _worded(scale: Sequence[tuple[float, str]], share: float) -> str:
    return next(words for floor, words in scale if share >= floor)


@remembered
def _title(text: str) -> str:
    title = clean(text, TITLE_CHARS).replace('"', "'")
    return f'"{title}"' if title else ""


@remembered
def _category(text: str) -> str:
    return clean(text, CATEGORY_CHARS) or "an unnamed category"
