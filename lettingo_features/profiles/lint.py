"""Lint of generated text: what no profile may carry is removed and counted, whichever generator wrote it."""

from __future__ import annotations

import re

from lettingo_features.generation.untrusted import remove_invisible, remove_markers

MAX_WORDS = 120  # twice what our generators write: beyond it a model is rambling

_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")  # markdown: the words stay
_UNWANTED = (
    re.compile(r"\b(?:[a-z][a-z0-9+.-]*://|(?:data|javascript|vbscript|mailto):(?=\S))\S*", re.IGNORECASE),
    re.compile(
        r"\bwww\.\S+|\b[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}/\S*", re.IGNORECASE
    ),  # "Startup.com" is a film: a path tells
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE),  # headings; "We're #1" stays
    re.compile(r"\*\*|__|`+"),
)
_FORMULA = re.compile(r"\A(?:[=+@]\s*|-(?=\S))+")  # what a spreadsheet would compute; "- " starts a bullet
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def lint(text: str, max_words: int = MAX_WORDS) -> tuple[str, int]:
    """``text`` without URLs, e-mail addresses, tags, markup, control tokens, invisible characters and a formula's first
    signs, capped in words.

    Line breaks stay, for bullets. An over-long text ends at its last whole sentence, or at the cap if it has none.

    Returns
    -------
    (str, int)
        The clean text, '' when nothing is left, and the number of findings.

    >>> lint("Likes **Drama**, see https://example.org/x for more.")
    ('Likes Drama, see for more.', 3)
    """
    text, findings = remove_invisible(text)
    text, found = remove_markers(text)
    findings += found
    text, found = _LINK.subn(r"\1", text)
    findings += found
    for pattern in _UNWANTED:
        text, found = pattern.subn("", text)
        findings += found
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    text, found = _FORMULA.subn("", text)
    if found:
        text, more = lint(text, max_words)  # what it hid may be a heading
        return text, findings + found + more
    if len(text.split()) > max_words:
        return _capped(text, max_words), findings + 1
    return text, findings


def _capped(text: str, max_words: int) -> str:
    end = [match.end() for match in re.finditer(r"\S+", text)][max_words - 1]
    ends = [match.end() for match in _SENTENCE_END.finditer(text[:end])]
    return text[: ends[-1]] if ends else text[:end]
