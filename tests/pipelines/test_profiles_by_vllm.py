"""``lettingo profiles generate --engine vllm``, the engine in the command's own process; run by `make test-vllm`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from lettingo_features.generation.ledger import Ledger
from tests.generation.vllm_server import CPU_ENVIRONMENT
from tests.pipelines.small_home import USERS, finish, small_home, start_generate, texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # three runs, one of which loads vLLM; minutes each on a busy machine
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: run 'make test-vllm'"),
]
VLLM = ("--engine", "vllm", "--dtype", "float32")


def test_the_texts_are_those_of_transformers_and_no_call_is_made_again(tmp_path):
    home, other = small_home(tmp_path / "vllm"), small_home(tmp_path / "transformers")
    report, _ = finish(start_generate(home, *VLLM, **CPU_ENVIRONMENT))
    assert (report["calls"]["called"], report["calls"]["failed"]) == (USERS, {})
    assert report["build"]["written"] == {"embedded-lm": USERS}
    assert Ledger(home.ledger_url).counts() == {"done": USERS}

    finish(start_generate(other))
    assert texts(home) == texts(other)

    again, said = finish(start_generate(home, *VLLM, "--release", "other", **CPU_ENVIRONMENT))
    assert (again["calls"]["called"], again["calls"]["cached"]) == (0, USERS)
    assert texts(home, "other") == texts(home)
    assert "vllm" not in said.lower()  # nothing to call: it was not loaded
