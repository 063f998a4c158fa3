"""Does the applied Feast registry still say what the feature repository declares?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lettingo_features.errors import EncoderMismatchError, RegistryError
from lettingo_features.home import Home
from lettingo_features.sql import connect, quote

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.diff.property_diff import PropertyDiff
    from feast.repo_contents import RepoContents

_SHOWN = 8


def declared(repo_path: Path | str) -> RepoContents:
    """The objects that the modules of ``repo_path`` declare now, read as ``feast apply`` reads them.

    Feast imports the modules by bare name from the current directory and Python keeps them: they are forgotten before
    and after, so that an edited file or another home directory is seen.
    """
    from feast.repo_operations import parse_repo

    repo = Path(repo_path).resolve()
    with _importable(repo), contextlib.chdir(repo):
        return parse_repo(repo)


def registry_difference(store: FeatureStore, repo_path: Path | str) -> list[str]:
    """One line per object that differs between ``store``'s registry and ``repo_path``, sorted; empty when none does."""
    from feast.feature_view import DUMMY_ENTITY_NAME

    store.refresh_registry()
    plan, _, _ = store.plan(declared(repo_path))
    differences = []
    for change in plan.feast_object_diffs:
        transition = change.transition_type.name
        if change.name == DUMMY_ENTITY_NAME or transition == "UNCHANGED":
            continue
        properties = sorted(_declared_properties(change.feast_object_property_diffs))
        if transition == "UPDATE" and not properties:  # a view that was materialised since
            continue
        what = {"CREATE": "is not applied", "DELETE": "is no longer declared"}.get(transition)
        differences.append(
            f"{change.feast_object_type.value} {change.name} {what or 'differs in ' + ', '.join(properties)}"
        )
    return sorted(differences)


def check_registry(store: FeatureStore, repo_path: Path | str) -> None:
    """Raise a RegistryError that names what differs, unless the registry says what ``repo_path`` declares."""
    differences = registry_difference(store, repo_path)
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise RegistryError(
            f"the Feast registry is out of date in {len(differences)} object(s): {shown}{more}. "
            f"Run: feast -c {repo_path} apply"
        )


def check_vectors(store: FeatureStore, home: Home) -> None:
    """Raise an EncoderMismatchError if a table holds vectors of another length than its view declares.

    Feast takes any vector; a ranker trained on another encoder's would be wrong without a word.
    """
    for view in store.list_feature_views():
        for field in (field for field in view.schema if field.vector_length and home.parts(view.name)):
            column = quote(field.name)
            lengths = connect().sql(
                f"SELECT DISTINCT len({column}) FROM {home.scan(view.name)} WHERE {column} IS NOT NULL"
            )
            found = {length for (length,) in lengths.fetchall()}
            if found - {field.vector_length}:
                raise EncoderMismatchError(
                    f"view '{view.name}' declares vectors of length {field.vector_length}, its table holds "
                    f"{', '.join(map(str, sorted(found)))}: encode with the encoder that the view is named after, or "
                    "correct vector_lengths in feature_repo/views.py and run feast -c feature_repo apply"
                )


def _declared_properties(differences: list[PropertyDiff]) -> Iterator[str]:
    """Names of the properties that differ in more than the times at which the objects were made."""
    for difference in differences:
        values = []
        for value in (difference.val_existing, difference.val_declared):
            if hasattr(value, "HasField") and "meta" in value.DESCRIPTOR.fields_by_name:
                bare = type(value)()
                bare.CopyFrom(value)
                bare.ClearField("meta")
                value = bare
            values.append(value)
        if values[0] != values[1]:
            yield difference.property_name


@contextlib.contextmanager
def _importable(repo: Path) -> Iterator[None]:
    _forget(repo)
    sys.path.insert(0, str(repo))
    try:
        yield
    finally:
        sys.path.remove(str(repo))
        _forget(repo)


def _forget(repo: Path) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name and Path(file).parent == repo and not file.endswith("__init__.py"):
            del sys.modules[name]
