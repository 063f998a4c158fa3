"""Lint of generated text: what no profile may carry is removed and counted, whichever generator wrote it."""

from __future__ import annotations

import re

from lettingo_features.generation.untrusted import remove_invisible, remove_markers

MAX_WORDS = 120  # twice what our generators write: beyond it a model is rambling

_PASSES = 20  # bounds the work on a text made of layers, and no honest text has so many

_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")  # markdown: the words stay
_UNWANTED = (
    # A tag that never ends, with its attributes: the page's next ">" would end it. "a < b" and "<3" stay.
    re.compile(r"""<(?:/?[A-Za-z]|[!?])[^\s<>]*(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s<>]*))*"""),
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


def lint(text: str, max_words: int | None = MAX_WORDS) -> tuple[str, int]:
    """``text`` without URLs, e-mail addresses, tags, markup, control tokens, invisible characters and a formula's first
    signs, capped in words (None: whole).

    Repeated until nothing is found, since what is removed may have hidden the next; of a text with twenty such layers
    nothing is left. Line breaks stay, for bullets. An over-long text ends at its last whole sentence, or at the cap if
    it has none.

    Returns
    -------
    (str, int)
        The clean text, '' when nothing is left, and the number of findings.

    >>> lint("Likes **Drama**, see https://example.org/x for more.")
    ('Likes Drama, see for more.', 3)
    """
    findings = 0
    for _ in range(_PASSES):
        text, found = _pass(text)
        findings += found
        if not found:
            break
    else:
        return "", findings
    if max_words is not None and len(text.split()) > max_words:
        return _capped(text, max_words), findings + 1
    return text, findings


def _pass(text: str) -> tuple[str, int]:
    text, n_invisible = remove_invisible(text)
    text, n_markers = remove_markers(text)
    findings = n_invisible + n_markers
    text, found = _LINK.subn(r"\1", text)
    findings += found
    for pattern in _UNWANTED:
        text, found = pattern.subn("", text)
        findings += found
    lines = (" ".join(line.split()) for line in text.splitlines())
    text, found = _FORMULA.subn("", "\n".join(line for line in lines if line))
    return text, findings + found


def _capped(text: str, max_words: int) -> str:
    end = [match.end() for match in re.finditer(r"\S+", text)][max_words - 1]
    ends = [match.end() for match in _SENTENCE_END.finditer(text[:end])]
    return text[: ends[-1]] if ends else text[:end]
