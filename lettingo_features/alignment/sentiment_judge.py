"""LettinGo's reward: does a language model that reads the profile foretell how the person takes a later item?

Source: LettinGo (arXiv 2506.18309) section 3.2.2. A candidate is positive if the answer is the true class, else
negative: one binary outcome on one item. What the paper lacks stands beside it: the same judge without a profile and
with another user's, the class prior, the trivial rules, and the log-probability of the true class as a finer reward.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment import sentiment_prompt as asked
from lettingo_features.alignment.judge_inputs import JudgeInputs, judge_inputs
from lettingo_features.alignment.sentiment import (
    CLASSES,
    UNPARSABLE,
    JudgeResult,
    SentimentRow,
    SentimentScale,
    prior,
    sentiment_row,
    trivial_answers,
)
from lettingo_features.alignment.tables import REWARDS
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.generation.engine import Completion, Engine, content_id
from lettingo_features.generation.likelihood import AnswerLikelihoods
from lettingo_features.generation.runner import Runner

VERSION = "2"
"""Part of every reward's identity: raise it with any change to values that neither prompt nor settings show."""
NOT_ANSWERED = -2
"""Stands for a call without an answer: no reward. A later run asks again, unless the call was given up."""
_SHOWN_CHARS = 200  # of an answer that is none


class SentimentJudgeConfig(Config):
    """How the judge decides."""

    scale: SentimentScale
    """From ratings to classes; part of the reward's identity."""
    by: Literal["answer", "likelihood"] = "answer"
    """``answer``: the paper's, 1 for the true class, else 0. ``likelihood``: log p(true class), of the three answers'
    log-probabilities under a model in this process; it ranks candidates that answer alike."""
    seed: int = 0
    """Of the shuffled control and the intervals."""


class SentimentJudge:
    """A frozen language model that judges candidates.

    ::

        told = OpenAIConfig(model="m", instruction=INSTRUCTION, json_schema=JSON_SCHEMA, base_url=...)
        engine = OpenAIEngine(told)
        judge = SentimentJudge(engine, config, Runner(engine, Ledger(home.ledger_url), home))
        result = judge.score(candidates, targets, history_rows(...), interactions)

    Parameters
    ----------
    engine
        At temperature 0, told `sentiment_prompt.INSTRUCTION` and, where answers are decoded, ``JSON_SCHEMA``. For
        ``by="likelihood"`` an `AnswerLikelihoods` of `sentiment_prompt.ANSWERS`.
    runner
        Of this engine: makes the calls through the ledger, so that an interrupted run goes on; without one the engine
        is asked directly.

    Raises
    ------
    ConfigError
        The engine samples, or cannot give likelihoods and should.
    """

    def __init__(self, engine: Engine, config: SentimentJudgeConfig, runner: Runner | None = None) -> None:
        if engine.samples:
            raise ConfigError("A judge must answer the same each time: set its engine's temperature to 0.")
        if (config.by == "likelihood") != isinstance(engine, AnswerLikelihoods):
            raise ConfigError(
                f"by='likelihood' reads the probabilities of a model in this process, an AnswerLikelihoods, and "
                f"by='answer' what an engine writes; {engine.name} gives the other of the two."
            )
        self.engine, self.config, self.runner = engine, config, runner

    @property
    def reward_id(self) -> str:
        """sha256 of the judge and its settings: the column ``reward``."""
        settings = (self.config.by, self.config.scale.model_dump_json())
        return content_id("sentiment_judge", VERSION, asked.PROMPT_ID, self.engine.identity, *settings)

    def score(
        self, candidates: pa.Table, targets: pa.Table, histories: pa.Table, interactions: pa.Table
    ) -> JudgeResult:
        """Judge each candidate on its user's target.

        Parameters
        ----------
        candidates
            Schema `tables.CANDIDATES`; numbers that smuggle a rating are scrubbed before (`rating_scrub.scrubbed`).
        targets
            One held-out later interaction a user: user_id, item_id, title, categories, event_timestamp, rating.
        histories
            Schema `history.HISTORY`, one row a user; the recent segment is shown.
        interactions
            user_id, event_timestamp, rating: what the trivial rules know, up to each user's cutoff in ``histories``.

        Raises
        ------
        DataError
            A user with two targets or histories, a target without a rating, or a judge with room for no prompt.
        LeakageError
            A target is older than the end of a window that the judge or a candidate saw.
        """
        sizes = (self.engine.n_tokens, self.engine.prompt_budget)
        inputs = judge_inputs(candidates, targets, histories, self.config.seed, *sizes)
        counts = Counter(inputs.counts)
        answered = self._ask(inputs.prompts, counts)
        truth = self.config.scale.classes(inputs.users[c.RATING].to_numpy())
        rewards = self._rewards(inputs, answered, truth)
        told = answered.told[inputs.of_candidates]
        counts["judged"] = len(rewards)
        counts["unparsable"] = int((told == UNPARSABLE).sum())
        rows = self._rows(inputs, answered, truth, trivial_answers(interactions, inputs.users, self.config.scale))
        return JudgeResult(rewards, dict(counts), prior(truth), self.config.scale, rows)

    def _ask(self, prompts: Sequence[str], counts: Counter[str]) -> _Answered:
        sizes = np.array(self.engine.n_tokens(prompts), dtype=int)
        fits = np.flatnonzero(sizes <= self.engine.prompt_budget)
        counts["prompt_too_long"] = len(prompts) - len(fits)
        if len(sizes) and not len(fits):
            raise DataError(
                f"The judge {self.engine.name} has room for prompts of {self.engine.prompt_budget:,} tokens, and the "
                f"shortest of {len(sizes):,}, with one recent interaction, has {sizes.min():,}. Take a judge with a "
                "longer context."
            )
        found = _Answered.none(len(prompts))
        some = [prompts[row] for row in fits]
        for row, answer in zip(fits, self._completions(some), strict=True):
            if answer is None or answer.error:
                counts["pending"] += 1
            elif answer.problem != "given_up":
                self._note(found, row, answer)
        counts["not_answered"] = int((found.told[fits] == NOT_ANSWERED).sum())
        return found

    def _note(self, found: _Answered, row: int, answer: Completion) -> None:
        if self.config.by == "likelihood":
            log_p = np.array(json.loads(answer.text))
            log_p -= np.logaddexp.reduce(log_p)  # of the three answers, as a schema leaves them
            found.told[row], found.log_p[row], found.texts[row] = log_p.argmax(), log_p, CLASSES[log_p.argmax()]
        else:
            found.told[row] = told = parse_answer(answer)
            found.texts[row] = CLASSES[told] if told != UNPARSABLE else answer.text[:_SHOWN_CHARS]

    def _completions(self, prompts: list[str]) -> list[Completion | None]:
        streams = [0] * len(prompts)
        if self.runner is not None:
            return self.runner.run(prompts, streams)
        answers: list[Completion | None] = [None] * len(prompts)
        for index, answer in self.engine.generate(prompts, streams):
            answers[index] = answer
        return answers

    def _rewards(self, inputs: JudgeInputs, answered: _Answered, truth: np.ndarray) -> pa.Table:
        told = answered.told[inputs.of_candidates]
        true = truth[inputs.user]
        bare = answered.told[inputs.of_users]
        if self.config.by == "likelihood":
            value = answered.log_p[inputs.of_candidates, true]
            no_profile = answered.log_p[inputs.of_users, truth]
        else:
            value, no_profile = (told == true).astype(float), (bare == truth).astype(float)
        no_profile = np.where(bare == NOT_ANSWERED, np.nan, no_profile)[inputs.user]
        n = len(told)
        rows = pa.table(
            [
                inputs.candidates["candidate_id"],
                inputs.candidates[c.USER_ID],
                pa.array([self.reward_id] * n, pa.string()),
                pa.array(value),
                pa.array(value),
                pa.array(np.zeros(n)),
                pa.array(no_profile, from_pandas=True),
                pa.array(np.ones(n, np.int64)),
                pa.array(told == true),
                pa.array(answered.texts[inputs.of_candidates], pa.string()),
            ],
            schema=REWARDS,
        )
        return rows.filter(pa.array(told != NOT_ANSWERED))

    def _rows(
        self, inputs: JudgeInputs, answered: _Answered, truth: np.ndarray, trivial: dict[str, np.ndarray]
    ) -> list[SentimentRow]:
        everyone = np.arange(len(truth))
        generator = inputs.candidates[c.GENERATOR].to_numpy(zero_copy_only=False)
        names = sorted(pc.unique(inputs.candidates[c.GENERATOR]).to_pylist())
        named = [(f"profile: {name}", np.flatnonzero(generator == name)) for name in names if len(names) > 1]
        rows = []
        for name, at in [("profile", np.arange(len(generator))), *named]:
            rows.append((name, inputs.user[at], answered.at(inputs.of_candidates[at])))
        rows += [
            ("no profile", everyone, answered.at(inputs.of_users)),
            ("shuffled profile", everyone, answered.at(inputs.of_shuffled)),
            *((name.replace("_", " "), everyone, _Answered(told)) for name, told in trivial.items()),
        ]
        made = [self._row(name, users, found, truth) for name, users, found in rows]
        return [row for row in made if row is not None]

    def _row(self, name: str, users: np.ndarray, found: _Answered, truth: np.ndarray) -> SentimentRow | None:
        kept = found.told != NOT_ANSWERED
        users, told = users[kept], found.told[kept]
        true = truth[users]
        ranked = self.config.by == "likelihood" and found.log_p is not None
        return sentiment_row(name, users, told, true, self.config.seed, found.log_p[kept, true] if ranked else None)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What came back for each prompt."""

    told: np.ndarray
    """Index into `CLASSES`, `UNPARSABLE` or `NOT_ANSWERED`, int64 (N,)."""
    log_p: np.ndarray | None = None
    """Of each class, float64 (N, 3)."""
    texts: np.ndarray | None = None
    """The class, or what an unparsable answer said, (N,)."""

    @classmethod
    def none(cls, n: int) -> _Answered:
        return cls(np.full(n, NOT_ANSWERED), np.full((n, len(CLASSES)), np.nan), np.full(n, "", object))

    def at(self, rows: np.ndarray) -> _Answered:
        return _Answered(self.told[rows], None if self.log_p is None else self.log_p[rows])


def parse_answer(answer: Completion) -> int:
    """Index into `CLASSES`, or `UNPARSABLE` for any other text or a completion with a problem."""
    return UNPARSABLE if answer.problem else asked.parse(answer.text)
