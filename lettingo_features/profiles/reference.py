"""The profile that a summary deserves, in four styles: what the embedded language model learns to write.

A grammar of paraphrases over the facts that the prompt shows, nothing else. NOTE: a category name is always preceded
by a space and a title by a quote, as in the prompt: byte-level tokens then match piece by piece and can be copied.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from lettingo_features.profiles.prompt import (
    CATEGORIES,
    CATEGORY_CHARS,
    DISLIKED_TITLES,
    LOVED_TITLES,
    TITLE_CHARS,
    YEARS,
    field,
)

LEAD = (
    "Drawn above all to {t}", "Keeps coming back to {t}", "Mostly picks {t}", "A steady follower of {t}",
    "Tastes centre on {t}", "Turns first to {t}", "The history is led by {t}", "Most at home with {t}",
)  # fmt: skip
WARM_LEAD = ("The clear favourite is {t}", "Above all enjoys {t}", "Loves {t}", "Has a real passion for {t}")
NEXT = (", then {a}", "; {a} comes next", ", followed by {a}", ", ahead of {a}", ", with {a} in second place")
ALSO = (", with some {a}", " and also picks {a}", ", and often {a} too", ", plus {a}", ", with an eye for {a}")
LOVED = (
    "Loved {v}.",
    "Favourites include {v}.",
    "Gave top marks to {v}.",
    "High points were {v}.",
    "Was won over by {v}.",
)
LOW = (
    "Tends to dislike {l}.", "Rarely enjoys {l}.", "Gives low marks to {l}.", "Best kept away from {l}.",
    "Has little patience for {l}.",
)  # fmt: skip
LET_DOWN = ("Did not enjoy {d}.", "Was let down by {d}.", "Gave low marks to {d}.", "Had no luck with {d}.")
LATELY = {
    "liked": ("Most recently liked {x}.", "The latest hit was {x}."),
    "disliked": ("Most recently disliked {x}.", "The latest miss was {x}."),
    "neutral": ("Most recently tried {x}.", "The latest pick was {x}."),
    "engaged": ("Most recently tried {x}.", "The latest pick was {x}."),
}
OF_YEARS = ("Mostly from {y}.", "Many picks are from {y}.", "Likes what came out in {y}.", "Favours {y}.")
TONE = {
    "generous": ("Rates generously.", "Easy to please.", "Hands out high marks."),
    "balanced": ("Rates evenly.", "Weighs praise and criticism.", "A balanced judge."),
    "critical": ("Hard to please.", "A demanding judge.", "Rates strictly."),
    "unrated": ("Leaves no ratings.", "There are no ratings to go by."),
}
ADVICE = ("Offer more {t}.", "More {t} would suit.", "A safe next choice is {t}.")
NO_LEAD = ("No category stands out yet", "The history shows no clear category", "No clear interest so far")

BRIEF = ("Mostly {t}", "Into {t}", "Favours {t}", "Above all {t}", "Picks {t}", "Follows {t}")
BRIEF_LOW = ("; avoids {l}", ", but not {l}", "; dislikes {l}", "; little interest in {l}")
BRIEF_YEARS = (", mostly from {y}", ", above all from {y}", "; years {y}")
BRIEF_TONE = {"generous": "; easy to please", "balanced": "; fair", "critical": "; hard to please", "unrated": ""}

BULLET_TOP = ("main interest:", "favourite:", "mostly:", "top category:", "leads:")
BULLET_ALSO = ("also:", "then:", "second:", "further:")
BULLET_LOW = ("avoids:", "dislikes:", "weak spot:", "low marks:")
BULLET_LOVED = ("loved:", "high points:", "best liked:")
BULLET_YEARS = ("years:", "mostly from:", "from:")
BULLET_TONE = {
    "generous": "rates generously", "balanced": "rates evenly", "critical": "rates strictly", "unrated": "no ratings",
}  # fmt: skip

SPAN = (
    "Across {n} interactions in {days} days",
    "In {n} interactions over {days} days",
    "Over {days} days and {n} interactions",
)
SHARE = (" {t} leads with {tn}", " the top category is {t} with {tn}", " {t} comes first with {tn}")
RUNNER_UP = (", ahead of {a} with {an}", ", then {a} with {an}", "; {a} follows with {an}")
MEAN = (
    "Mean rating {mean}, {tone}.",
    "The mean rating is {mean} ({tone}).",
    "Ratings average {mean}; the tone is {tone}.",
)
PEAK_YEARS = ("Most picks date from {y}.", "Strongest years: {y}.", "The years {y} stand out.")
WEAKEST = ("Weakest category: {l}.", "The lowest ratings go to {l}.", "Underperforms with {l}.")


def write(summary: Mapping[str, Any], style: str, rng: random.Random) -> str:
    """Return one profile of ``summary`` in ``style``, drawn with ``rng``; bullets hold line breaks."""
    facts = _facts(summary)
    return {"narrative": _narrative, "brief": _brief, "bullets": _bullets, "analyst": _analyst}[style](facts, rng)


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the prompt shows, cleaned and cut as there: t, others, l, years, loved, disliked, x, tone, the numbers."""
    top = [(field(c["name"], CATEGORY_CHARS), c["n"]) for c in summary["top_categories"][:CATEGORIES]]
    low, newest = summary["lowest_category"], summary["newest"][:1]
    return {
        "t": top[0][0] if top else None,
        "tn": top[0][1] if top else None,
        "others": top[1:],
        "l": field(low["name"], CATEGORY_CHARS) if low else None,
        "years": [str(year) for year in summary["years"][:YEARS]],
        "loved": _quoted(summary["loved_titles"][:LOVED_TITLES]),
        "disliked": _quoted(summary["disliked_titles"][:DISLIKED_TITLES]),
        "x": next(iter(_quoted([row["title"] for row in newest])), None),
        "mood": newest[0]["sentiment"] if newest else None,
        "tone": summary["tone"],
        "n": summary["n_interactions"],
        "days": round(summary["span_days"] or 0),
        "mean": None if summary["mean_rating"] is None else f"{summary['mean_rating']:.1f}",
    }


def _quoted(titles: list[str]) -> list[str]:
    return [f'"{title}"' for title in (field(title, TITLE_CHARS) for title in titles) if title]


def _lead(facts: Mapping[str, Any], rng: random.Random) -> str:
    if facts["t"] is None:
        return rng.choice(NO_LEAD)
    warm = facts["tone"] == "generous" and rng.random() < 0.5
    return rng.choice(WARM_LEAD if warm else LEAD).format(t=facts["t"]) + _second(facts, rng, 0.85)


def _second(facts: Mapping[str, Any], rng: random.Random, chance: float) -> str:
    """The clause on other categories: the true second, or any one or two of those that are not the weakest."""
    others = [name for name, _ in facts["others"] if name != facts["l"]]
    if not others or rng.random() > chance:
        return ""
    if others[0] == facts["others"][0][0] and rng.random() < 0.45:
        return rng.choice(NEXT).format(a=others[0])
    some = others[:2] if len(others) > 1 and rng.random() < 0.5 else [rng.choice(others)]
    return rng.choice(ALSO).format(a=" and ".join(some))


def _narrative(facts: Mapping[str, Any], rng: random.Random) -> str:
    extra = []
    if facts["years"] and rng.random() < 0.35:
        extra.append(rng.choice(OF_YEARS).format(y=" and ".join(_some(facts["years"], rng))))
    if facts["loved"] and rng.random() < 0.6:
        extra.append(rng.choice(LOVED).format(v=" and ".join(_some(facts["loved"], rng))))
    if facts["l"] and rng.random() < 0.75:
        extra.append(rng.choice(LOW).format(l=facts["l"]))
    if facts["disliked"] and rng.random() < 0.35:
        extra.append(rng.choice(LET_DOWN).format(d=facts["disliked"][0]))
    if facts["x"] and rng.random() < 0.2:
        extra.append(rng.choice(LATELY[facts["mood"]]).format(x=facts["x"]))
    if rng.random() < 0.35:
        extra.append(rng.choice(TONE[facts["tone"]]))
    if facts["t"] and rng.random() < 0.15:
        extra.append(rng.choice(ADVICE).format(t=facts["t"]))
    return " ".join([_lead(facts, rng) + ".", *extra[:3]])


def _some(names: list[str], rng: random.Random) -> list[str]:
    return names if rng.random() < 0.4 else [rng.choice(names)]


def _brief(facts: Mapping[str, Any], rng: random.Random) -> str:
    if facts["t"] is None:
        return rng.choice(NO_LEAD) + BRIEF_TONE[facts["tone"]] + "."
    text = rng.choice(BRIEF).format(t=facts["t"]) + _second(facts, rng, 0.7)
    if facts["years"] and rng.random() < 0.3:
        text += rng.choice(BRIEF_YEARS).format(y=" and ".join(_some(facts["years"], rng)))
    if facts["l"] and rng.random() < 0.7:
        text += rng.choice(BRIEF_LOW).format(l=facts["l"])
    elif rng.random() < 0.4:
        text += BRIEF_TONE[facts["tone"]]
    return text + "."


def _bullets(facts: Mapping[str, Any], rng: random.Random) -> str:
    rows = [f"{rng.choice(BULLET_TOP)} {facts['t']}" if facts["t"] else "no clear category"]
    others = [name for name, _ in facts["others"] if name != facts["l"]]
    if others and rng.random() < 0.85:
        rows.append(f"{rng.choice(BULLET_ALSO)} {', '.join(others[: rng.choice((1, 2, 2, 3))])}")
    if facts["l"] and rng.random() < 0.75:
        rows.append(f"{rng.choice(BULLET_LOW)} {facts['l']}")
    if facts["loved"] and rng.random() < 0.5:
        rows.append(f"{rng.choice(BULLET_LOVED)} {', '.join(_some(facts['loved'], rng))}")
    if facts["years"] and rng.random() < 0.35:
        rows.append(f"{rng.choice(BULLET_YEARS)} {', '.join(_some(facts['years'], rng))}")
    if rng.random() < 0.4:
        rows.append(BULLET_TONE[facts["tone"]])
    return "\n".join(f"- {row}" for row in rows)


def _analyst(facts: Mapping[str, Any], rng: random.Random) -> str:
    text = rng.choice(SPAN).format(**facts) + ","
    if facts["t"] is None:
        return text + " no category stands out."
    text += rng.choice(SHARE).format(**facts)
    if facts["others"] and rng.random() < 0.85:
        name, n = facts["others"][0]
        text += rng.choice(RUNNER_UP).format(a=name, an=n)
    extra = []
    if facts["mean"] and rng.random() < 0.7:
        extra.append(rng.choice(MEAN).format(**facts))
    if facts["years"] and rng.random() < 0.35:
        extra.append(rng.choice(PEAK_YEARS).format(y=" and ".join(_some(facts["years"], rng))))
    if facts["l"] and rng.random() < 0.75:
        extra.append(rng.choice(WEAKEST).format(l=facts["l"]))
    return " ".join([text + ".", *extra])
