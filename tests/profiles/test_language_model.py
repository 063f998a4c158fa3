"""The shipped model names what matters, on known and on unseen names; the generator keeps its contract."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from lettingo_features.errors import ModelError
from lettingo_features.generation.model_files import model_hash
from lettingo_features.profiles.corpus import category_names, held_out_summaries
from lettingo_features.profiles.faithfulness import first_named
from lettingo_features.profiles.generator import STYLES, ProfileRequest
from lettingo_features.profiles.lexicon import held_out_names
from lettingo_features.profiles.local_model import LanguageModelConfig, embedded_model, local_generator
from lettingo_features.profiles.prompt import INSTRUCTION

KNOWN = held_out_summaries(100, 501)
UNSEEN = held_out_summaries(100, 502, held_out_names())


def requests(summaries: list[dict]) -> list[ProfileRequest]:
    return [ProfileRequest(f"u{i}", summary, STYLES[i % 4]) for i, summary in enumerate(summaries)]


def write(config: LanguageModelConfig, asked: list[ProfileRequest]) -> list[str]:
    return [draft.text for batch in local_generator(config).write(asked) for draft in batch]


BARS = [  # summaries, temperature, least share that names the strongest category first
    (KNOWN, 0.0, 0.90),  # 0  the bar of the project is 0.80
    (UNSEEN, 0.0, 0.75),  # 1  0.70, for names that no training text held
    (KNOWN, 1.0, 0.85),  # 2  sampling stays faithful
]


@pytest.mark.parametrize(("summaries", "temperature", "bar"), BARS)
def test_strongest_category_first(summaries: list[dict], temperature: float, bar: float) -> None:
    texts = write(LanguageModelConfig(temperature=temperature), requests(summaries))
    hits = [
        first_named(text, category_names(s)) == category_names(s)[0] for text, s in zip(texts, summaries, strict=True)
    ]
    assert sum(hits) / len(hits) >= bar, [t for t, hit in zip(texts, hits, strict=True) if not hit][:5]


def test_order_changes_nothing_and_users_differ() -> None:
    asked = [ProfileRequest(f"u{i}", KNOWN[0]) for i in range(12)]
    config = LanguageModelConfig(temperature=1.0, seed=3)
    texts = write(config, asked)
    order = random.Random(0).sample(range(12), 12)
    assert write(config, [asked[i] for i in order]) == [texts[i] for i in order]
    assert len(set(texts)) >= 6  # one summary, twelve users, many texts


def test_styles_differ() -> None:
    full = next(s for s in KNOWN if len(s["top_categories"]) == 4 and s["lowest_category"] and s["mean_rating"])
    texts = dict(zip(STYLES, write(LanguageModelConfig(), [ProfileRequest("u", full, s) for s in STYLES]), strict=True))
    assert texts["bullets"].startswith("- ") and "\n- " in texts["bullets"]
    assert f"{full['n_interactions']} interactions" in texts["analyst"]
    assert len(texts["brief"].split(". ")) == 1


def test_progress_and_batches() -> None:
    calls: list[tuple[int, int]] = []
    generator = local_generator(LanguageModelConfig(batch_size=4))
    batches = list(generator.write(requests(KNOWN[:10]), lambda done, total: calls.append((done, total))))
    assert [len(batch) for batch in batches] == [10]
    assert calls[-1] == (10, 10) and calls == sorted(calls)
    assert list(generator.write([])) == []


def test_unusable_answers_are_empty_and_counted() -> None:
    generator = local_generator(LanguageModelConfig(max_new_tokens=2))
    assert [draft.text for batch in generator.write(requests(KNOWN[:3])) for draft in batch] == ["", "", ""]
    assert generator.counts["unfinished"] == 3


def test_long_names_trim_history_and_are_counted() -> None:
    long = "漢字" * 20  # three bytes and at least as many tokens a character
    row = {"title": long, "category": long, "sentiment": "liked"}
    summary = KNOWN[0] | {"newest": [row, row], "loved_titles": [long, long], "disliked_titles": [long]}
    generator = local_generator(LanguageModelConfig())
    list(generator.write([ProfileRequest("u", summary)]))
    assert generator.counts["rows_trimmed"] + generator.counts["prompt_too_long"] >= 1


def test_identity_follows_what_shapes_a_text(tmp_path: Path) -> None:
    base = local_generator().generator_id
    same = [
        LanguageModelConfig(),
        LanguageModelConfig(batch_size=7),
        LanguageModelConfig(seed=9),
        LanguageModelConfig(threads=None),
    ]
    other = [
        LanguageModelConfig(temperature=1.0),
        LanguageModelConfig(temperature=1.0, seed=9),
        LanguageModelConfig(max_new_tokens=9),
    ]
    assert {local_generator(config).generator_id for config in same} == {base}  # a seed shapes no greedy text
    assert len({base, *(local_generator(config).generator_id for config in other)}) == 4
    shutil.copytree(embedded_model(), tmp_path / "release-2")
    moved = local_generator(LanguageModelConfig(model=str(tmp_path / "release-2")))
    assert (moved.name, moved.generator_id) == ("release-2", base)  # a hash of content, not of place
    with (tmp_path / "release-2" / "generation_config.json").open("a") as stream:
        stream.write("\n")
    assert model_hash(str(tmp_path / "release-2")) != model_hash(str(embedded_model()))


def edited(directory: Path, **changes: str | None) -> str:
    """Copy of the embedded model with changed fields of its config.json; None removes a field."""
    shutil.copytree(embedded_model(), directory)
    config = json.loads((directory / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


def test_other_models_get_the_instruction(tmp_path: Path) -> None:
    other = local_generator(LanguageModelConfig(model=edited(tmp_path / "other", lettingo_prompt=None)))
    assert other.prompt.instruction == INSTRUCTION
    assert local_generator().prompt.instruction == ""


def test_unreadable_models_are_one_paragraph(tmp_path: Path) -> None:
    broken = edited(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    lacking = edited(tmp_path / "lacking")
    (tmp_path / "lacking" / "model.safetensors").unlink()
    truncated = edited(tmp_path / "truncated")
    (tmp_path / "truncated" / "model.safetensors").write_bytes(b"short")
    cases = [  # directory, what the message says
        (str(tmp_path / "nowhere"), "no model directory"),  # 0
        (broken, "cannot be read as JSON"),  # 1
        (lacking, r"lacks a .safetensors file"),  # 2
        (edited(tmp_path / "old", lettingo_prompt="rows-0"), "trained on prompt 'rows-0'"),  # 3
        (truncated, "Cannot load a causal language model"),  # 4  seen on the first text
    ]
    for directory, message in cases:
        with pytest.raises(ModelError, match=message) as caught:
            write(LanguageModelConfig(model=directory), requests(KNOWN[:1]))
        assert "\n" not in str(caught.value)


def test_card_names_its_figures_and_the_command() -> None:
    card = (embedded_model() / "CARD.md").read_text()
    assert "python -m pipelines.evaluate_embedded_lm" in card and "python -m pipelines.train_embedded_lm" in card
    assert sum(path.stat().st_size for path in embedded_model().iterdir()) < 6_000_000
