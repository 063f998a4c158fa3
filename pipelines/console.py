"""What every command shares: the home option, JSON output, progress bars, and errors without a traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click


class Instant(click.ParamType):
    """An ISO 8601 instant; UTC when it has no zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not an ISO 8601 time such as 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def home_option(command: Callable) -> Callable:
    """``--home``: where the state lives; LETTINGO_HOME, else ``./.lettingo``."""
    return click.option(
        "--home",
        "home_dir",
        default=lambda: os.environ.get("LETTINGO_HOME", ".lettingo"),
        show_default="LETTINGO_HOME, else .lettingo",
        help="Where the state lives.",
    )(command)


def json_option(command: Callable) -> Callable:
    """``--json``: print one JSON object and nothing else on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def show(as_json: bool, facts: dict[str, Any], text: str) -> None:
    """Print ``facts`` as one JSON object, or ``text``."""
    click.echo(json.dumps(facts, default=str) if as_json else text)


@contextmanager
def progress_bar(label: str, unit: str = "rows") -> Iterator[Callable[..., None]]:
    """A bar on a terminal's standard error, silent elsewhere.

    Yields ``advance``: ``advance(done, total)`` where the total is known, ``advance(n)`` to add n where it is not.
    """
    from tqdm import tqdm

    with tqdm(desc=label, unit=f" {unit}", leave=False, disable=not sys.stderr.isatty()) as bar:

        def advance(done: int, total: int | None = None) -> None:
            bar.total = total
            bar.update(done if total is None else done - bar.n)

        yield advance


def open_home(home_dir: str):
    """The :class:`Home` at ``home_dir``, made if absent; also exported for Feast's ``${LETTINGO_HOME}``."""
    from lettingo_features.home import Home

    home = Home(home_dir).create()
    os.environ["LETTINGO_HOME"] = str(home.root)
    return home
