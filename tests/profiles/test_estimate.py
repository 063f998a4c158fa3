"""What a dry run says: counts that the run then makes, and no trace of having been made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import INTERACTIONS, ITEMS
from lettingo_features.generation.engine import Completion, EngineConfig, content_id
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.runner import Runner, RunnerConfig
from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuild, ProfileBuildConfig
from lettingo_features.profiles.estimate import EstimateConfig, estimate
from lettingo_features.profiles.language_model import LanguageModelGenerator
from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt, LettinGoPromptConfig
from lettingo_features.profiles.statistical import StatisticalGenerator

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CUTOFF = T0 + 30 * DAY


class WordEngine:
    """Answers with ``answer``; a token is a word; remembers what it was asked."""

    name, samples, prompt_budget = "words", False, 10_000

    def __init__(self, answer: str = "Likes drama.") -> None:
        self.config = EngineConfig(model="words", max_new_tokens=50, price_in=1.0, price_out=10.0)
        self.identity = content_id("words", answer)
        self.answer, self.asked = answer, []

    def n_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def generate(self, prompts, streams):
        for index, prompt in enumerate(prompts):
            self.asked.append(prompt)
            size = self.n_tokens([prompt])[0]
            yield index, Completion(self.answer, 2, n_prompt_tokens=size, cost=self.config.cost(size, 2))

    def close(self):
        pass


class Encoder:
    encoder_id, dim = "fake", 1

    def encode(self, texts):
        return np.ones((len(texts), 1), np.float32)


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path).create()
    ids = [f"i{k}" for k in range(121)]
    items = pa.table([ids, [f"Title {k}" for k in ids], [["Drama"]] * 121, [None] * 121, [T0] * 121], schema=ITEMS)
    home.write_part("items", "p", items, ITEMS)
    users = [f"u{n:02d}" for n in range(20) for _ in range(6)] + ["cold"]
    times = [T0 + (k % 6) * DAY + (k // 6) * timedelta(minutes=1) for k in range(121)]
    table = pa.table(
        [users, [f"i{k}" for k in range(121)], times, times, [4.0] * 121, [None] * 121, [None] * 121],
        schema=INTERACTIONS,
    )
    home.write_part("interactions", "p", table, INTERACTIONS)
    return home


def writer(home: Home, engine: WordEngine, version: str = "lettingo-1", **config):
    prompt = LettinGoPrompt(LettinGoPromptConfig(version=version))
    runner = Runner(engine, Ledger(home.ledger_url), home, RunnerConfig(**config))
    return LanguageModelGenerator(prompt, engine, runner), runner


def build(home: Home, generator) -> ProfileBuild:
    return ProfileBuild(home, ProfileBuildConfig(release="r"), StatisticalGenerator(), generator, Encoder())


def test_the_run_makes_the_calls_that_were_told(home):
    engine = WordEngine()
    generator, runner = writer(home, engine)
    before = sorted(path for path in home.offline.rglob("*"))
    told = estimate(build(home, generator), generator, [CUTOFF], Ledger(home.ledger_url))
    assert engine.asked == [] and sorted(home.offline.rglob("*")) == before
    assert (told.requests, told.calls, told.sampled, told.tokens_out, told.tokens_out_is_bound) == (
        20,
        20,
        20,
        1000,
        True,
    )
    report = build(home, generator).run([CUTOFF])
    assert len(engine.asked) == told.calls == report.written["words"]
    assert report.written["statistical"] == 1
    frame = engine.n_tokens([generator.prompt.instruction])[0]
    assert told.tokens_in == runner.report.tokens_in + 20 * frame  # this engine reads no instruction


def test_a_backfill_counts_only_what_changes(home):
    late = pa.table([["u00"], ["new"], [CUTOFF + DAY], [CUTOFF + DAY], [4.0], [None], [None]], schema=INTERACTIONS)
    home.write_part("interactions", "late", late, INTERACTIONS)
    engine = WordEngine()
    generator, _ = writer(home, engine)
    cutoffs = [CUTOFF, CUTOFF + 2 * DAY, CUTOFF + 3 * DAY]
    told = estimate(build(home, generator), generator, cutoffs, Ledger(home.ledger_url))
    build(home, generator).run(cutoffs)
    assert told.requests == len(engine.asked) == 21


def test_known_answers_cost_nothing_and_tell_the_length(home):
    generator, _ = writer(home, WordEngine())
    build(home, generator).run([CUTOFF], users=pa.array([f"u{n:02d}" for n in range(10)]))
    again = ProfileBuild(home, ProfileBuildConfig(release="other"), StatisticalGenerator(), generator, Encoder())
    told = estimate(again, generator, [CUTOFF], Ledger(home.ledger_url), EstimateConfig(tokens_per_second=4))
    assert (told.requests, told.calls, told.tokens_out, told.tokens_out_is_bound) == (20, 10, 20, False)
    assert told.seconds == 5
    assert told.cost_usd == pytest.approx((told.tokens_in * 1.0 + 20 * 10.0) / 1e6)


def test_a_budget_stops_cleanly_and_the_next_run_goes_on(home):
    engine = WordEngine()
    price = engine.config.cost(18, 2)  # about one call
    generator, runner = writer(home, engine, budget_usd=5 * price, claim_size=2)
    report = build(home, generator).run([CUTOFF])
    assert runner.report.stopped == "budget"
    assert 0 < report.written["words"] < 20
    assert report.users_pending == 20 - report.written["words"]
    first = list(engine.asked)
    generator, _ = writer(home, engine)
    report = build(home, generator).run([CUTOFF])
    assert report.users_pending == 0
    assert len(engine.asked) == 20 and len(set(engine.asked)) == 20 and engine.asked[: len(first)] == first


ANSWERS = [  # answer of the model                                                      calls  texts  dropped  counted
    ('{"profile":"Likes drama.","claims":[{"claim":"Likes drama","interactions":[1]}]}', 20, 20, 0, {}),  # 0
    (
        '{"profile":"P.","claims":[{"claim":"A","interactions":[1,99]},{"claim":"B","interactions":[0]}]}',
        20,
        20,
        60,
        {"references_dropped": 40, "claims_dropped": 20},
    ),  # 1  rows that were not shown
    ("Likes drama.", 40, 0, 0, {"repairs": 20, "invalid": 20}),  # 2  no JSON, and none after one repair
]


@pytest.mark.parametrize(("answer", "calls", "texts", "dropped", "counted"), ANSWERS)
def test_claims_are_parsed_repaired_once_and_counted(home, answer, calls, texts, dropped, counted):
    engine = WordEngine(answer)
    generator, _ = writer(home, engine, "lettingo-claims-1")
    report = build(home, generator).run([CUTOFF])
    assert (len(engine.asked), report.written.get("words", 0), report.claims_dropped) == (calls, texts, dropped)
    assert report.fallbacks == 20 - texts
    assert {name: n for name, n in generator.counts.items() if n} == counted


def test_a_text_that_repeats_the_instruction_falls_back(home):
    engine = WordEngine(LettinGoPrompt().instruction.replace("\n", " ")[200:400])
    generator, _ = writer(home, engine)
    report = build(home, generator).run([CUTOFF])
    assert (report.fallbacks, generator.counts["leaked"]) == (20, 20)


def test_a_text_with_the_canary_falls_back(home):
    engine = WordEngine("The record is K7-4411-QX.")
    prompt = LettinGoPrompt(LettinGoPromptConfig(canary="K7-4411-QX"))
    generator = LanguageModelGenerator(prompt, engine, Runner(engine, Ledger(home.ledger_url), home))
    report = build(home, generator).run([CUTOFF])
    assert (report.fallbacks, generator.counts["leaked"]) == (20, 20)


def test_findings_in_claims_are_counted(home):
    answer = '{"profile":"Likes **drama**.","claims":[{"claim":"Likes www.x.org/y drama","interactions":[1]}]}'
    generator, _ = writer(home, WordEngine(answer), "lettingo-claims-1")
    report = build(home, generator).run([CUTOFF])
    assert report.lint_findings == 3 * 20


class Masker:
    """Stands in for the pattern recognisers: what it hides gets longer."""

    def mask(self, texts):
        return [(text.replace("Title", "(a mask of words)"), text.count("Title")) for text in texts]


def test_personal_data_is_masked_in_prompts_texts_and_claims(home):
    engine = WordEngine('{"profile":"Likes Title.","claims":[{"claim":"Likes Title","interactions":[1]}]}')
    engine.prompt_budget = 40
    prompt = LettinGoPrompt(LettinGoPromptConfig(version="lettingo-claims-1"))
    runner = Runner(engine, Ledger(home.ledger_url), home)
    generator = LanguageModelGenerator(prompt, engine, runner, privacy=Masker())
    (drafts,) = generator.write(build(home, generator).plan([CUTOFF], sample=3)[0][1])
    assert [(draft.text, draft.claims[0].text) for draft in drafts] == [
        ("Likes (a mask of words).", "Likes (a mask of words)")
    ] * 3
    assert all("Title" not in asked and len(asked.split()) <= 40 for asked in engine.asked)
    assert generator.counts["masked"] > 0
