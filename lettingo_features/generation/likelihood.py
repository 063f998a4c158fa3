"""How likely a local model finds given answers: one pass over each prompt, no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
    import torch

    found = np.empty((len(prompts), len(answers)))
    ids = engine.frame.prompts(prompts)
    tokens = engine.frame.data(answers)
    longest = max(map(len, tokens))
    asked = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])  # (A, T)
    counts = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in tokens])
    for rows in equal_length_batches([len(row) for row in ids], engine.config.batch_size):
        logits = _logits(engine.model, [ids[row] for row in rows], asked)
        chosen = logits.log_softmax(-1).gather(-1, asked.expand(len(rows), -1, -1)[..., None])[..., 0]
        found[rows] = (chosen.double() * counts).sum(-1).numpy()
    return found


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
