"""Profiles written by a language model, through any engine, with or without the ledger of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from lettingo_features.errors import AnswerError
from lettingo_features.generation.engine import Completion, Engine, call_key, content_id
from lettingo_features.generation.runner import Runner
from lettingo_features.profiles import structured
from lettingo_features.profiles.generator import Draft, ProfileRequest, Progress
from lettingo_features.profiles.leaks import LeakCheck
from lettingo_features.profiles.prompt import FittedPrompt

if TYPE_CHECKING:
    from lettingo_features.generation.privacy import PrivacyFilter

VERSION = "2"
"""Part of the identity: raise it with any change to the texts that neither prompt nor model nor settings show."""


class ProfilePrompt(Protocol):
    """What is asked about a user: `prompt.RowsPrompt` or `lettingo_prompt.LettinGoPrompt`."""

    instruction: str
    json_schema: str | None
    reads_history: bool
    canary: str
    """Secret in the instruction that no text may hold; "" for none."""

    @property
    def identity(self) -> str:
        """sha256 of all that it adds to the facts."""
        ...

    def fitted(
        self, requests: Sequence[ProfileRequest], n_tokens: Callable[[Sequence[str]], Sequence[int]], budget: int
    ) -> list[FittedPrompt]:
        """One prompt per request, within ``budget`` tokens: the oldest rows go first, counted."""
        ...


class LanguageModelGenerator:
    """A `generator.Generator` on an engine.

    ::

        prompt = LettinGoPrompt()
        engine = OpenAIEngine(OpenAIConfig(model="m", instruction=prompt.instruction, base_url="http://127.0.0.1:8000/v1"))
        generator = LanguageModelGenerator(prompt, engine, Runner(engine, Ledger(home.ledger_url), home))

    A request whose text cannot be used (a prompt that is too long, an empty, cut, looping, refused or leaking answer,
    JSON that is broken even after one repair) gets "", and the caller falls back; one without an answer is pending.
    `counts` says how many and why. Nothing is shortened silently: ``rows_trimmed`` counts rows that did not fit.

    Parameters
    ----------
    prompt
        Its ``instruction`` and ``json_schema`` must be the engine's.
    runner
        Makes the calls through the ledger; without one the engine is asked directly and nothing is remembered.
    seed
        Of the users' random streams, for an engine that samples.
    name
        For tables and reports; the engine's when left out.
    privacy
        Masks personal data in prompts before they are asked and in texts before they are kept; counted as ``masked``.
    at_once
        Requests handed to the engine together, and the size of a yielded batch.
    """

    def __init__(
        self,
        prompt: ProfilePrompt,
        engine: Engine,
        runner: Runner | None = None,
        seed: int = 0,
        name: str = "",
        privacy: PrivacyFilter | None = None,
        at_once: int = 4_096,
    ) -> None:
        self.prompt, self.engine, self.runner, self.seed = prompt, engine, runner, seed
        self.name = name or engine.name
        self.reads_history = prompt.reads_history
        self.privacy, self.at_once = privacy, at_once
        self.counts: Counter[str] = Counter()
        self._leaks = LeakCheck(prompt.instruction, prompt.canary)

    @cached_property
    def generator_id(self) -> str:
        seed = str(self.seed) if self.engine.samples else ""
        masked = "masked" if self.privacy else ""
        return content_id("language_model", VERSION, self.prompt.identity, self.engine.identity, seed, masked)

    def write(self, requests: Sequence[ProfileRequest], progress: Progress | None = None) -> Iterator[list[Draft]]:
        """Yield drafts in the order of ``requests``, up to ``at_once`` at a time."""
        for start in range(0, len(requests), self.at_once):
            window = requests[start : start + self.at_once]
            fitted = self.fitted(window)
            asked = [row for row, prompt in enumerate(fitted) if prompt.text is not None]
            drafts = [Draft("")] * len(window)
            for row, draft in zip(
                asked, self._drafts([window[r] for r in asked], [fitted[r] for r in asked]), strict=True
            ):
                drafts[row] = draft
            if progress:
                progress(start + len(window), len(requests))
            yield drafts

    def fitted(self, requests: Sequence[ProfileRequest]) -> list[FittedPrompt]:
        """The prompt of each request; its text is None where even the shortest does not fit."""
        prompts = self.prompt.fitted(requests, self._sizes, self.engine.prompt_budget)
        texts = self._masked([prompt.text or "" for prompt in prompts])
        prompts = [replace(p, text=text) if p.text else p for p, text in zip(prompts, texts, strict=True)]
        self.counts["rows_trimmed"] += sum(prompt.n_trimmed for prompt in prompts)
        self.counts["prompt_too_long"] += sum(prompt.text is None for prompt in prompts)
        return prompts

    def _drafts(self, requests: Sequence[ProfileRequest], prompts: Sequence[FittedPrompt]) -> list[Draft]:
        texts = [prompt.text for prompt in prompts]
        answers = self._ask(texts, requests)
        keys = [call_key(self.engine, text, self._stream(r)) for text, r in zip(texts, requests, strict=True)]
        if self.prompt.json_schema is not None:
            self._repair(requests, prompts, answers, keys)
        drafts = [self._draft(*row) for row in zip(prompts, answers, keys, strict=True)]
        return [self._without_personal_data(draft) for draft in drafts] if self.privacy else drafts

    def _without_personal_data(self, draft: Draft) -> Draft:
        text, *claims = self._masked([draft.text, *(claim.text for claim in draft.claims)])
        kept = tuple(replace(claim, text=line) for claim, line in zip(draft.claims, claims, strict=True))
        return replace(draft, text=text, claims=kept)

    def _sizes(self, texts: Sequence[str]) -> list[int]:
        """Tokens as they will be asked: a mask may be longer than what it hides."""
        if self.privacy is None:
            return self.engine.n_tokens(texts)
        return self.engine.n_tokens([text for text, _ in self.privacy.mask(list(texts))])

    def _masked(self, texts: list[str]) -> list[str]:
        if self.privacy is None:
            return texts
        masked = self.privacy.mask(texts)
        self.counts["masked"] += sum(n for _, n in masked)
        return [text for text, _ in masked]

    def _ask(self, texts: Sequence[str], requests: Sequence[ProfileRequest]) -> list[Completion | None]:
        streams = [self._stream(request) for request in requests]
        if self.runner is not None:
            return self.runner.run(texts, streams)
        answers: list[Completion | None] = [None] * len(texts)
        for index, answer in self.engine.generate(texts, streams):
            answers[index] = answer
        return answers

    def _stream(self, request: ProfileRequest) -> int:
        return request.stream(self.seed)

    def _repair(self, requests, prompts, answers, keys) -> None:
        """Ask once more where JSON is broken; ``answers`` and ``keys`` take the second answer."""
        broken: dict[int, str] = {}
        for row, answer in enumerate(answers):
            if answer is None or answer.error or (answer.problem and answer.problem != "invalid"):
                continue
            try:
                structured.parse(answer.text, prompts[row].n_rows)
            except AnswerError as error:
                rejected = self._masked([answer.text])[0]
                broken[row] = structured.repair_prompt(prompts[row].text, rejected, str(error))
        sizes = self.engine.n_tokens(list(broken.values()))
        again = [row for row, size in zip(broken, sizes, strict=True) if size <= self.engine.prompt_budget]
        self.counts["repairs"] += len(again)
        repaired = self._ask([broken[row] for row in again], [requests[row] for row in again]) if again else []
        for row, answer in zip(again, repaired, strict=True):
            answers[row] = answer
            keys[row] = call_key(self.engine, broken[row], self._stream(requests[row]))

    def _draft(self, prompt: FittedPrompt, answer: Completion | None, key: str) -> Draft:
        if answer is None or answer.error:
            self.counts[answer.error if answer else "not_made"] += 1
            return Draft("", pending=True)
        if answer.problem and not (answer.problem == "invalid" and self.prompt.json_schema):
            return self._unusable(answer.problem, key)
        if self._leaks.found(answer.text):
            return self._unusable("leaked", key)
        if self.prompt.json_schema is None:
            return Draft(answer.text, call_key=key)
        try:
            profile = structured.parse(answer.text, prompt.n_rows)
        except AnswerError:
            return self._unusable("invalid", key)
        self.counts["references_dropped"] += profile.n_dropped_references
        self.counts["claims_dropped"] += profile.n_dropped_claims
        n_dropped = profile.n_dropped_references + profile.n_dropped_claims
        return Draft(profile.text, profile.claims, n_dropped, profile.n_lint, call_key=key)

    def _unusable(self, problem: str, key: str) -> Draft:
        self.counts[problem] += 1
        return Draft("", call_key=key)
