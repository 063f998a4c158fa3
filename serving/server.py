"""A Feast feature server as a child process, for the demo and for tests; in production a process manager does this."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from lettingo_features.errors import ServingError

_POLL_S = 0.2
_LOG_LINES = 15


@contextmanager
def feast_server(
    repo: Path | str,
    home: Path | str,
    port: int | None = None,
    start_timeout_s: float = 300.0,
    log_file: Path | str | None = None,
    registry_ttl_s: int = 60,
) -> Iterator[str]:
    """Run ``feast -c repo serve`` on loopback until the block ends; yields its base URL once it is healthy.

    One worker that is never recycled (recycling makes the slowest requests take seconds). The child gets its own
    process group, and only that group is ended.

    Parameters
    ----------
    port
        A free one is picked when None.
    start_timeout_s
        Seconds until ``/health`` must answer. Importing Feast takes most of the 10 it needs, more on a busy machine.
    log_file
        Where the server's output goes, ``home/serve.log`` when None.
    registry_ttl_s
        Seconds between two looks at Feast's registry: so long after a promotion may an alias name the former champion.

    Raises
    ------
    ServingError
        The server ended or did not become healthy in time; the message carries the end of its log.
    """
    port = port or _free_port()
    url = f"http://127.0.0.1:{port}"
    log = Path(log_file) if log_file else Path(home) / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [feast_executable(), "-c", str(repo), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--max-requests", "0", "--no-access-log"]
    command += ["--registry_ttl_sec", str(registry_ttl_s)]
    environment = {**os.environ, "LETTINGO_HOME": str(Path(home).absolute())}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        _wait_until_healthy(process, url, start_timeout_s, log)
        yield url
    finally:
        _end(process)


def feast_executable() -> str:
    """The ``feast`` command of this Python's environment."""
    beside = Path(sys.executable).with_name("feast")
    found = str(beside) if beside.exists() else shutil.which("feast")
    if found is None:
        raise ServingError("the feast command is not installed beside this Python: pip install lettingo_features")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(process: subprocess.Popen, url: str, timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServingError(f"feast serve ended with code {process.returncode}. Its last words:\n{_tail(log)}")
            try:
                if session.get(f"{url}/health", timeout=1.0).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(_POLL_S)
    raise ServingError(f"feast serve is not healthy at {url} after {timeout_s:g} s. Its last words:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _end(process: subprocess.Popen, patience_s: float = 10.0) -> None:
    """Terminate the child's own process group, and kill what is left of it after ``patience_s``."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        break
    process.wait()
