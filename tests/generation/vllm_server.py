"""A vLLM server with the embedded language model on loopback, in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from urllib.error import URLError
from urllib.request import Request, urlopen

CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; plenty for a model of this size
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}
START_S = 300  # on a busy machine; a quiet one takes 40


class VllmServer:
    """``with VllmServer(model, log) as server: ... server.url``; serves the model as "base"."""

    def __init__(self, model: str, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self.url = f"{self._root}/v1"
        self._log = log
        # The module, not the command `vllm`: that looks for a package of this name, and the CPU build has another.
        self._command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        self._command += ["--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--dtype", "float32", "--enforce-eager", "--generation-config", "vllm"]
        self._command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"]  # see vllm_engine
        self._command += ["--enable-lora", "--max-lora-rank", "8"]
        structured = {"backend": "xgrammar", "disable_any_whitespace": True}
        self._command += ["--structured-outputs-config", json.dumps(structured), *options]

    def __enter__(self) -> VllmServer:
        environment = {**os.environ, **CPU_ENVIRONMENT, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__(None, None, None)
                raise RuntimeError(f"vLLM did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()  # it ends its own workers
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def load_adapter(self, name: str, directory: str) -> None:
        body = json.dumps({"lora_name": name, "lora_path": directory}).encode()
        headers = {"Content-Type": "application/json"}
        urlopen(Request(f"{self.url}/load_lora_adapter", body, headers), timeout=60).close()

    def _healthy(self) -> bool:
        try:
            with urlopen(f"{self._root}/health", timeout=5) as answer:
                return answer.status == 200
        except (URLError, ConnectionError, TimeoutError):
            return False
