"""An OpenAI-compatible server on loopback that fails as real ones do, by a seeded plan, and keeps its own accounts.

Faults are drawn per request: rate limits with and without Retry-After, errors, connections reset, answers that hang,
are cut, come twice or late. An answer is *delivered* when all of it was sent in time to be read, and *lost* when the
server made (and counted) it but the client cannot have read it.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429",  # without Retry-After
    "429_seconds",
    "429_date",
    "500",
    "reset",  # the connection, without an answer
    "hang",  # counted, and sent when nobody reads any more
    "truncated",  # counted; JSON that ends early
    "cut",  # counted; the connection ends before the promised length
    "duplicate",  # delivered, and sent a second time over the same connection
    "late",  # delivered, after those asked later
)
MISSING = object()  # as ``usage``: an answer without the field
LOST = frozenset({"hang", "truncated", "cut"})
PRICE_IN, PRICE_OUT = 2.0, 10.0  # USD per million tokens


def text_for(prompt: str, seed: int | None) -> str:
    """The model: an answer that tells which prompt it belongs to."""
    return f"profile {sha256(f'{prompt}{seed}'.encode()).hexdigest()[:12]}"


class FakeOpenAI:
    """``with FakeOpenAI(rate=0.2) as server: ... server.url``; tokens are words."""

    def __init__(
        self, rate: float = 0.0, faults: tuple[str, ...] = FAULTS, seed: int = 0, hang_s: float = 2.0, **answer: Any
    ) -> None:
        self.answer = answer
        """Fixed parts of every answer: status, headers, text (or a function of the prompt), finish_reason, refusal,
        usage."""
        self.requests: list[dict[str, Any]] = []
        self.injected: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        """Prompts by how often a whole answer was sent in time."""
        self.delivered_usd = self.lost_usd = 0.0
        self.most_at_once = self._at_once = 0
        self._rate, self._faults, self.hang_s = rate, faults, hang_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the requests that are open at once."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        yield
        with self._lock:
            self._at_once -= 1

    def draw(self, request: dict[str, Any]) -> str:
        """The fault of this request, or ""."""
        with self._lock:
            self.requests.append(request)
            fault = self._random.choice(self._faults) if self._random.random() < self._rate else ""
            self.injected[fault] += 1
            return fault

    def _count(self, prompt: str, text: str, fault: str) -> dict[str, int]:
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        usd = (usage["prompt_tokens"] * PRICE_IN + usage["completion_tokens"] * PRICE_OUT) / 1e6
        with self._lock:
            if fault in LOST:
                self.lost_usd += usd
            else:
                self.delivered_usd += usd
                self.delivered[prompt] += 1
        return usage

    def body(self, request: dict[str, Any], chat: bool, fault: str) -> bytes:
        """A whole answer, counted."""
        prompt = request["messages"][-1]["content"] if chat else str(request["prompt"])
        text = self.answer.get("text", text_for(prompt, request.get("seed")))
        text = text(prompt) if callable(text) else text
        usage = self._count(prompt, text or "", fault)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.answer.get("finish_reason", "stop")}
        if chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": self.answer.get("refusal")}
        else:
            choice["text"] = text
        body = {"id": "x", "object": "chat.completion" if chat else "text_completion", "choices": [choice]}
        usage = self.answer.get("usage", usage)
        counted = {} if usage is MISSING else {"usage": usage}
        return json.dumps({**body, "created": 0, "model": "m", **counted}).encode()

    def error(self, request: dict[str, Any]) -> bytes:
        """An error that quotes the key it was given, as some servers do."""
        said = f"no, {request['authorization'].removeprefix('Bearer ')}"
        return json.dumps({"error": {"message": said, "code": self.answer.get("code")}}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of 5, a burst of connections would wait a second for the kernel

    def __init__(self, fake: FakeOpenAI) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        with self.server.fake.busy():
            try:
                self._respond()
            except (BrokenPipeError, ConnectionResetError):  # the client gave up
                self.close_connection = True

    def _respond(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request["authorization"] = self.headers.get("Authorization", "")
        fault = self.server.fake.draw(request)
        if fault == "reset":
            no_linger = struct.pack("ii", 1, 0)  # close() then sends RST, not FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            self.rfile.close()  # else it keeps the socket open
            self.connection.close()
            self.close_connection = True
            return
        if "status" in self.server.fake.answer:
            self._send(
                self.server.fake.error(request),
                self.server.fake.answer["status"],
                self.server.fake.answer.get("headers", {}),
            )
        elif fault.startswith("429"):
            wait = {"429_seconds": "0.2", "429_date": formatdate(time.time() + 1, usegmt=True)}.get(fault)
            self._send(b'{"error": {"message": "slow down"}}', 429, {"Retry-After": wait} if wait else {})
        elif fault == "500":
            self._send(b"<html>Internal Server Error</html>", 500, {})
        else:
            self._answer(request, fault)

    def _answer(self, request: dict[str, Any], fault: str) -> None:
        body = self.server.fake.body(request, "chat" in self.path, fault)
        if fault == "hang":
            time.sleep(self.server.fake.hang_s)
        if fault == "late":
            time.sleep(0.1)
        if fault == "cut":
            self._send(body, 200, {}, sent=body[: len(body) // 2])
            self.close_connection = True
            return
        if fault == "truncated":
            body = body[: len(body) // 2]
        self._send(body, 200, {}, times=2 if fault == "duplicate" else 1)

    def _send(
        self, body: bytes, status: int, headers: dict[str, str], sent: bytes | None = None, times: int = 1
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode() + (body if sent is None else sent)
        self.wfile.write(whole * times)
