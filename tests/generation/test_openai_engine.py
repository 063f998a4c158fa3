"""The engine for OpenAI-compatible servers, against one that fails in every way a real one does."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from lettingo_features.errors import ModelError
from lettingo_features.generation import openai_engine
from lettingo_features.generation.server_failure import Failure, retry_after
from lettingo_features.profiles.local_model import embedded_model
from tests.generation.fake_openai import FAULTS, LOST, MISSING, PRICE_IN, PRICE_OUT, FakeOpenAI, text_for

pytest.importorskip("openai", reason="extra 'openai' is not installed")

from lettingo_features.generation.openai_engine import OpenAIConfig, OpenAIEngine

KEY = "sk-secret-0123456789"
SCHEMA = '{"type": "object", "properties": {"profile": {"type": "string"}}}'


def config(url: str, **settings) -> OpenAIConfig:
    settings = {"max_retries": 8, "timeout_s": 10.0, "price_in": PRICE_IN, "price_out": PRICE_OUT, **settings}
    return OpenAIConfig(model="m", base_url=url, api_key=SecretStr(KEY), **settings)


def ask(server: FakeOpenAI, prompts: list[str], **settings):
    engine = OpenAIEngine(config(server.url, **settings))
    try:
        return list(engine.generate(prompts, list(range(len(prompts)))))
    finally:
        engine.close()


def test_all_complete_none_twice_and_the_cost_is_the_servers_own() -> None:
    prompts = [f"history of reader number {n}" for n in range(400)]
    with FakeOpenAI(rate=0.2, seed=5, hang_s=4.0) as server:
        engine = OpenAIEngine(config(server.url, concurrency=16, temperature=1.0, timeout_s=3.0))
        answers = list(engine.generate(prompts, list(range(400))))
        engine.close()
    assert set(FAULTS) <= set(server.injected), "every fault was met"
    assert sorted(index for index, _ in answers) == list(range(400))  # each once
    assert [index for index, _ in answers] != list(range(400))  # as they finish
    assert all(answer.text == text_for(prompts[index], index) for index, answer in answers)  # each its own
    assert not any(answer.error or answer.problem for _, answer in answers)
    assert set(server.delivered) == set(prompts) and set(server.delivered.values()) == {1}
    assert sum(answer.cost for _, answer in answers) == pytest.approx(server.delivered_usd)
    # What the server counted and nobody could read: a bill may add it, and `retries` says how many.
    lost = {"timeout": "hang", "bad_response": "truncated", "connection": "cut"}
    assert engine.retries["timeout"] == server.injected["hang"]
    assert engine.retries["bad_response"] == server.injected["truncated"]
    assert engine.retries["connection"] == server.injected["cut"] + server.injected["reset"]
    assert set(lost.values()) == LOST and server.lost_usd > 0
    assert server.most_at_once <= 16 + server.injected["hang"]  # a hung answer goes on after its client left


def test_concurrency_is_used_and_bounded() -> None:
    with FakeOpenAI(rate=1.0, faults=("late",)) as server:
        ask(server, [str(n) for n in range(24)], concurrency=6)
    assert 4 <= server.most_at_once <= 6


RETRIED = [  # what the server always says, retries, tries made, error of the call
    ({"status": 429, "headers": {"Retry-After": "0"}}, 2, 3, "http_429"),
    ({"status": 503, "headers": {"Retry-After": "0"}}, 1, 2, "http_503"),
    ({"status": 503}, 0, 1, "http_503"),
    ({"status": 429, "headers": {"Retry-After": "3600"}}, 5, 1, "http_429"),  # longer than max_wait_s
    ({"status": 400}, 5, 1, "http_400"),  # the same again would be refused again
    ({"text": None}, 1, 2, "bad_response"),
    ({"finish_reason": None}, 1, 2, "bad_response"),
]


@pytest.mark.parametrize(("answer", "retries", "tries", "error"), RETRIED)
def test_a_failed_call_is_an_error_of_its_own(answer: dict, retries: int, tries: int, error: str) -> None:
    with FakeOpenAI(**answer) as server:
        ((_, completion),) = ask(server, ["a"], max_retries=retries, max_wait_s=1.0)
    assert (completion.error, completion.text, completion.cost) == (error, "", 0.0)
    assert len(server.requests) == tries


def test_a_server_that_is_not_there() -> None:
    with FakeOpenAI() as server:
        url = server.url
    engine = OpenAIEngine(config(url, max_retries=1, max_wait_s=0.1))
    assert dict(engine.generate(["a"], [0]))[0].error == "connection"
    engine.close()


STOPS = [  # what the server says, what to do
    ({"status": 401}, "Give a key that is valid"),
    ({"status": 403}, "may use this model"),
    ({"status": 404}, "Name a model that the server lists"),
    ({"status": 429, "code": "insufficient_quota"}, "Pay, or give another key"),
]


@pytest.mark.parametrize(("answer", "step"), STOPS)
def test_what_stops_every_call_is_raised_at_once(answer: dict, step: str) -> None:
    with FakeOpenAI(**answer) as server, pytest.raises(ModelError, match=step) as caught:
        ask(server, [str(n) for n in range(50)], concurrency=2)
    assert len(server.requests) <= 4
    assert "\n" not in str(caught.value)


def test_a_server_that_only_fails_is_left() -> None:
    with FakeOpenAI(status=500) as server, pytest.raises(ModelError, match="16 calls in a row failed on 127"):
        ask(server, [str(n) for n in range(500)], concurrency=4, max_retries=0)
    assert len(server.requests) < 30


def test_the_key_is_in_no_message(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    with caplog.at_level(logging.DEBUG):
        for status in (400, 401, 500):  # the server quotes the key in each
            with FakeOpenAI(status=status) as server:
                try:
                    said.append(repr(ask(server, ["a"] * 40, max_retries=0, concurrency=2)))
                except ModelError as error:
                    assert "no, ***" in str(error)
                    said.append(f"{error!r} {error.__cause__!r}")
    assert all(KEY in request["authorization"] for request in server.requests)  # it was sent
    engine = OpenAIEngine(config(server.url))
    said += [repr(engine), repr(engine.config), engine.identity, engine.config.model_dump_json(), *capsys.readouterr()]
    engine.close()
    ours = [record.getMessage() for record in caplog.records]
    assert KEY not in " ".join(said + ours)


PROBLEMS = [  # the answer, its problem
    ({"finish_reason": "length", "text": "half a"}, "unfinished"),
    ({"finish_reason": "content_filter", "text": None}, "refused"),
    ({"refusal": "I cannot", "text": None}, "refused"),
    ({"text": "  "}, "empty"),
    ({"finish_reason": "length", "text": None}, "empty"),
    ({"text": "a b c d e f " * 3}, "repeating"),
    ({"text": "fine"}, ""),
]


@pytest.mark.parametrize(("answer", "problem"), PROBLEMS)
def test_problems(answer: dict, problem: str) -> None:
    with FakeOpenAI(**answer) as server:
        ((_, completion),) = ask(server, ["a"])
    assert (completion.problem, completion.error) == (problem, "")
    assert completion.cost > 0  # answered, so paid for


USAGES = [  # what the server says, tokens read and generated
    (None, 2, 3),
    ({}, 2, 3),
    ({"prompt_tokens": 7}, 7, 3),
    ({"prompt_tokens": None, "completion_tokens": 8}, 2, 8),
    ({"prompt_tokens": "7", "completion_tokens": -1}, 2, 3),
    ({"prompt_tokens": True, "completion_tokens": 1.5}, 2, 3),
    ([7, 8], 2, 3),
    ("7", 2, 3),
    (MISSING, 2, 3),
    ({"prompt_tokens": 0, "completion_tokens": 8}, 0, 8),
]


@pytest.mark.parametrize(("usage", "read", "generated"), USAGES)
def test_usage_that_the_server_keeps_to_itself_is_estimated(usage: object, read: int, generated: int) -> None:
    with FakeOpenAI(usage=usage, text="123456789") as server:
        ((_, completion),) = ask(server, ["abcdef"])
    assert (completion.n_prompt_tokens, completion.n_tokens) == (read, generated)
    assert completion.cost == pytest.approx((read * PRICE_IN + generated * PRICE_OUT) / 1e6)


def test_what_is_asked() -> None:
    with FakeOpenAI() as server:
        ask(server, ["row <|im_end|> 1"], instruction="Write.", temperature=0.7, json_schema=SCHEMA, max_new_tokens=9)
        ask(server, ["row"], json_schema=SCHEMA, structured="none", limit_name="max_tokens", extra_body={"top_p": 0.5})
    first, second = server.requests
    assert first["messages"] == [{"role": "user", "content": "Write.\n\nrow   1"}]  # no control token from data
    assert (first["seed"], first["temperature"], first["max_completion_tokens"]) == (0, 0.7, 9)
    assert first["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert "response_format" not in second and "seed" not in second
    assert SCHEMA in second["messages"][0]["content"]  # a server that cannot be held to it is told
    assert (second["max_tokens"], second["top_p"]) == (96, 0.5)


def test_with_a_local_tokenizer_prompts_go_as_token_ids() -> None:
    pytest.importorskip("transformers", reason="extra 'train' is not installed")
    with FakeOpenAI() as server:
        engine = OpenAIEngine(config(server.url, tokenizer=str(embedded_model())))
        ((_, answer),) = engine.generate(["A <|end|><|assistant|> B"], [0])
        ids = server.requests[0]["prompt"]
        frame = engine._frame
        engine.close()
    special = set(frame._tokenizer.all_special_ids)
    assert ids[: len(frame.prefix)] == frame.prefix and ids[-len(frame.suffix) :] == frame.suffix
    assert not special & set(ids[len(frame.prefix) : -len(frame.suffix)])
    assert answer.text == text_for(str(ids), None)
    assert engine.prompt_budget == 512 - 96 - len(frame.prefix) - len(frame.suffix)


def test_closing_early_ends_the_open_calls() -> None:
    with FakeOpenAI(rate=1.0, faults=("late",)) as server:
        engine = OpenAIEngine(config(server.url, concurrency=2))
        answers = engine.generate([str(n) for n in range(100)], list(range(100)))
        next(answers)
        answers.close()
        engine.close()
    assert len(server.requests) <= 8


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_told_to_stop_it_hands_over_what_has_come(stop) -> None:
    with FakeOpenAI() as server:
        engine = OpenAIEngine(config(server.url, concurrency=2))
        answers = engine.generate([str(n) for n in range(2_000)], list(range(2_000)))
        first = next(answers)
        while len(server.delivered) < 10:  # nobody takes them
            time.sleep(0.01)
        got, told = dict([first, answers.throw(stop())]), []
        try:
            got.update(answers)
        except stop:
            told.append(stop)
        engine.close()
    assert told == [stop]
    assert 8 <= len(server.delivered) - 2 <= len(got) <= len(server.delivered) < 2_000


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_told_to_stop_as_an_answer_comes_it_hands_it_over(monkeypatch, stop) -> None:
    class Heard(openai_engine.SimpleQueue):
        """A signal is heard between the wait for an answer and the taking of it."""

        n = 0

        def get(self):
            super().get()
            self.n += 1
            if self.n == 3:
                raise stop

    monkeypatch.setattr(openai_engine, "SimpleQueue", Heard)
    with FakeOpenAI() as server:
        engine = OpenAIEngine(config(server.url, concurrency=1))
        got, answers = [], engine.generate([str(n) for n in range(2_000)], list(range(2_000)))
        with pytest.raises(stop):
            for index, _ in answers:
                got.append(index)
        engine.close()
    assert got == list(range(len(got))) and 3 <= len(got) < 2_000


def test_identity_is_what_shapes_an_answer() -> None:
    def identity(**settings) -> str:
        engine = OpenAIEngine(OpenAIConfig(**{"model": "m", **settings}))
        engine.close()
        return engine.identity

    base = identity()
    same = [{"base_url": "http://other/v1"}, {"concurrency": 1}, {"api_key": SecretStr("k")}, {"structured": "none"}]
    other = [{"model": "n"}, {"revision": "2"}, {"temperature": 1.0}, {"json_schema": SCHEMA}, {"extra_body": {"k": 1}}]
    assert {identity(**settings) for settings in same} == {base}
    assert len({base, *(identity(**settings) for settings in other)}) == 6


WAITS = [  # header, seconds at 07:27:00
    ("2", 2.0),
    ("0.5", 0.5),
    ("-1", 0.0),
    ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0),
    ("Wed, 21 Oct 2026 07:26:00 GMT", 0.0),  # past
    ("Wed, 21 Oct 2026 07:28:00 -0000", 60.0),
    ("nan", None),
    ("inf", None),
    ("tomorrow", None),
    (None, None),
]


@pytest.mark.parametrize(("header", "seconds"), WAITS)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2026, 10, 21, 7, 27, tzinfo=UTC)) == seconds


PAUSES = [  # Retry-After, try, longest wait, seconds from and to
    (None, 0, 300.0, 0.25, 0.5),
    (None, 3, 300.0, 2.0, 4.0),
    (None, 99, 300.0, 15.0, 30.0),
    (None, 3, 1.0, 0.5, 1.0),
    (0.0, 0, 300.0, 0.25, 0.5),  # 4  "at once" is no leave to stampede
    (0.0, 3, 300.0, 2.0, 4.0),
    (20.0, 0, 300.0, 20.25, 25.5),  # 6  never before the server's time
]


@pytest.mark.parametrize(("asked", "attempt", "longest", "least", "most"), PAUSES)
def test_pauses_differ_and_keep_to_what_the_server_asks(asked, attempt, longest, least, most) -> None:
    failure = Failure("http_429", "", retry_after=asked)
    pauses = [failure.pause(attempt, longest) for _ in range(200)]
    assert least <= min(pauses) and max(pauses) <= most
    assert max(pauses) - min(pauses) > (most - least) / 2  # spread out


def test_no_pause_where_nothing_is_to_be_tried_again() -> None:
    assert Failure("http_400", "", retry=False).pause(0, 300.0) is None
    assert Failure("http_429", "", retry_after=301.0).pause(0, 300.0) is None


def test_an_engine_that_nobody_closed_holds_up_no_exit() -> None:
    with FakeOpenAI(rate=1.0, faults=("hang",), hang_s=0.5) as server:
        script = (
            "from lettingo_features.generation.openai_engine import OpenAIConfig, OpenAIEngine\n"
            f"engine = OpenAIEngine(OpenAIConfig(model='m', base_url='{server.url}'))\n"
            "answers = engine.generate(['a', 'b'], [0, 0])\n"
            "print(next(answers)[1].error or 'answered')\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answered\n", "")
