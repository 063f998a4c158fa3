"""How likely a local model finds given answers: one pass over each prompt, no generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from lettingo_features.generation.engine import Completion, content_id
from lettingo_features.generation.transformers_engine import equal_length_batches, left_padded

if TYPE_CHECKING:
    import torch

    from lettingo_features.generation.transformers_engine import TransformersEngine


def answer_log_probs(engine: TransformersEngine, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Log-probability of each answer after each prompt, float64 (N, A).

    The sum over the answer's tokens, in the model's own distribution (no temperature, no schema). The end of the answer
    is not counted: give answers of which none begins another. Each prompt is read once for all answers.

    Raises
    ------
    ModelError
        A prompt exceeds ``engine.prompt_budget``.
    """
    found = np.empty((len(prompts), len(answers)))
    for rows, log_p in _by_batch(engine, engine.frame.prompts(prompts), answers):
        found[rows] = log_p
    return found


class AnswerLikelihoods:
    """An `Engine` that answers with the log-probabilities of ``answers``, a JSON list in their order.

    As an engine it goes through the ledger (`runner.Runner`), so that a killed run repeats no pass. JSON keeps a float
    to its last bit.

    ::

        engine = AnswerLikelihoods(TransformersEngine(config), ("yes", "no"))
        runner = Runner(engine, Ledger(home.ledger_url), home)
        log_p = [json.loads(answer.text) for answer in runner.run(prompts, [0] * len(prompts))]

    Parameters
    ----------
    answers
        None of which begins another; each at most the engine's ``max_new_tokens`` long, for which its
        ``prompt_budget`` leaves room.
    """

    samples = False

    def __init__(self, engine: TransformersEngine, answers: Sequence[str]) -> None:
        self._engine, self._answers = engine, tuple(answers)

    @property
    def name(self) -> str:
        return self._engine.name

    @cached_property
    def identity(self) -> str:
        return content_id("likelihood", self._engine.identity, *self._answers)

    @property
    def prompt_budget(self) -> int:
        return self._engine.prompt_budget

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as data."""
        return self._engine.n_tokens(texts)

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Yield (index into ``prompts``, log-probabilities as JSON), batch by batch; nothing is random."""
        ids = self._engine.frame.prompts(prompts)
        start = monotonic()
        for rows, log_p in _by_batch(self._engine, ids, self._answers):
            seconds, start = monotonic() - start, monotonic()
            for row, own in zip(rows, log_p.tolist(), strict=True):
                yield row, Completion(json.dumps(own), 0, n_prompt_tokens=len(ids[row]), seconds=seconds)

    def close(self) -> None:
        """Free the weights."""
        self._engine.close()


def _by_batch(
    engine: TransformersEngine, ids: list[list[int]], answers: Sequence[str]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows of ``ids`` and the log-probabilities of each answer after them, float64 (B, A)."""
    import torch

    tokens = engine.frame.data(answers)
    longest = max(map(len, tokens))
    asked = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])  # (A, T)
    counts = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in tokens])
    for rows in equal_length_batches([len(row) for row in ids], engine.config.batch_size):
        logits = _logits(engine.model, [ids[row] for row in rows], asked)
        chosen = logits.log_softmax(-1).gather(-1, asked.expand(len(rows), -1, -1)[..., None])[..., 0]
        yield rows, (chosen.double() * counts).sum(-1).numpy()


def _logits(model, ids: list[list[int]], asked: torch.Tensor) -> torch.Tensor:
    """(B, A, T, V) float32: what the model expects at each token of each answer ``asked`` (A, T)."""
    import torch
    from transformers import DynamicCache

    n_answers, n_tokens = asked.shape
    inputs, mask, positions = left_padded(ids)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        first = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits.repeat_interleave(n_answers, 0)
        if n_tokens > 1:
            cache.batch_repeat_interleave(n_answers)
            after = positions[:, -1:].repeat_interleave(n_answers, 0) + torch.arange(1, n_tokens)
            if mask is not None:
                mask = torch.nn.functional.pad(mask.repeat_interleave(n_answers, 0), (0, n_tokens - 1), value=1)
            rest = model(
                input_ids=asked[:, :-1].repeat(len(ids), 1),
                attention_mask=mask,
                position_ids=after,
                past_key_values=cache,
                use_cache=True,
            ).logits
            first = torch.cat([first, rest], 1)
    return first.float().unflatten(0, (len(ids), n_answers))
