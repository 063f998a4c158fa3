"""The child process: started, waited for, ended. A small script stands in for ``feast``, which takes long to start."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import requests

from lettingo_features.errors import ServingError
from serving import server
from serving.server import feast_server

SERVES = """
import http.server, os, pathlib, subprocess, sys
home, arguments = pathlib.Path(os.environ["LETTINGO_HOME"]), sys.argv[1:]
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # as gunicorn has one
(home / "pids").write_text(f"{os.getpid()} {worker.pid}")
(home / "arguments").write_text(" ".join(arguments))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()
"""
FAILS = "import sys; sys.exit('registry.db: unable to open database file')"
HANGS = "import time; print('importing', flush=True); time.sleep(600)"


@pytest.fixture
def feast(tmp_path, monkeypatch):
    """Install a script in feast's place."""

    def install(script: str) -> Path:
        executable = tmp_path / "feast"
        executable.write_text(f"#!{sys.executable}\n{script}")
        executable.chmod(0o755)
        monkeypatch.setattr(server, "feast_executable", lambda: str(executable))
        return tmp_path

    return install


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "\nState:\tZ" not in status.read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes through /proc")
def test_serves_until_the_block_ends_and_leaves_no_process(feast):
    home = feast(SERVES)
    with feast_server("some_repo", home) as url:
        assert requests.get(f"{url}/health", timeout=5).ok
        pids = [int(pid) for pid in (home / "pids").read_text().split()]
        assert all(alive(pid) for pid in pids)
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)
    arguments = (home / "arguments").read_text()
    assert arguments.startswith("-c some_repo serve --host 127.0.0.1 --port ")
    assert "--max-requests 0" in arguments


def test_ended_by_an_error_in_the_block(feast):
    home = feast(SERVES)
    with pytest.raises(KeyError), feast_server("some_repo", home) as url:
        raise KeyError
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/health", timeout=1)


def test_server_that_cannot_start_says_why(feast):
    home = feast(FAILS)
    with pytest.raises(ServingError, match=r"ended with code 1(.|\n)*unable to open database file"):
        feast_server("some_repo", home).__enter__()


def test_server_that_never_gets_healthy(feast):
    home = feast(HANGS)
    with pytest.raises(ServingError, match=r"not healthy.*after 2 s(.|\n)*importing"):
        feast_server("some_repo", home, start_timeout_s=2).__enter__()
