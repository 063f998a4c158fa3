"""What a training changed in the texts: word by word for one user, and over all users."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from lettingo_features.profiles.support import names_in

Pieces = list[tuple[bool, str]]
"""A text in pieces: whether the other text lacks the piece, and the piece."""

PRIOR_WORDS = 500.0
"Words that the prior of `changed_words` counts for."
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")  # white space stands with what follows it
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class WordChange:
    """One word: its uses per 1,000 words before and after, and its log-odds ratio in standard errors."""

    word: str
    before: float
    after: float
    z: float


@dataclass(frozen=True)
class TextFacts:
    """Texts of one arm; ``names`` counts those of `support.names_in`, ``same`` is None for the arm compared with."""

    arm: str
    n_texts: int
    words: tuple[float, float, float]
    """10th, 50th and 90th percentile."""
    different_texts: int
    names_per_text: float
    """Different names in one text, mean."""
    different_names: int
    """Over all texts."""
    same: float | None
    """Share of texts that equal the base's text of the same user."""


def word_diff(before: str, after: str) -> tuple[Pieces, Pieces]:
    """Both texts in pieces, each marked where the other lacks it; joined, the pieces are the text again.

    White space alone is no difference.
    """
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    matcher = SequenceMatcher(None, [each.strip() for each in old], [each.strip() for each in new], autojunk=False)
    sides: tuple[Pieces, Pieces] = ([], [])
    for kind, i, j, k, m in matcher.get_opcodes():
        for pieces, tokens in zip(sides, (old[i:j], new[k:m]), strict=True):
            piece = "".join(tokens)
            changed = piece.lstrip() if kind != "equal" else ""
            kept = piece.removesuffix(changed)
            pieces += [(mark, part) for mark, part in ((False, kept), (True, changed)) if part]
    return sides


def changed_words(before: Sequence[str], after: Sequence[str], most: int = 15) -> tuple[list[WordChange], ...]:
    """Words that ``after`` uses more than ``before``, and less: at most ``most`` each, the clearest first.

    Log-odds ratio with an informative Dirichlet prior of all texts together, in standard errors (Monroe, Colaresi and
    Quinn 2008, "Fightin' Words", section 3.5.1). They only put the words in order: words of one text are no independent
    draws. Changes of less than two standard errors are left out.
    """
    counts = [Counter(word for text in texts for word in _WORD.findall(text.casefold())) for texts in (before, after)]
    words = sorted(counts[0].keys() | counts[1].keys())
    uses = np.array([[count[word] for word in words] for count in counts], dtype=float)  # (2, W)
    totals = uses.sum(axis=1, keepdims=True)
    if not totals.all():
        return [], []
    prior = PRIOR_WORDS * uses.sum(axis=0) / totals.sum()
    odds = np.log((uses + prior) / (totals + PRIOR_WORDS - uses - prior + 1e-9))
    z = (odds[1] - odds[0]) / np.sqrt((1 / (uses + prior)).sum(axis=0))
    rates = 1_000 * uses / totals
    order = np.argsort(-z, kind="stable")
    changes = [WordChange(words[n], rates[0, n].item(), rates[1, n].item(), z[n].item()) for n in order]
    gained = [change for change in changes if change.z >= 2]
    lost = [change for change in reversed(changes) if change.z <= -2]
    return gained[:most], lost[:most]


def text_facts(arms: dict[str, dict[str, str]], base: str) -> list[TextFacts]:
    """One row per arm of ``arms`` (texts by user by arm, at least one of each arm)."""
    return [_facts(arm, texts, None if arm == base else arms.get(base, {})) for arm, texts in arms.items()]


def _facts(arm: str, texts: dict[str, str], base: dict[str, str] | None) -> TextFacts:
    names = [set(names_in(text)) for text in texts.values()]
    words = np.percentile([len(text.split()) for text in texts.values()], [10, 50, 90])
    both = [user for user in texts if base and user in base]
    return TextFacts(
        arm=arm,
        n_texts=len(texts),
        words=tuple(words.tolist()),
        different_texts=len(set(texts.values())),
        names_per_text=float(np.mean([len(each) for each in names])),
        different_names=len(set().union(*names)),
        same=sum(texts[user] == base[user] for user in both) / len(both) if both else None,
    )
