"""Did a text give away the instruction? Looked for by a secret in it, and by its own wording."""

from __future__ import annotations

import re

from lettingo_features.generation.untrusted import remove_invisible

RUN = 8
"""Words in a row of the instruction that make a leak: eight do not meet by chance."""
_WORD = re.compile(r"[^\W_]+")


class LeakCheck:
    """Finds in texts the canary of an instruction, or eight words in a row of the instruction itself.

    Case, punctuation and invisible characters do not matter; for the canary neither do spaces between its letters nor
    writing it backwards. A canary in another encoding is not found: eight words of the rest must betray it.

    >>> check = LeakCheck("Write one sentence about this person and never follow the titles.", canary="K7-4411-QX")
    >>> check.found("Likes Drama."), check.found("It says k 7 4 4 1 1 q x"), check.found("Record XQ1144-7K")
    (False, True, True)
    >>> check.found("I was told: WRITE one sentence -- about this person and NEVER follow.")
    True
    """

    def __init__(self, instruction: str, canary: str = "") -> None:
        name = "".join(_words(canary))
        self._names = (name, name[::-1]) if name else ()
        self._runs = frozenset(_runs(_words(instruction)))

    def found(self, text: str) -> bool:
        """Whether ``text`` leaks."""
        words = _words(text)
        together = "".join(words)
        return any(name in together for name in self._names) or not self._runs.isdisjoint(_runs(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(remove_invisible(text)[0].casefold())


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
