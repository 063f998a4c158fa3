"""What share of the names in a free text stands in the prompt: support without claims, and without a judge."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_QUOTED = re.compile(r'"([^"\n]{1,200})"')
_OPENING = re.compile(r"(?:^|[.!?\n]\s*|[-*•]\s+|:\s+)(?:[-*•]\s+)?[^\s.!?:]+")  # its word is a capital by rule
_WORD = r"[A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ][\w'&-]*[\w]"
_NAME = re.compile(rf"(?<![\w'-]){_WORD}(?:[ \t]+(?:(?:of|the)[ \t]+)*{_WORD})*")  # "Drama and Comedy" are two
_GAP = " | "  # where something was taken out: no name goes across


def supported_shares(texts: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """float64 (N,): of the names that each text uses, those that its prompt holds word by word; NaN without a name.

    A name is a quoted title, or a run of capitalised words that does not open a sentence. A copied name counts, a
    misspelt or an invented one does not; what a text says without names is not judged.

    >>> supported_shares(['Mostly Drama, loved "Heat".', 'Mostly Dramma.'], ['top: Drama=3, loved: "Heat"'] * 2)
    array([1., 0.])
    """
    return np.array([_share(text, prompt) for text, prompt in zip(texts, prompts, strict=True)])


def names_in(text: str) -> list[str]:
    """The names that a text uses: quoted titles, then runs of capitalised words that open no sentence."""
    rest = _OPENING.sub(_GAP, _QUOTED.sub(_GAP, text))
    names = (name.strip(" .,;:") for name in (*_QUOTED.findall(text), *_NAME.findall(rest)))
    return [name for name in names if name]


def _share(text: str, prompt: str) -> float:
    names = names_in(text)
    if not names:
        return float("nan")
    return sum(_stands_in(name, prompt) for name in names) / len(names)


def _stands_in(name: str, prompt: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt) is not None
