"""LettinGo's prompts: rows, request, and what is left out where they are too long."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pyarrow as pa
import pytest

from lettingo_features.profiles import lettingo_prompt, prompt
from lettingo_features.profiles.history import HISTORY
from lettingo_features.profiles.lettingo_prompt import (
    CATEGORIES,
    FittedPrompt,
    LettinGoPrompt,
    LettinGoPromptConfig,
    fit,
    item_fields,
)

TEMPLATES = {  # a changed template is another prompt: give it another name
    "lettingo-1": "7a685aa40eff9a0c",
    "lettingo-claims-1": "4ff28cf98b9be7fc",
    "styles-1": "67ea08d6455f9944",
}


def histories(*users: list[tuple[str, str, list[str], str]]) -> pa.Table:
    """`HISTORY` rows from (item_id, title, categories, sentiment), newest first."""
    names = ("item_id", "title", "categories", "sentiment")
    lists = [[dict(zip(names, row, strict=True)) | {"n": n} for n, row in enumerate(rows, 1)] for rows in users]
    return pa.Table.from_pylist([{"user_id": f"user-{i}", "rows": rows} for i, rows in enumerate(lists)], HISTORY)


ALPHA, BETA = ("a", "Alpha", ["Drama", "Crime"], "liked"), ("b", "Beta", [], "engaged")


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_frozen(name: str) -> None:
    text = (files("lettingo_features.profiles") / "prompts" / f"{name}.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == TEMPLATES[name]


def test_rows_are_json_lines() -> None:
    first, second, empty = LettinGoPrompt().render(histories([ALPHA, BETA], [("c", "", [], "neutral")], []))
    assert first == (
        '{"n":1,"title":"Alpha","categories":["Drama","Crime"],"sentiment":"liked"}\n'
        '{"n":2,"title":"Beta","sentiment":"engaged"}'
    )
    assert second == '{"n":1,"sentiment":"neutral"}'
    assert empty == ""


def test_no_id_reaches_a_prompt() -> None:
    (prompt,) = LettinGoPrompt().render(histories([("secret-item", "Alpha", [], "liked")]))
    assert "secret-item" not in prompt and "user-0" not in prompt


def test_slices_and_chunks_render_alike() -> None:
    table = histories([ALPHA], [BETA, ALPHA], [ALPHA, BETA])
    whole = LettinGoPrompt().render(table)
    assert LettinGoPrompt().render(table.slice(1)) == whole[1:]
    assert LettinGoPrompt().render(table.to_batches()[0].slice(2)) == whole[2:]
    assert LettinGoPrompt().render(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == whole


FIELDS = [  # title, categories, shown
    ("Heat", ["Crime"], {"title": "Heat", "categories": ["Crime"]}),
    ('A "quoted" \\ {title}', [], {"title": "A 'quoted' / (title)"}),  # 1  nothing that delimits JSON
    ("two\nlines", ["a", "", "<s>"], {"title": "two lines", "categories": ["a"]}),  # 2  empty names go
    ("", ["a"] * 9, {"categories": ["a"] * CATEGORIES}),  # 3  capped
    ("x" * 500, [], {"title": "x" * 97 + "..."}),
    ("千と千尋の神隠し", [], {"title": "千と千尋の神隠し"}),  # 5  scripts stay, unescaped
]


@pytest.mark.parametrize(("title", "categories", "shown"), FIELDS)
def test_item_fields(title: str, categories: list[str], shown: dict) -> None:
    text = item_fields(title, tuple(categories))
    assert json.loads('{"n":1' + text + "}") == {"n": 1} | shown
    assert "\\" not in text


def test_no_long_text_stays_in_a_cache() -> None:
    lettingo_prompt._cached_fields.cache_clear()
    prompt.field.cache_clear()
    for n in range(3):
        assert "xxx..." in item_fields(f"{n}" + "x" * 100_000, ())
        assert item_fields("Alpha", ("y" * 100_000,) * 2) == item_fields("Alpha", ("y" * 99_000,) * 2)
        assert item_fields("Alpha", ("Drama",) * CATEGORIES + ("z" * 100_000,)) == item_fields("Alpha", ("Drama",) * 9)
        assert prompt.field(f"{n}" + "x" * 100_000, 40) == f"{n}" + "x" * 39
    assert lettingo_prompt._cached_fields.cache_info().currsize == 1
    assert prompt.field.cache_info().currsize == 0


def test_the_canary_is_there_for_the_leak_check() -> None:
    assert LettinGoPrompt(LettinGoPromptConfig(canary="K7-4411-QX")).canary == "K7-4411-QX"
    assert (LettinGoPrompt().canary, prompt.RowsPrompt().canary) == ("", "")


def n_words(texts):
    return [len(text.split()) for text in texts]


BUDGETS = [  # words of each row, budget, rows left
    ([1, 1, 1], 3, 3),  # 0  all fits
    ([1, 1, 1], 2, 2),  # 1  the oldest goes first
    ([1, 5, 1], 5, 1),  # 2  rows after one that does not fit go too
    ([3, 1], 2, 0),  # 3  not even the newest fits
    ([2] * 80, 101, 50),
]


@pytest.mark.parametrize(("words", "budget", "left"), BUDGETS)
def test_fit_leaves_out_the_oldest_rows_first(words: list[int], budget: int, left: int) -> None:
    rows = [" ".join([f"r{i}"] * n) for i, n in enumerate(words)]
    (fitted,) = fit(["\n".join(rows)], n_words, budget)
    assert fitted == FittedPrompt("\n".join(rows[:left]) or None, left, len(rows) - left)


def test_fit_measures_in_bulk_and_only_what_is_too_long() -> None:
    calls: list[int] = []

    def measure(texts):
        calls.append(len(texts))
        return n_words(texts)

    long = "\n".join("word" for _ in range(80))
    fitted = fit(["one", long, "two\nthree", long], measure, budget=10)
    assert [(f.n_rows, f.n_trimmed) for f in fitted] == [(1, 0), (10, 70), (2, 0), (10, 70)]
    assert calls[0] == 4 and set(calls[1:]) == {2} and len(calls) <= 8


def test_no_histories() -> None:
    assert LettinGoPrompt().render(HISTORY.empty_table()) == []
    assert fit([], n_words, 10) == []


def test_free_form_prescribes_none() -> None:
    free, brief = (LettinGoPrompt(LettinGoPromptConfig(style=style)).instruction for style in ("free", "brief"))
    assert "in which form is up to you.\n" in free and "one sentence" not in free
    assert "Write one sentence." in brief
    assert "$" not in free + brief


def test_every_style_has_a_sentence() -> None:
    styles = LettinGoPromptConfig.model_json_schema()["properties"]["style"]["enum"]
    assert len({LettinGoPrompt(LettinGoPromptConfig(style=style)).instruction for style in styles}) == len(styles) == 5


def test_what_shapes_a_text_is_in_the_identity() -> None:
    configs = [
        {},
        {"style": "brief"},
        {"version": "lettingo-claims-1"},
        {"canary": "K7-4411-QX"},
    ]
    assert len({LettinGoPrompt(LettinGoPromptConfig(**config)).identity for config in configs}) == len(configs)


def test_claims_have_a_schema_and_free_text_has_none() -> None:
    assert LettinGoPrompt().json_schema is None
    claims = LettinGoPrompt(LettinGoPromptConfig(version="lettingo-claims-1"))
    assert json.loads(claims.json_schema)["required"] == ["profile", "claims"]
    assert "at most 8 of at most 200 characters" in claims.instruction  # the request states the schema's caps


def test_canary_is_in_the_instruction_and_not_shown_elsewhere() -> None:
    config = LettinGoPromptConfig(canary="K7-4411-QX")
    assert "K7-4411-QX" in LettinGoPrompt(config).instruction
    assert "K7-4411-QX" not in repr(config) + config.model_dump_json()
