"""Guards of a reward: against texts that please the judge without describing the person.

Four, each of which can be switched off and says what it found: numbers that smuggle a rating into the text are scrubbed
before any judge reads it; a text that names the very item it is judged on is looked for; supported claims may earn
something, and length beyond a norm may cost something.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lettingo_features import columns as c
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.config import Config

SCRUBBED = "N"
"""Stands where a number was."""

_DIGITS = r"(?<![\d.,])(?:100|\d{1,2})(?:[.,]\d+)?(?![\d])"  # 0 to 100 with decimals; no year, no "1,200"
_SCORE = r"(?<![\d.,])(?:10|\d)(?:[.,]\d+)?(?![\d])"  # 0 to 10: "rated 24 films" is a count
_WORDS = r"\b(?:zero|half|one|two|three|four|five|six|seven|eight|nine|ten)(?:\s+and\s+a\s+half)?\b"
_NUMBER = rf"(?:{_DIGITS}|{_WORDS})"
_RATING = r"(?:rat(?:e|es|ed|ing|ings)|scor(?:e|es|ed|ing)|stars?|grades?|marks?|averag(?:e|es|ed|ing)|mean|avg)"
_FEW = r"(?:[\s:=~≈(]+(?!(?:and|but|or|n)\b)[a-z'’-]+){0,3}?[\s:=~≈(]+"  # a few words between, within the clause
_SMUGGLED = (
    re.compile(
        rf"{_NUMBER}\s*(?:/|of|out\s+of|over)\s*(?:a\s+(?:possible|maximum)\s+)?(?:5|10|100|five|ten)\b(?:\.0)?", re.I
    ),
    re.compile(rf"{_NUMBER}(?:\s*(?:-|–|to)\s*{_NUMBER})?[\s-]*(?:stars?|points?)\b", re.I),
    re.compile(rf"(?P<before>\b{_RATING}\b{_FEW}){_SCORE}(?:\s*%)?", re.I),
    re.compile(rf"{_DIGITS}(?:\s*%)?(?P<after>\s+(?:[a-z]+\s+)?(?:on\s+average|average|mean|rating|ratings)\b)", re.I),
    re.compile(
        rf"{_DIGITS}\s*(?:%|per\s*cent|percent)(?P<after>[^.;\n]{{0,40}}?\b(?:lik|lov|posit|favou?r|dislik|negat)\w*)",
        re.I,
    ),
    re.compile(
        rf"(?P<before>\b(?:lik|lov|rate|positiv|favou?r|dislik)\w*[^.;\n]{{0,25}}?){_DIGITS}\s*(?:%|per\s*cent|percent)",
        re.I,
    ),
    re.compile(r"[★☆⭐✩✪✯]+"),
)
_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
_ARTICLE_LAST = re.compile(r"^(.*), (the|a|an|le|la|les|il|el|der|die|das)$")
_CIRCLES = 20  # random pairings of texts with other users' targets: the chance level to a few per mille


class GuardConfig(Config):
    """Which guards are on; weights are in units of the reward."""

    scrub_ratings: bool = True
    """Numbers that say how this person rates are taken out before any judge reads the text: a mean rating is no taste,
    and a judge who is told it is right more often than one who reads a profile."""
    target_independence: bool = True
    """Report how often a text names the title of its own held-out target."""
    faithfulness_weight: float = Field(default=0.0, ge=0)
    """Times the share of supported claims, added to the reward; a text whose share is unknown gets nothing."""
    length_weight: float = Field(default=0.0, ge=0)
    """Taken from the reward for each word above the norm."""
    length_norm: int = Field(default=80, ge=1)
    """Words that cost nothing."""


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


def scrub(text: str) -> tuple[str, int]:
    """``text`` with `SCRUBBED` for each number that says how somebody rates, and how many there were.

    Counts, years and titles stay; a number that only a reader would take for a rating stays too.

    >>> scrub("Rates 4.2 of 5 on average; 11 dramas since 1994.")
    ('Rates N on average; 11 dramas since 1994.', 1)
    """
    total = 0
    for pattern in _SMUGGLED:
        text, found = pattern.subn(_kept, text)
        total += found
    return text, total


def scrubbed(candidates: pa.Table) -> tuple[pa.Table, int]:
    """``candidates`` as a judge may read them, and how many texts changed. Ids stay, so rewards fit the originals."""
    done = {text: scrub(text) for text in pc.unique(candidates["text"]).to_pylist()}
    texts = candidates["text"].to_pylist()
    changed = sum(done[text][1] > 0 for text in texts)
    column = pa.array([done[text][0] for text in texts], pa.string())
    return candidates.set_column(candidates.schema.get_field_index("text"), "text", column), changed


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
        if (name := _name(title or ""))
    }
    texts: dict[str, list[str]] = {}
    for user, text in zip(candidates[c.USER_ID].to_pylist(), candidates["text"].to_pylist(), strict=True):
        if user in names:
            texts.setdefault(user, []).append(f" {_plain(text)} ")
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


def guarded(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> pa.Table:
    """``rewards`` with ``value`` = ``raw`` plus the terms for faithfulness and length; all else stays as it is.

    ``value = raw + faithfulness_weight * supported - length_weight * max(0, n_words - length_norm)``, with nothing for
    a ``supported`` that is unknown: a text cannot gain by naming no claims. Compare such texts among themselves.
    """
    bonus, cost = _terms(rewards, candidates, config)
    value = pc.subtract(pc.add(rewards["raw"], bonus), cost)
    return rewards.set_column(REWARDS.get_field_index("value"), "value", value)


def guard_effects(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> dict[str, Any]:
    """What `guarded` does to ``rewards``: means of its terms, and how many rewards each one touches."""
    bonus, cost = _terms(rewards, candidates, config)
    supported = candidates["supported"].take(_row_of(rewards, candidates))
    return {
        **config.model_dump(),
        "n": len(rewards),
        "n_support_unknown": supported.null_count,
        "mean_supported": pc.mean(supported).as_py(),
        "mean_faithfulness_term": pc.mean(bonus).as_py(),
        "n_over_length_norm": pc.sum(pc.greater(_words_over(rewards, candidates, config), 0)).as_py() or 0,
        "mean_length_penalty": pc.mean(cost).as_py(),
    }


def _terms(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    supported = pc.fill_null(candidates["supported"].take(_row_of(rewards, candidates)), 0.0)
    over = pc.cast(_words_over(rewards, candidates, config), pa.float64())
    return pc.multiply(supported, config.faithfulness_weight), pc.multiply(over, config.length_weight)


def _words_over(rewards: pa.Table, candidates: pa.Table, config: GuardConfig) -> pa.ChunkedArray:
    words = candidates["n_words"].take(_row_of(rewards, candidates))
    return pc.max_element_wise(pc.subtract(words, config.length_norm), 0)


def _row_of(rewards: pa.Table, candidates: pa.Table) -> pa.Array:
    return pc.index_in(rewards["candidate_id"], candidates["candidate_id"].combine_chunks())


def _kept(match: re.Match[str]) -> str:
    around = match.groupdict()
    return f"{around.get('before') or ''}{SCRUBBED}{around.get('after') or ''}"


def _name(title: str) -> str:
    """
    >>> _name("Silence of the Lambs, The (1991)")
    'the silence of the lambs'
    """
    name = _ARTICLE_LAST.sub(r"\2 \1", _YEAR.sub("", title).casefold())
    return _plain(name)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))
