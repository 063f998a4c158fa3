"""Does a text name the very item that it is judged on? A text that does has seen the future, or guesses from fame."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lettingo_features import columns as c

_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
_ARTICLE_LAST = re.compile(r"^(.*), (the|a|an|le|la|les|il|el|der|die|das)$")
_CIRCLES = 20  # random pairings of texts with other users' targets: the chance level to a few per mille


@dataclass(frozen=True, slots=True)
class TargetNaming:
    """How often texts name titles of held-out targets.

    Parameters
    ----------
    own
        Mean over users of the share of a user's texts that name the user's own target.
    by_chance
        The same with the targets of other users.
    p_value
        Of "own is as by chance", two-sided, paired by user. Small with own > by_chance: somebody saw the target.
    """

    n_users: int
    n_candidates: int
    own: float
    by_chance: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """One line for a terminal."""
        return (
            f"{self.own:.2%} of texts name their own target, {self.by_chance:.2%} another user's "
            f"(p = {self.p_value:.3g}; {self.n_candidates:,} texts, {self.n_users:,} users)"
        )


def target_naming(candidates: pa.Table, targets: pa.Table, seed: int = 0) -> TargetNaming | None:
    """How often candidates name their user's target; None where fewer than two users have a target with a title.

    A title counts as named if its words, without the year and with the article in front, stand in the text as whole
    words in any case. Short titles meet texts by chance, popular ones more than by chance; the comparison with other
    users' targets shows the former.

    Parameters
    ----------
    candidates
        Schema `tables.CANDIDATES`.
    targets
        user_id, title; one row a user.
    seed
        Of the pairing with other users' targets.
    """
    from lettingo_features.evaluation.statistics import paired_p_value

    names = {
        user: f" {name} "
        for user, title in zip(targets[c.USER_ID].to_pylist(), targets[c.TITLE].to_pylist(), strict=True)
        if (name := title_words(title or ""))
    }
    texts: dict[str, list[str]] = {}
    for user, text in zip(candidates[c.USER_ID].to_pylist(), candidates["text"].to_pylist(), strict=True):
        if user in names:
            texts.setdefault(user, []).append(f" {plain_words(text)} ")
    users = sorted(texts)
    together = {user: "\n".join(own) for user, own in texts.items()}

    def share(user: str, name: str) -> float:
        if name not in together[user]:  # nearly always, and ten times as fast as text by text
            return 0.0
        return sum(name in text for text in texts[user]) / len(texts[user])

    if len(users) < 2:
        return None
    own = np.array([share(user, names[user]) for user in users])
    circle = np.random.default_rng(seed).permutation(len(users))
    others = np.zeros((min(_CIRCLES, len(users) - 1), len(users)))
    for step, row in enumerate(others, 1):
        for place, user in enumerate(circle):
            row[user] = share(users[user], names[users[circle[(place + step) % len(users)]]])
    chance = others.mean(0)
    return TargetNaming(
        n_users=len(users),
        n_candidates=sum(map(len, texts.values())),
        own=float(own.mean()),
        by_chance=float(chance.mean()),
        p_value=paired_p_value(own - chance, permutations=1_999, seed=seed),
    )


def title_words(title: str) -> str:
    """``title`` as texts write it: no year, the article in front, plain words.

    >>> title_words("Silence of the Lambs, The (1991)")
    'the silence of the lambs'
    """
    name = _ARTICLE_LAST.sub(r"\2 \1", _YEAR.sub("", title).casefold())
    return plain_words(name)


def plain_words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))
