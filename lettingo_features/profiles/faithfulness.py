"""Which category a text names first: the test of a profile that needs no judge."""

from __future__ import annotations

import re
from collections.abc import Iterable


def first_named(text: str, names: Iterable[str]) -> str | None:
    """Return the name that ``text`` mentions first, as whole words in exact case; None where it mentions none.

    Where two names start at the same place the longer counts.

    >>> first_named("Mostly Science Fiction, then Drama.", ["Drama", "Science", "Science Fiction"])
    'Science Fiction'
    """
    found = [
        (match.start(), -len(name), name)
        for name in names
        if (match := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))
    ]
    return min(found)[2] if found else None
