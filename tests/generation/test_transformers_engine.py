"""The engine on the shipped model: order, batches and neighbours change nothing; data stays data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from lettingo_features.errors import ConfigError, ModelError
from lettingo_features.generation.transformers_engine import (
    TransformersConfig,
    TransformersEngine,
    equal_length_batches,
)
from lettingo_features.profiles.corpus import STYLES, held_out_summaries
from lettingo_features.profiles.local_model import embedded_model
from lettingo_features.profiles.prompt import render

MODEL = str(embedded_model())
PROMPTS = [render(summary, STYLES[i % 4]) for i, summary in enumerate(held_out_summaries(48, 77))]
STREAMS = list(range(100, 148))


def engine(**settings) -> TransformersEngine:
    return TransformersEngine(TransformersConfig(model=MODEL, threads=1, **settings))


def texts(engine: TransformersEngine, rows: list[int]) -> dict[int, str]:
    answers = engine.generate([PROMPTS[row] for row in rows], [STREAMS[row] for row in rows])
    return {rows[index]: answer.text for index, answer in answers}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_order_batches_and_resume_change_nothing(temperature: float) -> None:
    rows = list(range(len(PROMPTS)))
    whole = texts(engine(temperature=temperature, batch_size=32), rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert texts(engine(temperature=temperature, batch_size=32), shuffled) == whole
    assert texts(engine(temperature=temperature, batch_size=7), rows) == whole
    assert texts(engine(temperature=temperature, batch_size=32), rows[20:]) == {row: whole[row] for row in rows[20:]}


def test_greedy_is_what_transformers_generates() -> None:
    import torch

    ours = engine(max_new_tokens=40)
    for row in range(4):
        messages = [{"role": "user", "content": PROMPTS[row]}]
        ids = ours.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = ours.model.generate(ids, max_new_tokens=40, do_sample=False)
        assert (
            texts(ours, [row])[row] == ours.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        )


def test_streams_decide_the_sample() -> None:
    warm = engine(temperature=1.0)
    answers = dict(warm.generate(PROMPTS[:1] * 6, [1, 1, 2, 3, 4, 5]))
    assert answers[0] == answers[1]
    assert len({answer.text for answer in answers.values()}) >= 3


def test_special_tokens_in_data_are_text() -> None:
    ours = engine()
    special = set(ours.tokenizer.all_special_ids)
    (ids,) = ours.frame.data(["A <|end|><|assistant|> B <pad>"])
    assert special & set(ids) == set()
    assert ours.tokenizer.decode(ids) == "A <|end|><|assistant|> B <pad>"
    assert special & set(ours.frame.prefix + ours.frame.suffix)  # while the frame's own are alive


def test_too_long_a_prompt_is_refused_with_its_size() -> None:
    with pytest.raises(ModelError, match=r"prompt of \d+ tokens and 96 new ones exceed the 512 positions"):
        list(engine().generate(["word " * 600], [0]))


def test_unfinished_answers_are_reported() -> None:
    answers = dict(engine(max_new_tokens=3).generate(PROMPTS[:2], [0, 0]))
    assert [answer.problem for answer in answers.values()] == ["unfinished", "unfinished"]


def test_nothing_asked_nothing_answered() -> None:
    assert list(engine().generate([], [])) == []


LENGTHS = [  # prompt lengths, batch size, batches of row numbers
    ([3, 3, 3], 2, [[0, 1], [2]]),  # 0  full batches
    ([5, 7, 5, 9, 5], 4, [[0, 2, 4], [1, 3]]),  # 1  half a batch of one length goes alone
    ([1, 2, 3], 8, [[0, 1, 2]]),  # 2  few rows share a padded batch
    ([], 4, []),  # 3
]


@pytest.mark.parametrize(("lengths", "size", "expected"), LENGTHS)
def testequal_length_batches(lengths: list[int], size: int, expected: list[list[int]]) -> None:
    assert list(equal_length_batches(lengths, size)) == expected


def test_unreadable_model_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(ModelError, match="Cannot load a causal language model from") as caught:
        TransformersEngine(TransformersConfig(model=str(tmp_path)))
    assert "\n" not in str(caught.value)


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "profile": {"type": "string", "maxLength": 40},
            "claims": {"type": "array", "maxItems": 2, "items": {"type": "integer", "minimum": 1, "maximum": 9}},
        },
        "required": ["profile", "claims"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_obey_the_schema_whatever_the_batch(temperature: float) -> None:
    pytest.importorskip("xgrammar", reason="extra 'structured' is not installed")
    rows = list(range(12))
    constrained = {"temperature": temperature, "json_schema": SCHEMA, "max_new_tokens": 90}
    whole = texts(engine(batch_size=12, **constrained), rows)
    for text in whole.values():  # a model that never saw JSON writes it, and no blank between its parts
        answer = json.loads(text)
        assert set(answer) == {"profile", "claims"}
        assert len(answer["profile"]) <= 40 and len(answer["claims"]) <= 2
        assert json.dumps(answer, separators=(",", ":"), ensure_ascii=False) == text
    assert texts(engine(batch_size=5, **constrained), rows[::-1]) == whole


def test_no_schema_is_one_paragraph() -> None:
    pytest.importorskip("xgrammar", reason="extra 'structured' is not installed")
    with pytest.raises(ConfigError, match="json_schema cannot be compiled"):
        engine(json_schema="{ not json")


def test_identity_is_what_shapes_an_answer() -> None:
    base = TransformersConfig(model=MODEL)
    same = [{"batch_size": 3}, {"threads": 1}, {"price_in": 9.0}]
    other = [
        {"temperature": 1.0},
        {"max_new_tokens": 9},
        {"instruction": "Write."},
        {"json_schema": SCHEMA},
        {"dtype": "bfloat16"},
    ]
    assert {base.model_copy(update=change).model_identity() for change in same} == {base.model_identity()}
    assert len({base.model_identity(), *(base.model_copy(update=change).model_identity() for change in other)}) == 6


def test_tokens_are_counted_and_priced() -> None:
    ours = engine(price_in=1.0, price_out=10.0)
    ((_, answer),) = ours.generate(PROMPTS[:1], [0])
    assert answer.n_prompt_tokens == ours.n_tokens(PROMPTS[:1])[0] + len(ours.frame.prefix + ours.frame.suffix)
    assert answer.cost == pytest.approx((answer.n_prompt_tokens + 10 * answer.n_tokens) / 1e6)
    assert answer.seconds > 0
