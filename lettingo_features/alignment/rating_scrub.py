"""Numbers that smuggle a rating into a text: found and taken out before a judge reads it."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

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


def _kept(match: re.Match[str]) -> str:
    around = match.groupdict()
    return f"{around.get('before') or ''}{SCRUBBED}{around.get('after') or ''}"
