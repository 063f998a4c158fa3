"""What hostile titles can do: to the prompt, to the stored profile, to the page."""

from __future__ import annotations

import json
from importlib.resources import files

import pyarrow as pa
import pytest

from lettingo_features.errors import AnswerError
from lettingo_features.generation.untrusted import remove_invisible, remove_markers
from lettingo_features.profiles.generator import ProfileRequest
from lettingo_features.profiles.history import ROW
from lettingo_features.profiles.language_model import LanguageModelGenerator
from lettingo_features.profiles.lettingo_prompt import TITLE_CHARS
from lettingo_features.profiles.structured import CLAIM_CHARS, PROFILE_CHARS, parse
from tests.evaluation.test_report import hostile_inputs, page
from tests.generation.hostile import (
    HOSTILE,
    OBEYED,
    PLANTED,
    PROMPT,
    HostileText,
    ScriptedEngine,
    ScriptedModel,
    attack_succeeds,
    history,
    profile_of,
    rows_with,
    safe_prompt,
)

each = pytest.mark.parametrize("attack", HOSTILE, ids=[f"{a.family}-{i}" for i, a in enumerate(HOSTILE)])
follows_structure, obeys_all = ScriptedModel(obeys_data=False), ScriptedModel(obeys_data=True)


def test_there_are_enough() -> None:
    assert len(HOSTILE) == len({attack.text for attack in HOSTILE}) >= 60
    assert len({attack.family for attack in HOSTILE}) >= 9


@each
def test_one_row_of_json_reaches_the_prompt(attack: HostileText) -> None:
    lines = safe_prompt(rows_with(attack.text)).splitlines()  # also at U+2028 and its like
    assert len(lines) == 3
    rows = [json.loads(line) for line in lines]
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert set(rows[1]) <= {"n", "title", "categories", "sentiment"} and rows[1]["sentiment"] == "liked"
    title = rows[1].get("title", "")
    assert len(title) <= TITLE_CHARS and title.isprintable()
    assert not set('"\\{}') & set(title)
    assert remove_markers(title) == (title, 0) and remove_invisible(title) == (title, 0)


def test_no_control_token_even_for_a_tokenizer_that_looks_for_them() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'train'")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(files("lettingo_features.profiles") / "embedded"))
    live = tokenizer("<|end|><pad>", add_special_tokens=False)["input_ids"]
    assert set(live) <= set(tokenizer.all_special_ids)  # raw text is dangerous ...
    for attack in HOSTILE:
        prompt = safe_prompt(rows_with(attack.text))
        for split in (True, False):
            ids = tokenizer(prompt, add_special_tokens=False, split_special_tokens=split)["input_ids"]
            assert not set(ids) & set(tokenizer.all_special_ids), attack  # ... and ours is not


@each
def test_every_attack_works_on_a_naive_pipeline(attack: HostileText) -> None:
    assert attack_succeeds(attack, profile_of(attack.text, obeys_all, prompt=False, output=False))


@each
def test_no_attack_works_on_a_model_that_follows_structure(attack: HostileText) -> None:
    assert not attack_succeeds(attack, profile_of(attack.text, follows_structure, prompt=True, output=True))


@each
def test_an_obeying_model_stores_the_attackers_words_at_worst(attack: HostileText) -> None:
    profile = profile_of(attack.text, obeys_all, prompt=True, output=True)
    if attack.wins != OBEYED:  # of plain words nothing before or after the model can tell that they are no profile
        assert not attack_succeeds(attack, profile)  # but no link, no markup, no leak, no formula, no film never met
    assert remove_invisible(profile) == (profile, 0) and remove_markers(profile) == (profile, 0)


LEAKS = [attack for attack in HOSTILE if attack.family == "leak"]


@pytest.mark.parametrize("attack", LEAKS, ids=[attack.text for attack in LEAKS])
def test_a_leak_is_counted_by_the_generator(attack: HostileText) -> None:
    engine = ScriptedEngine(obeys_all, PROMPT.instruction)
    generator = LanguageModelGenerator(PROMPT, engine)
    request = ProfileRequest("u", {}, history=pa.array(history(rows_with(attack.text)), ROW))
    ((draft,),) = generator.write([request])
    assert (draft.text, draft.pending, generator.counts["leaked"]) == ("", False, 1)


@each
def test_claims_carry_nothing_either(attack: HostileText) -> None:
    answer = {
        "profile": f"Saw {attack.text}"[:PROFILE_CHARS],
        "claims": [{"claim": f"Saw {attack.text}"[:CLAIM_CHARS], "interactions": [1, 2, 3, 4]}],
    }
    try:
        profile = parse(json.dumps(answer), n_rows=3)
    except AnswerError:
        pytest.fail("an answer of the schema was refused")
    for text in (profile.text, *(claim.text for claim in profile.claims)):
        assert remove_invisible(text) == (text, 0) and remove_markers(text) == (text, 0)
        assert attack.wins in (OBEYED, PLANTED) or not attack_succeeds(attack, text)
    assert all(claim.interactions == (1, 2, 3) for claim in profile.claims)


@each
def test_nothing_survives_into_the_page(attack: HostileText) -> None:
    """Titles as they came, and the profile of a pipeline without any defence; the report marks categories in it."""
    harmless = page(hostile_inputs("plain"))
    for text in (attack.text, profile_of(attack.text, obeys_all, prompt=False, output=False)):
        found = page(hostile_inputs(text))
        assert [tag for tag in found.tags if tag != "mark"] == [tag for tag in harmless.tags if tag != "mark"]
        assert {(tag, name) for tag, name, _ in found.attributes} <= {(t, n) for t, n, _ in harmless.attributes}
        assert not set("\x00\x07\x08\x1b") & set(found.html)
