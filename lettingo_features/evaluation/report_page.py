"""The page that every report is: one HTML file that needs nothing else, neither network nor script.

Titles, texts, ids and categories come from strangers. They meet the page only through the template's autoescaping; the
page's content policy forbids scripts and requests even if something slipped through.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lettingo_features.errors import MissingExtraError
from lettingo_features.evaluation import report_plots as plots

if TYPE_CHECKING:
    from jinja2 import Template

_SHARED = Path(__file__).parent  # report_page.html and report_plots.html
_HARMFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # not allowed in HTML, or in UTF-8 at all


@cache
def page_template(path: Path) -> Template:
    """The template at ``path``, which may extend ``report_page.html`` and import from ``report_plots.html``.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("The report", "train") from error
    environment = Environment(
        loader=FileSystemLoader([path.parent, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if isinstance(value, str) else value,
    )
    environment.filters.update(day=plots.day, duration=duration, seconds=seconds)
    return environment.get_template(path.name)


def capped(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, without those that no page may hold."""
    return clean(text if len(text) <= most else f"{text[: most - 1]}…")


def clean(text: str) -> str:
    """``text`` without control characters and lone surrogates, its kind (plain or escaped markup) kept."""
    return type(text)(_HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text))


def duration(amount: float | None) -> str:
    """A margin in the unit that suits it.

    >>> duration(21_600.0), duration(0.000001), duration(777_600)
    ('6 h', '1 µs', '9 days')
    """
    if amount is None:
        return "–"
    for unit, size in (("days", 2 * 86_400), ("h", 3_600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if abs(amount) >= size:
            return f"{amount / (86_400 if unit == 'days' else size):,.3g} {unit}"
    return f"{amount * 1e6:.3g} µs"


def seconds(amount: float) -> str:
    """Wall time for a label.

    >>> seconds(0.42), seconds(12.3), seconds(75)
    ('0.4 s', '12 s', '1 min 15 s')
    """
    if amount < 10:
        return f"{amount:.1f} s"
    return f"{amount:.0f} s" if round(amount) < 60 else f"{round(amount) // 60} min {round(amount) % 60} s"
