"""What a run would cost, before it is made: calls counted, tokens measured on a sample of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.generation.engine import call_key
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.results import ResultStore
from lettingo_features.profiles.build import ProfileBuild
from lettingo_features.profiles.language_model import LanguageModelGenerator


class EstimateConfig(Config):
    """How a run is estimated."""

    sample: int = Field(default=500, ge=1)
    """Prompts rendered and measured, drawn evenly over cutoffs and, within one, over users."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Generated tokens per second of all workers together, as an earlier run's report has it; without it no time is
    told."""


class Estimate(Config):
    """What a run would ask and cost; counts are of the language model's calls."""

    cutoffs: int
    requests: int
    "User snapshots that are due a text of the language model."
    calls: int
    "Of these, not in the ledger yet, by the share of the sample."
    sampled: int
    rows_trimmed: int
    "History rows of the sample that do not fit the model's context."
    too_long: int
    "Prompts of the sample that do not fit at all."
    tokens_in: int
    tokens_out: int
    "By the answers in the ledger where the sample has some, else the most that the settings allow."
    tokens_out_is_bound: bool
    cost_usd: float | None
    "None where no price is known."
    seconds: float | None
    "None where no speed is known."

    def to_text(self) -> str:
        """A few lines for a terminal."""
        most = "at most " if self.tokens_out_is_bound else "about "
        time = f"{self.seconds:,.0f} s" if self.seconds is not None else "unknown without --tokens-per-second"
        no_price = "not counted without --price-in and --price-out"
        money = f"{most}{self.cost_usd:,.2f} USD" if self.cost_usd is not None else no_price
        return (
            f"{self.requests:,} user snapshots at {self.cutoffs} cutoffs are due a text of the language model: "
            f"{self.calls:,} calls\n"
            f"tokens: about {self.tokens_in:,} read, {most}{self.tokens_out:,} written "
            f"({self.sampled:,} prompts measured, {self.rows_trimmed:,} rows and {self.too_long:,} prompts too long)\n"
            f"money: {money}; time: {time}"
        )


def estimate(
    build: ProfileBuild,
    generator: LanguageModelGenerator,
    cutoffs: Sequence[datetime],
    ledger: Ledger | None,
    config: EstimateConfig | None = None,
) -> Estimate:
    """Plan ``build`` at ``cutoffs`` and measure a sample; makes no call and writes nothing.

    ``generator`` is the build's, on an engine whose config has the prices; ``ledger`` is None where none was made yet
    (`Ledger.existing`). Equal prompts are one call of a greedy
    engine; those that the sample does not hold are counted as different, so that a run may need fewer calls.
    """
    config = config or EstimateConfig()
    engine = generator.engine
    planned = build.plan(cutoffs, sample=-(-config.sample // len(cutoffs)))
    n_planned = sum(n for n, _ in planned)
    sample = [request for _, requests in planned for request in requests]
    fitted = generator.fitted(sample)
    asked = [(prompt.text, request) for prompt, request in zip(fitted, sample, strict=True) if prompt.text is not None]
    sizes = engine.n_tokens([text for text, _ in asked])
    keys = [call_key(engine, text, request.stream(generator.seed)) for text, request in asked]
    parts = {call.key: call.part for call in (ledger.look_up(keys) if ledger else {}).values() if call.part}
    known = ResultStore(build.home).get(parts)
    calls = round(n_planned * len(set(keys) - set(known)) / len(sample)) if sample else 0
    frame = engine.n_tokens([generator.prompt.instruction])[0] if generator.prompt.instruction else 0
    written = [answer.n_tokens for answer in known.values()]
    per_answer = float(np.mean(written)) if written else float(engine.config.max_new_tokens)
    tokens_in = round(calls * (frame + (float(np.mean(sizes)) if sizes else 0.0)))
    tokens_out = round(calls * per_answer)
    speed, priced = config.tokens_per_second, engine.config.price_in or engine.config.price_out
    return Estimate(
        cutoffs=len(cutoffs),
        requests=n_planned,
        calls=calls,
        sampled=len(sample),
        rows_trimmed=sum(prompt.n_trimmed for prompt in fitted),
        too_long=sum(prompt.text is None for prompt in fitted),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_out_is_bound=not written,
        cost_usd=engine.config.cost(tokens_in, tokens_out) if priced else None,
        seconds=tokens_out / speed if speed else None,
    )
