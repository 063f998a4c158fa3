"""Training texts of the embedded language model: random summaries and the profiles they deserve, without end.

Nothing here comes from a data set. A `Names` draws category names and titles from a space far too large to learn by
heart (made-up words, word lists of many domains, other scripts), so the only way to a low loss is to copy from the
prompt; that is what makes the model work on catalogues it has never seen. Every profile follows from its summary
alone, names the strongest category first, and is drawn from a grammar of paraphrases, so that sampling at temperature
1 gives different texts that are all true.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lettingo_features.profiles import reference
from lettingo_features.profiles.generator import STYLES
from lettingo_features.profiles.lexicon import (
    GENRES,
    HELD_OUT_WORDS,
    NAMES,
    QUALITIES,
    SYLLABLE_ENDS,
    SYLLABLE_STARTS,
    THINGS,
)
from lettingo_features.profiles.prompt import CATEGORY_CHARS, field, render

Summary = dict[str, Any]
_SCRIPTS = (
    "абвгдежзиклмнопрстуфхцчшщыэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "日本映画音楽歴史冒険家族恋愛",
    "אבגדהוזחטיכלמנסעפצקרשת",
)


class Names:
    """Random category names and titles.

    Parameters
    ----------
    rng
        Source of every choice.
    category
        Draws one category name; None draws from the training space. Evaluation passes held-out names here.
    fragments
        Letter groups to build words of. Training passes the pieces of its tokenizer: BPE leaves many that no text of
        its own uses, and a piece that was never copied cannot be copied.
    """

    def __init__(
        self, rng: random.Random, category: Callable[[], str] | None = None, fragments: Sequence[str] = ()
    ) -> None:
        self.rng = rng
        self.category = category or self._category
        self.fragments = fragments

    def title(self) -> str:
        """Return a title of 1 to 7 words: a film, a book, a product."""
        r, w = self.rng, self._word
        kind = r.randrange(10)
        if kind < 3:
            return f"The {r.choice(QUALITIES)} {w()}"
        if kind < 5:
            return f"{w()} {r.choice(('of', 'in', 'and', 'for', 'to', 'from', 'vs', 'at'))} {self._name()}"
        if kind < 6:
            return f"{self._name()}'s {w()}"
        if kind < 7:
            return f"{w()}{r.choice((': ', ' - ', ', '))}{' '.join(w() for _ in range(r.randint(1, 3)))}"
        if kind < 8:
            return f"{w()} {r.randint(1, r.choice((9, 99, 999)))}{r.choice(('', ' oz', ' Pack', ' cm', '!', '?'))}"
        return " ".join(w() for _ in range(r.choice((1, 1, 2, 2, 3, 4))))

    def _category(self) -> str:
        r = self.rng
        kind = r.random()
        if kind < 0.10:
            return r.choice(GENRES)
        if kind < 0.13:
            letters = r.choice(_SCRIPTS)
            return "".join(r.choice(letters) for _ in range(r.randint(2, 7)))
        if kind < 0.17:
            return r.choice(
                (self._acronym(), f"{self._acronym()} {self._word()}", f"{r.randint(1, 99)}s {self._word()}")
            )
        words = [self._word() for _ in range(r.choice((1, 1, 1, 2, 2, 2, 3)))]
        name = words[0]
        for word in words[1:]:
            name += r.choice((" ", " ", " & ", " & ", "-", " and ", "/", "'s ", ", ", " ")) + word
        return r.choice((name, name, name, name, name, name, name.lower(), name.upper() if len(name) < 12 else name))

    def _word(self) -> str:
        while (word := self._any_word()).lower() in HELD_OUT_WORDS:
            pass
        return word

    def _any_word(self) -> str:
        r = self.rng
        kind = r.random()
        if kind < 0.55:
            return self._made_up()
        word = r.choice(THINGS if kind < 0.85 else QUALITIES)
        return word + "s" if r.random() < 0.15 and not word.endswith("s") else word

    def _name(self) -> str:
        return self.rng.choice(NAMES) if self.rng.random() < 0.4 else self._made_up()

    def _made_up(self) -> str:
        kind = self.rng.random()
        if self.fragments and kind < 0.45:
            return self._of_fragments()
        return self._blend() if kind < 0.75 else self._of_syllables()

    def _of_fragments(self) -> str:
        """2 to 5 fragments, now and then one of them twice: the second of two equal pieces is the hardest to copy."""
        r = self.rng
        parts: list[str] = []
        for _ in range(r.choice((2, 2, 3, 3, 4, 5))):
            parts.append(parts[-1] if parts and r.random() < 0.12 else r.choice(self.fragments))
        word = "".join(parts)
        if r.random() < 0.3:
            at = r.randrange(len(word))
            word = word[:at] + word[at] + word[at:]
        return word[:1].upper() + word[1:].lower() if r.random() < 0.9 else word

    def _blend(self) -> str:
        """The start of one listed word with the end of another: the letter groups of English without its words."""
        r = self.rng
        a, b = r.choice(THINGS), r.choice(QUALITIES if r.random() < 0.3 else THINGS)
        word = a[: r.randint(1, max(1, len(a) - 2))] + b[r.randint(1, max(1, len(b) - 2)) :].lower()
        return word + r.choice(("", "", "", "", "s", "ing", "er", "y")) if r.random() < 0.95 else word.lower()

    def _of_syllables(self) -> str:
        r = self.rng
        word = "".join(
            r.choice(SYLLABLE_STARTS) + (r.choice(SYLLABLE_ENDS) if r.random() < 0.35 else "")
            for _ in range(r.choice((1, 2, 2, 2, 3, 3, 4)))
        )
        return word.capitalize() if r.random() < 0.93 else word

    def _acronym(self) -> str:
        return "".join(self.rng.choice("ABCDEFGHIKLMNOPRSTVXZ") for _ in range(self.rng.randint(2, 4)))


def random_summary(rng: random.Random, names: Names) -> Summary:
    """Return one summary with the fields and the order of `summary.SUMMARY`, drawn at random but consistent."""
    n = rng.choice((rng.randint(5, 20), rng.randint(5, 70), rng.randint(1, 10), rng.randint(20, 400)))
    rated = rng.random() < 0.85
    pool = list(dict.fromkeys(names.category() for _ in range(6)))
    top = _top_categories(rng, pool, n, rated)
    tone = rng.choice(("generous", "balanced", "critical")) if rated else "unrated"
    titles = [names.title() for _ in range(7)]
    loved = titles[: rng.randint(0, 3)] if rated else []
    disliked = titles[3 : 3 + rng.choice((0, 0, 1, 1, 2))] if rated else []
    scale = rng.choice((5, 5, 5, 10, 10, 100))
    return {
        "n_interactions": n,
        "mean_rating": round(rng.uniform(0.2, 1.0) * scale, 2) if rated else None,
        "span_days": float(rng.choice((0, rng.randint(0, 40), rng.randint(1, 365), rng.randint(1, 365)))),
        "top_categories": top,
        "lowest_category": _lowest(rng, pool, top) if rated else None,
        "loved_titles": loved,
        "disliked_titles": disliked,
        "newest": [_newest(rng, pool, titles, loved, disliked, rated) for _ in range(min(n, 2))],
        "years": _years(rng),
        "tone": tone,
    }


def _top_categories(rng: random.Random, pool: list[str], n: int, rated: bool) -> list[dict[str, Any]]:
    """1 to 4 entries (none in 2 % of the summaries), counts falling on the whole but not strictly."""
    top, count = [], rng.uniform(0.3, 1.0) * n
    for name in pool[: 0 if rng.random() < 0.02 else rng.choice((1, 2, 3, 4, 4, 4))]:
        k = max(1, min(n, round(count * rng.uniform(0.8, 1.15))))
        liked = rng.randint(0, k) if rated else 0
        top.append({"name": name, "n": k, "liked": liked, "disliked": rng.randint(0, k - liked) if rated else 0})
        count *= rng.uniform(0.4, 1.0)
    return top


def _lowest(rng: random.Random, pool: list[str], top: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A category that is not the first: sometimes one of the listed, more often another; None in 45 %."""
    others = [entry["name"] for entry in top[1:]] if rng.random() < 0.3 else pool[len(top) :]
    if len(pool) < 2 or not others or rng.random() < 0.45:
        return None
    k = rng.randint(2, 12)
    return {"name": rng.choice(others), "n": k, "liked": 0, "disliked": k}


def _years(rng: random.Random) -> list[int]:
    """Half of the catalogues have years; two of a user lie near each other more often than not."""
    if rng.random() < 0.5:
        return []
    first = rng.randint(1800, 2099)
    second = first + rng.choice((-1, 1)) * rng.randint(1, 3) if rng.random() < 0.6 else rng.randint(1800, 2099)
    return [first] if second == first or not 1800 <= second <= 2099 or rng.random() < 0.2 else [first, second]


def _newest(
    rng: random.Random, pool: list[str], titles: list[str], loved: list[str], disliked: list[str], rated: bool
) -> dict[str, str]:
    title = rng.choice(titles) if rng.random() < 0.95 else ""
    mood = (
        "liked" if title in loved else "disliked" if title in disliked else rng.choice(("liked", "neutral", "disliked"))
    )
    category = rng.choice(pool) if rng.random() < 0.95 else ""
    return {"title": title, "category": category, "sentiment": mood if rated else "engaged"}


def simplified(summary: Summary) -> Summary:
    """Return the summary without titles and history, with two categories at most: copying is learned on these first."""
    return summary | {
        "top_categories": summary["top_categories"][:2], "loved_titles": [], "disliked_titles": [], "newest": [],
        "years": [],
    }  # fmt: skip


def documents(
    seed: int, simple_share: Callable[[], float] = lambda: 0.0, fragments: Sequence[str] = ()
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield without end: the prompt up to and with ``style:``, then (style, profile) for every style in `STYLES`.

    The four profiles share one prompt, so a trainer may run the prompt once for all of them. ``simple_share`` is asked
    before each document for the chance that it is `simplified`; ``fragments`` go to `Names`.
    """
    rng = random.Random(seed)
    names = Names(rng, fragments=fragments)
    while True:
        summary = random_summary(rng, names)
        if rng.random() < simple_share():
            summary = simplified(summary)
        shared = render(summary, "").rstrip(" ")
        yield shared, [(style, reference.write(summary, style, rng)) for style in STYLES]


def held_out_summaries(n: int, seed: int, categories: list[str] | None = None) -> list[Summary]:
    """Return ``n`` summaries for evaluation with at least one category each.

    Parameters
    ----------
    seed
        Of this evaluation set; take one that no training run uses.
    categories
        Names to draw from (`lexicon.held_out_names`); None draws new names from the training space.
    """
    rng = random.Random(seed)
    names = Names(rng, (lambda: rng.choice(categories)) if categories else None)
    found: list[Summary] = []
    while len(found) < n:
        summary = random_summary(rng, names)
        if summary["top_categories"]:
            found.append(summary)
    return found


def category_names(summary: Summary) -> list[str]:
    """Return every category that the prompt of ``summary`` names, as written there, the strongest first."""
    low = summary["lowest_category"]
    raw = [entry["name"] for entry in summary["top_categories"]] + ([low["name"]] if low else [])
    raw += [row["category"] for row in summary["newest"]]
    return list(dict.fromkeys(field(name, CATEGORY_CHARS) for name in raw if name))
