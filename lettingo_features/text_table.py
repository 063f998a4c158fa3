"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """``lines`` in columns: the first to the left, the others to the right, a rule under the head.

    >>> print(aligned([["metric", "mean"], ["nDCG@10", "0.1234"]]))
    metric     mean
    ───────────────
    nDCG@10  0.1234
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *text[1:]])
