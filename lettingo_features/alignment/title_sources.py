"""Where do the titles that a text names come from: the history it was written from, or targets nobody should know?

`target_naming` compares with other users' targets, and some of those stand in this user's history: a text that names
its history then looks innocent. Here every named title is looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lettingo_features.alignment.target_naming import plain_words, title_words
from lettingo_features.errors import DataError


@dataclass(frozen=True, slots=True)
class TitleSources:
    """Titles named in all texts, by where the user met them.

    ``expected`` is how many of ``held_out`` and ``neither`` together would be held-out items for a writer who knows
    which titles are well known, and not what this user did.
    """

    n_texts: int
    history: int
    held_out: int
    neither: int
    expected: float

    def to_text(self) -> str:
        """One line for a terminal."""
        total = self.history + self.held_out + self.neither
        if not total:
            return f"{self.n_texts:,} texts name no title"
        return (
            f"{total / self.n_texts:.1f} titles a text: {self.history / total:.1%} from the history, "
            f"{self.held_out / total:.1%} held out, {self.neither / total:.1%} neither; of the last two "
            f"{self.held_out} are held out, {self.expected:.1f} by fame alone"
        )


def title_sources(
    texts: Sequence[str], titles: Sequence[str], history: np.ndarray, held_out: np.ndarray, least_words: int = 2
) -> TitleSources:
    """Look up the titles that each user's text names.

    Parameters
    ----------
    texts, titles
        Length U and I. Titles with fewer than ``least_words`` words, which prose has by chance, and titles that several
        items share are not looked for.
    history, held_out
        bool (U, I): items that the text was, and was not, written from.
    """
    if history.shape != (len(texts), len(titles)) or held_out.shape != history.shape:
        raise DataError(
            f"{len(texts)} texts and {len(titles)} titles do not fit a history {history.shape} and held-out items "
            f"{held_out.shape}: one row a user, one column a title."
        )
    item: dict[str, int] = {}
    shared = set()
    for number, title in enumerate(titles):
        name = title_words(title or "")
        if len(name.split()) >= least_words:
            shared |= {name} & item.keys()
            item[name] = number
    sought = [(f" {name} ", number) for name, number in item.items() if name not in shared]
    named = np.zeros(history.shape, dtype=bool)
    for user, text in enumerate(texts):
        words = f" {plain_words(text)} "
        named[user, [number for name, number in sought if name in words]] = True
    free = ~history
    fame = (held_out & free).sum(0) / np.maximum(free.sum(0), 1)  # of those who have not the item in their history
    return TitleSources(
        n_texts=len(texts),
        history=int((named & history).sum()),
        held_out=int((named & held_out & free).sum()),
        neither=int((named & ~held_out & free).sum()),
        expected=float(((named & free) * fame).sum()),
    )
