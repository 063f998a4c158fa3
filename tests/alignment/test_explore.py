"""Candidates: random streams, what is none, and prompts that are those of a build."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.explore import (
    Asked,
    ExploreConfig,
    as_candidates,
    ask,
    candidates_of,
    explore,
    prompts_of,
    recorded,
    stated_windows,
)
from lettingo_features.alignment.tables import CANDIDATES, PROMPTS
from lettingo_features.errors import ConfigError, DataError, LeakageError
from lettingo_features.generation.engine import Completion
from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuild, ProfileBuildConfig
from lettingo_features.profiles.generator import Draft
from lettingo_features.profiles.language_model import LanguageModelGenerator
from lettingo_features.profiles.local_model import LanguageModelConfig, local_generator
from lettingo_features.profiles.prompt import RowsPrompt, render
from lettingo_features.profiles.statistical import StatisticalGenerator
from lettingo_features.profiles.structured import Claim
from lettingo_features.profiles.support import supported_shares
from lettingo_features.profiles.tables import text_table
from lettingo_features.windows import WindowConfig
from tests.alignment.scripted_engine import ScriptedEngine
from tests.alignment.small_world import DAY, T0, synthetic_home, write_home
from tests.profiles.test_build import FakeEncoder

WINDOW = WindowConfig(days=120)
N = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return synthetic_home(tmp_path_factory.mktemp("explored"), n_users=40, n_items=120)


@pytest.fixture(scope="module")
def cutoff(home) -> datetime:
    instants = pq.read_table(home.parts("interactions")[0])["event_timestamp"].to_pylist()
    return instants[int(len(instants) * 0.7)]


@pytest.fixture(scope="module")
def asked(home, cutoff) -> Asked:
    wanted = ask(home, cutoff, pa.array([f"u{n:06}" for n in range(40)]), WINDOW, 5.0, reads_history=False)
    busy = wanted.rows.filter(pc.greater_equal(wanted.rows["n_interactions"], 5))["user_id"].slice(0, N)
    return ask(home, cutoff, busy, WINDOW, 5.0, reads_history=False)


def sampler(seed: int = 3, **config) -> LanguageModelGenerator:
    return local_generator(LanguageModelConfig(temperature=1.0, seed=seed, **config))


CONFIG = ExploreConfig(n_candidates=5, styles=("narrative", "brief"), seed=3)


@pytest.fixture(scope="module")
def explored(asked) -> pa.Table:
    return explore(asked, sampler(), CONFIG, max_words=120)


def scripted(script, samples: bool = True) -> LanguageModelGenerator:
    return LanguageModelGenerator(RowsPrompt(), ScriptedEngine(script, samples=samples))


def test_styles_are_dealt_out_in_turn(asked, explored):
    assert explored.schema == CANDIDATES
    given = explore(asked, scripted(lambda prompt: "A text."), CONFIG, 120).to_pylist()
    kinds = [(row["user_id"], row["style"], row["draw"]) for row in given]
    wanted = [("brief", 1), ("brief", 3), ("narrative", 0), ("narrative", 2), ("narrative", 4)]
    assert kinds == [(user, *kind) for user in asked.rows["user_id"].to_pylist() for kind in wanted]
    assert set(zip(*(explored[name].to_pylist() for name in ("user_id", "style", "draw")), strict=True)) <= set(kinds)
    assert explored.num_rows >= 0.8 * len(kinds)  # a sampled text may be unusable


def test_the_style_is_asked_for(asked):
    said = explore(asked, scripted(lambda prompt: re.search(r"style: (\w+)", prompt)[1]), CONFIG, 120)
    assert said["text"].equals(said["style"])


def test_draw_0_is_what_a_build_writes(home, cutoff, asked, explored, tmp_path):
    copy = Home(tmp_path).create()
    for table in ("interactions", "items"):
        for path in home.parts(table):
            part = pq.read_table(path)
            copy.write_part(table, path.stem, part, part.schema)
    config = ProfileBuildConfig(release="v9", window=WINDOW, max_words=120)
    build = ProfileBuild(copy, config, StatisticalGenerator(), sampler(), FakeEncoder())
    build.run([cutoff], users=asked.rows["user_id"])
    built = {
        row["user_id"]: row["profile_text"]
        for path in copy.parts(text_table("v9"))
        for row in pq.read_table(path).to_pylist()
    }
    first = {
        row["user_id"]: row["text"] for row in explored.to_pylist() if (row["style"], row["draw"]) == ("narrative", 0)
    }
    assert len(first) >= N - 2 and first.items() <= built.items()


def test_each_draw_has_a_stream_of_its_own(asked, explored):
    draws = [replace(request, draw=draw) for request in asked.requests for draw in (0, 1, 12)]
    assert len({request.stream(seed) for request in draws for seed in (0, 1)}) == N * 3 * 2
    by_user = {}
    for row in explored.to_pylist():
        if row["style"] == "narrative":
            by_user.setdefault(row["user_id"], []).append(row["text"])
    assert np.mean([len(set(texts)) / len(texts) for texts in by_user.values()]) > 0.6
    other = explore(asked, sampler(seed=4), CONFIG, 120)
    assert set(other["text"].to_pylist()) != set(explored["text"].to_pylist())


def test_order_and_batches_change_nothing(asked, explored):
    order = np.random.default_rng(0).permutation(N)
    mixed = Asked(asked.cutoff, asked.rows.take(order), [asked.requests[n] for n in order])
    found = explore(mixed, sampler(batch_size=3), CONFIG, 120)
    assert found.equals(explored)
    few = Asked(asked.cutoff, asked.rows.slice(2, 2), asked.requests[2:4])
    users = few.rows["user_id"].combine_chunks()
    assert explore(few, sampler(), CONFIG, 120).equals(explored.filter(pc.is_in(explored["user_id"], value_set=users)))
    more = explore(asked, sampler(), ExploreConfig(n_candidates=7, styles=CONFIG.styles, seed=3), 120)
    assert set(explored["candidate_id"].to_pylist()) < set(more["candidate_id"].to_pylist())


def test_ids_are_distinct_and_stable(asked, explored):
    ids = explored["candidate_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    same = explore(asked, scripted(lambda prompt: "A text."), CONFIG, 120)  # equal texts stay, as draws
    assert same.num_rows == 5 * N == len(set(same["candidate_id"].to_pylist()))
    one = same.slice(0, 1)
    changes = {"user_id": "x", "window_digest": "x", "style": "x", "draw": 9, "text": "x", "generator_id": "x"}
    rows = one.select(["user_id", "window_digest", "style", "draw", "text", "n_lint", "supported", "call_key"])
    made = [as_candidates(rows, asked.cutoff, "name", one["generator_id"][0].as_py())["candidate_id"][0].as_py()]
    assert made == one["candidate_id"].to_pylist()  # who is called what is no content
    for name, value in changes.items():
        generator_id = value if name == "generator_id" else one["generator_id"][0].as_py()
        changed = rows
        if name in rows.column_names:
            column = pa.array([value], rows.schema.field(name).type)
            changed = rows.set_column(rows.schema.get_field_index(name), name, column)
        made.append(as_candidates(changed, asked.cutoff, "name", generator_id)["candidate_id"][0].as_py())
    assert len(set(made)) == len(changes) + 1


NO_CANDIDATE = [  # answers that leave no text
    "",
    "   ",
    "https://example.org/x",
    Completion("Half a text", n_tokens=9, problem="unfinished"),
    Completion("", n_tokens=0, problem="refused"),
]


@pytest.mark.parametrize("answer", NO_CANDIDATE)
def test_an_empty_text_is_no_candidate(asked, answer):
    dull = asked.requests[1].summary["newest"][0]["title"]
    found = explore(asked, scripted(lambda prompt: answer if dull in prompt else "A text."), CONFIG, 120)
    silent = {r.user_id for r in asked.requests if dull in render(r.summary, "brief")}
    assert asked.requests[1].user_id in silent
    assert set(found["user_id"].to_pylist()) == set(asked.rows["user_id"].to_pylist()) - silent


def test_texts_are_linted_and_counted(asked):
    found = explore(
        asked, scripted(lambda prompt: "Likes **Drama**, see https://a.org/x now. " + "word " * 50), CONFIG, 20
    )
    row = found.to_pylist()[0]
    assert row["text"] == "Likes Drama, see now." and row["n_words"] == 4 and row["n_lint"] == 4
    assert row["cutoff"] == asked.cutoff and len(row["call_key"]) == 64


def test_pending_calls_are_refused(asked):
    def script(prompt):
        return Completion("", 0, error="timeout") if "style: brief" in prompt else "A text."

    with pytest.raises(DataError, match=f"{2 * N} of {5 * N} calls of scripted got no answer"):
        explore(asked, scripted(script), CONFIG, 120)


def test_support_is_that_of_the_own_prompt(asked):
    """Every text names what one user's prompt says: supported there, and elsewhere only where names coincide."""
    [top] = asked.requests[0].summary["top_categories"][:1]
    text = f"Mostly {top['name']}, never Xyzzy."
    found = explore(asked, scripted(lambda prompt: text), CONFIG, 120)
    prompts = {r.user_id: render(r.summary, "brief") for r in asked.requests}
    expected = supported_shares([text] * found.num_rows, [prompts[user] for user in found["user_id"].to_pylist()])
    assert found["supported"].to_pylist() == expected.tolist()
    assert found["supported"][0].as_py() == 0.5 and set(expected) <= {0, 0.5}
    nameless = explore(asked, scripted(lambda prompt: "Likes films."), CONFIG, 120)
    assert nameless["supported"].null_count == nameless.num_rows


class Claims:
    """Structured answers: counted claims take the place of names."""

    name, generator_id, reads_history = "claims", "id of claims", False

    def write(self, requests, progress=None):
        claim = Claim("Likes Xyzzy.", (1,))
        yield [Draft("Likes Xyzzy.", (claim,) * 3, n_dropped=n) for n, _ in enumerate(requests)]


def test_claims_are_counted(asked):
    found = candidates_of(asked, Claims(), 120)
    assert found["supported"].to_pylist() == pytest.approx([3 / (3 + n) for n in range(N)])
    assert found["user_id"].equals(asked.rows["user_id"].cast(pa.string()))


def test_prompts_are_the_engines_in_the_style_of_the_release(asked, explored):
    generator = scripted(lambda prompt: "A text.")
    for style in ("narrative", "analyst"):
        prompts = prompts_of(asked, generator, style)
        assert prompts.schema == PROMPTS
        assert prompts["prompt"].to_pylist() == [render(r.summary, style) for r in asked.requests]
        for name in ("user_id", "window_digest", "n_interactions"):
            assert prompts[name].to_pylist() == asked.rows[name].to_pylist()
    list(generator.write([replace(r, style="analyst") for r in asked.requests]))
    assert sorted(generator.engine.seen) == sorted(prompts["prompt"].to_pylist())
    windows = dict(zip(prompts["user_id"].to_pylist(), prompts["window_digest"].to_pylist(), strict=True))
    assert all(windows[row["user_id"]] == row["window_digest"] for row in explored.to_pylist())


def test_a_prompt_that_does_not_fit_is_left_out(asked):
    sizes = sorted(len(render(r.summary, "brief", 0)) for r in asked.requests)
    engine = ScriptedEngine(lambda prompt: "A text.", prompt_budget=sizes[2])
    prompts = prompts_of(asked, LanguageModelGenerator(RowsPrompt(), engine), "brief")
    assert 3 <= prompts.num_rows < N and all(len(text) <= sizes[2] for text in prompts["prompt"].to_pylist())


def test_who_is_asked_about(tmp_path):
    cutoff = T0 + 10 * DAY
    events = [("b", "i", T0, 5.0), ("a", "i", T0, 5.0), ("late", "i", cutoff, 5.0), ("other", "i", T0, 5.0)]
    home = write_home(tmp_path, events)
    found = ask(home, cutoff, pa.array(["late", "b", "a", "nobody"]), WINDOW, 5.0, reads_history=True)
    assert found.rows["user_id"].to_pylist() == ["a", "b"] == [r.user_id for r in found.requests]
    assert [len(request.history) for request in found.requests] == [1, 1]


def test_recorded_texts(asked):
    known = asked.rows["user_id"].to_pylist()
    users = [known[2], "stranger", known[0], known[2], known[1], known[3]]
    texts = ["Likes Drama.", "Likes War.", "**Likes** Crime", "Likes Drama.", "", None]
    found = recorded(asked, users, texts, "elsewhere")
    rows = found.to_pylist()
    assert [(row["user_id"], row["text"], row["draw"], row["n_lint"]) for row in rows] == [
        (known[2], "Likes Drama.", 0, 0),
        (known[0], "Likes Crime", 0, 2),
        (known[2], "Likes Drama.", 1, 0),  # the same again is another draw
    ]
    assert found.schema == CANDIDATES and len({row["candidate_id"] for row in rows}) == 3
    digests = dict(zip(known, asked.rows["window_digest"].to_pylist(), strict=True))
    assert all(row["window_digest"] == digests[row["user_id"]] and row["supported"] is None for row in rows)
    other = recorded(asked, users, texts, "another")
    assert not set(other["candidate_id"].to_pylist()) & {row["candidate_id"] for row in rows}
    assert recorded(asked, ["stranger"], ["text"], "elsewhere").num_rows == 0


REFUSED = [  # config, error
    ({"styles": ("brief", "narrative", "brief")}, ConfigError),
    ({"styles": ()}, ValueError),
    ({"n_candidates": 1}, ValueError),
    ({"temperature": 0}, ValueError),
]


@pytest.mark.parametrize(("config", "error"), REFUSED)
def test_configs_that_are_refused(config, error):
    with pytest.raises(error):
        ExploreConfig(**config)


def test_texts_elsewhere_may_not_have_seen_what_they_are_judged_on():
    def told(*days: float | None) -> dict[str, int]:
        ends = pa.array([None if day is None else T0 + day * DAY for day in days], pa.timestamp("us", tz="UTC"))
        rows = pa.table({"user_id": [f"u{n}" for n in range(len(days))], "window_end": ends})
        return stated_windows(rows, pa.array(["u0", "u1", "u2"]), T0, "gpt")

    assert told(-1, 0, None) == {"with_window_end": 2, "without_window_end": 1}  # a window is half-open
    assert told(-1, 0, None, 1) == told(-1, 0, None)  # u3 takes no part
    with pytest.raises(LeakageError, match="1 of 3 texts of gpt were written from windows that end after"):
        told(-1, 1e-6, None)
