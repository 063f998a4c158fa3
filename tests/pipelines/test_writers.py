"""Options of the command line -> who writes: prompts, engines, what is refused, what stays secret."""

from __future__ import annotations

import pytest

from lettingo_features.errors import ConfigError, ModelError
from lettingo_features.home import Home
from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt
from lettingo_features.profiles.local_model import EMBEDDED_NAME
from lettingo_features.profiles.prompt import RowsPrompt
from pipelines.writers import WriterOptions, make_writers

SERVED = {"engine": "openai", "model": "served"}
CASES = [  # options                                                    prompt          schema  new tokens
    ({}, RowsPrompt, False, 96),  # 0  the embedded model reads what it was trained on
    ({"prompt": "lettingo-1"}, LettinGoPrompt, False, 512),  # 1  unless told otherwise
    (SERVED, LettinGoPrompt, False, 512),  # 2  a server's model gets the broad prompt
    (SERVED | {"prompt": "lettingo-claims-1"}, LettinGoPrompt, True, 512),  # 3
    (SERVED | {"prompt": "rows-2", "max_new_tokens": 7}, RowsPrompt, False, 7),  # 4
]


@pytest.mark.parametrize(("options", "prompt", "has_schema", "new_tokens"), CASES)
def test_who_writes(tmp_path, options, prompt, has_schema, new_tokens):
    writers = make_writers(Home(tmp_path).create(), "r", WriterOptions(**options))
    config = writers.engine.config
    assert isinstance(writers.warm.prompt, prompt)
    assert (config.json_schema is not None, config.max_new_tokens) == (has_schema, new_tokens)
    assert config.instruction == writers.warm.prompt.instruction
    assert writers.warm.name == ("served" if options.get("model") else EMBEDDED_NAME)
    writers.close()


REFUSED = [  # options                                                  error        says
    ({"engine": "openai"}, ConfigError, "Name the one that the server serves"),
    (SERVED | {"cluster": "ray"}, ConfigError, "Leave one out"),
    ({"model": "./nowhere"}, ModelError, "There is no model directory"),
    ({"budget": 1.0}, ConfigError, "every price is 0"),
    ({"adapter": "a"}, ConfigError, "--adapter belongs to --engine vllm"),
    ({"cluster": "ray", "gpus_per_worker": 1}, ConfigError, "--gpus-per-worker belongs to --engine vllm on a cluster"),
    ({"workers": 3}, ConfigError, "--workers belongs to --engine-cluster"),
    ({"tokenizer": "d"}, ConfigError, "--tokenizer belongs to --engine openai"),
    ({"api_key_env": "KEY"}, ConfigError, "--api-key-env belongs to --engine openai"),
    ({"text_style": "brief"}, ConfigError, "add --prompt lettingo-1"),
    ({"ledger": "mysql://host/db"}, ConfigError, "mysql"),
]


@pytest.mark.parametrize(("options", "error", "says"), REFUSED)
def test_refused(tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        make_writers(Home(tmp_path).create(), "r", WriterOptions(**options))


def test_the_key_comes_from_the_environment_and_shows_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    writers = make_writers(Home(tmp_path).create(), "r", WriterOptions(**SERVED, api_key_env="SOME_KEY"))
    assert writers.engine.config.api_key.get_secret_value() == "sk-very-secret"
    assert "sk-very-secret" not in repr(writers.engine.config) + writers.engine.config.model_dump_json()
    writers.close()


def test_identity_tells_prompts_and_models_apart_but_not_servers(tmp_path):
    home = Home(tmp_path).create()

    def identity(**options) -> str:
        writers = make_writers(home, "r", WriterOptions(**SERVED | options))
        writers.close()
        return writers.warm.generator_id

    base = identity()
    assert identity(base_url="http://127.0.0.1:9/v1", concurrency=2, price_in=3.0) == base
    others = [{"model": "b"}, {"prompt": "rows-2"}, {"text_style": "brief"}, {"temperature": 1.0}, {"revision": "2"}]
    assert len({base, *(identity(**other) for other in others)}) == 6
