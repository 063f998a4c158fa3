"""The ranker's side of the Feast feature server: one HTTP request, columns back. Imports neither feast nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import requests

from lettingo_features.columns import ITEM_ID, USER_ID
from lettingo_features.errors import ServingError

_NULL_TIMESTAMP = -(2**63)  # what Feast 0.67 writes for a null timestamp, and serves as PRESENT
_NON_FINITE = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}  # JSON has no such numbers: sent as strings
_SHOWN_CHARACTERS = 400


class FeatureClient:
    """Fetches feature services from a running ``feast serve``.

    One client keeps one pooled connection: make one per thread and keep it.

    Parameters
    ----------
    url
        Base URL of the server, for instance ``http://127.0.0.1:6566``.
    timeout_s
        Seconds to wait for the connection, and again between bytes of the answer.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between a ranker and its store

    def features(
        self,
        service: str,
        users: Sequence[str],
        items: Sequence[str] | None = None,
        required: Sequence[str] = (),
    ) -> dict[str, list[Any]]:
        """The newest features of ``users``, or of the pairs ``(users[i], items[i])``.

        Parameters
        ----------
        users, items
            Ids. A single user is paired with every item (one user, many candidates).
        required
            Features that the caller cannot do without: each must be a column of the answer.

        Returns
        -------
        dict
            Column name to one value per row, in the order asked; ids included. Text is ``str``, counts ``int``,
            numbers ``float``, a list of numbers an array of float32, a timestamp whole seconds since 1970 UTC (that is
            all Feast keeps online), and None whatever the store does not hold. Order of columns is not defined.

        Raises
        ------
        ServingError
            No server, no answer in time, an answer that is an error, or one that lacks a column or a row.
        """
        entities = _entities(users, items)
        answer = self._post({"feature_service": service, "entities": entities})
        columns = _columns(answer)
        missing = sorted({*required, *entities} - columns.keys())
        if missing:
            raise ServingError(
                f"feature service '{service}' answered without {len(missing)} required column(s): {', '.join(missing)}"
                ". Was the model trained on another service? Compare with: feast -c feature_repo feature-services list"
            )
        asked = len(entities[USER_ID])
        short = [name for name, values in columns.items() if len(values) != asked]
        if short:
            raise ServingError(f"{self.url} answered {len(columns[short[0]])} rows of '{short[0]}', {asked} were asked")
        return columns

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> FeatureClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = self._session.post(f"{self.url}/get-online-features", json=body, timeout=self.timeout_s)
        except requests.Timeout as error:
            raise ServingError(
                f"{self.url} did not answer within {self.timeout_s:g} s: ask for fewer rows or raise timeout_s"
            ) from error
        except requests.RequestException as error:
            raise ServingError(
                f"no feature server answers at {self.url} ({type(error).__name__}): "
                "start one with: feast -c feature_repo serve --max-requests 0"
            ) from error
        if not response.ok:
            text = response.text[:_SHOWN_CHARACTERS]
            raise ServingError(f"{self.url} answered {response.status_code} for '{body['feature_service']}': {text}")
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            raise ServingError(f"{self.url} answered something that is not JSON: is it a feature server?") from error


def _entities(users: Sequence[str], items: Sequence[str] | None) -> dict[str, list[str]]:
    if not users:
        raise ServingError("no users asked for: features needs at least one user id")
    if items is None:
        return {USER_ID: list(users)}
    if len(users) == 1:
        return {USER_ID: list(users) * len(items), ITEM_ID: list(items)}
    if len(users) != len(items):
        raise ServingError(f"{len(users)} users and {len(items)} items do not pair: give one user, or one per item")
    return {USER_ID: list(users), ITEM_ID: list(items)}


def _columns(answer: dict[str, Any]) -> dict[str, list[Any]]:
    try:
        names = answer["metadata"]["feature_names"]
        return {
            name: _decoded(
                [
                    value if status == "PRESENT" and value != _NULL_TIMESTAMP else None
                    for value, status in zip(result["values"], result["statuses"], strict=True)
                ]
            )
            for name, result in zip(names, answer["results"], strict=True)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ServingError(
            f"the feature server's answer has another shape than Feast 0.66-0.68 gives: {error}"
        ) from error


def _decoded(values: list[Any]) -> list[Any]:
    """``values`` of one column with vectors as float32 arrays and non-finite numbers as floats."""
    if any(isinstance(value, list) for value in values):
        return [None if value is None else _vector(value) for value in values]
    strings = [value for value in values if isinstance(value, str)]
    if strings and all(value in _NON_FINITE for value in strings):  # a text column has other strings too
        return [_NON_FINITE.get(value, value) if isinstance(value, str) else value for value in values]
    return values


def _vector(value: list[Any]) -> list[Any] | np.ndarray:
    """A list of numbers as float32 (the doubles of the JSON are float32 values written out, so this is exact)."""
    if all(isinstance(element, float) or element in _NON_FINITE for element in value) and value:
        return np.array([_NON_FINITE.get(element, element) for element in value], dtype=np.float32)
    return value
