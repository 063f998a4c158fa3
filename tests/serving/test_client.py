"""The client against a small HTTP server that answers as Feast does, or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lettingo_features.errors import ServingError
from serving.client import FeatureClient

ANSWER = {  # two rows: one user that the store holds, one that it does not
    "metadata": {"feature_names": ["user_id", "n", "mean", "text", "vector", "tags", "at", "null_at"]},
    "results": [
        {"values": ["u1", "u2"], "statuses": ["PRESENT", "PRESENT"]},
        {"values": [3, None], "statuses": ["PRESENT", "NOT_FOUND"]},
        {"values": ["NaN", None], "statuses": ["PRESENT", "NULL_VALUE"]},  # NaN travels as a string
        {"values": ["NaN", "likes drama"], "statuses": ["PRESENT", "PRESENT"]},  # text that says NaN stays text
        {"values": [[0.1, 1.0, "Infinity"], None], "statuses": ["PRESENT", "NOT_FOUND"]},
        {"values": [["a", "b"], []], "statuses": ["PRESENT", "PRESENT"]},
        {"values": [1767225600, None], "statuses": ["PRESENT", "NOT_FOUND"]},
        {"values": [-(2**63), 0], "statuses": ["PRESENT", "PRESENT"]},  # Feast's null timestamp; 0 is 1970
    ],
}


class FakeServer(ThreadingHTTPServer):
    """Answers every POST with ``status`` and ``body`` after ``delay_s``, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.delay_s = 200, json.dumps(ANSWER), 0.0
        self.asked: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_columns_are_decoded(server):
    with FeatureClient(server.url) as client:
        columns = client.features("some_service", users=["u1", "u2"], required=["n", "vector"])
    assert columns["n"] == [3, None]
    assert np.isnan(columns["mean"][0]) and columns["mean"][1] is None
    assert columns["text"] == ["NaN", "likes drama"]
    assert columns["vector"][0].dtype == np.float32
    assert columns["vector"][0].tolist() == [np.float32(0.1), 1.0, np.inf]
    assert columns["vector"][1] is None
    assert columns["tags"] == [["a", "b"], []]
    assert columns["at"] == [1767225600, None]
    assert columns["null_at"] == [None, 0]


@pytest.mark.parametrize(
    ("users", "items", "entities"),
    [
        (["u1", "u2"], None, {"user_id": ["u1", "u2"]}),  # users alone
        (["u1", "u2"], ["a", "b"], {"user_id": ["u1", "u2"], "item_id": ["a", "b"]}),  # pairs
        (["u1"], ["a", "b"], {"user_id": ["u1", "u1"], "item_id": ["a", "b"]}),  # one user, its candidates
    ],
)
def test_what_is_asked(server, users, items, entities):
    answer = {"metadata": {"feature_names": list(entities)}, "results": []}
    answer["results"] = [{"values": ids, "statuses": ["PRESENT"] * 2} for ids in entities.values()]
    server.body = json.dumps(answer)
    FeatureClient(server.url).features("some_service", users, items)
    assert server.asked == [{"feature_service": "some_service", "entities": entities}]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, "Feature service nope does not exist", "404.*nope does not exist"),
        (500, "Missing join key values for keys: ['item_id']", "500.*Missing join key"),
        (200, "<html>", "not JSON"),
        (200, "{}", "another shape"),
        (200, json.dumps({**ANSWER, "results": ANSWER["results"][:3]}), "another shape"),  # fewer columns than names
    ],
)
def test_bad_answers(server, status, body, says):
    server.status, server.body = status, body
    with pytest.raises(ServingError, match=says):
        FeatureClient(server.url).features("some_service", ["u1", "u2"])


def test_required_feature_is_missing(server):
    with pytest.raises(ServingError, match=r"without 1 required column.*profile_embedding"):
        FeatureClient(server.url).features("some_service", ["u1", "u2"], required=["n", "profile_embedding"])


def test_fewer_rows_than_asked(server):
    with pytest.raises(ServingError, match=r"2 rows.*3 were asked"):
        FeatureClient(server.url).features("some_service", ["u1", "u2", "u3"])


def test_slow_server(server):
    server.delay_s = 0.5
    with pytest.raises(ServingError, match=r"within 0\.1 s"):
        FeatureClient(server.url, timeout_s=0.1).features("some_service", ["u1", "u2"])


def test_no_server(server):
    server.server_close()
    with pytest.raises(ServingError, match=r"no feature server answers.*feast -c feature_repo serve"):
        FeatureClient(server.url).features("some_service", ["u1"])


@pytest.mark.parametrize(("users", "items"), [([], None), (["u1", "u2"], ["a"])])
def test_ids_that_do_not_pair(server, users, items):
    with pytest.raises(ServingError):
        FeatureClient(server.url).features("some_service", users, items)
    assert server.asked == []


def test_client_needs_neither_feast_nor_torch():
    import subprocess
    import sys

    check = "import sys, serving.client; sys.exit(bool({'feast', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
