"""How far a trained model has moved from its base, in its own texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lettingo_features.alignment.training_data import Tokens
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine

if TYPE_CHECKING:
    import torch

_BATCH = 16
_NEW_TOKENS = 128


def kl_divergence(
    policy: Path, reference: Path, prompts: Sequence[str], instruction: str, seed: int
) -> dict[str, float]:
    """Mean KL(policy ‖ reference) per text in nats, over one text that the policy samples for each prompt.

    The expectation over prefixes is a Monte Carlo estimate; at each prefix the sum over the vocabulary is exact, which
    varies far less than the log-ratio of the sampled tokens alone.

    Parameters
    ----------
    policy, reference
        Model directories with one tokenizer.
    prompts
        Whole user turns, the ``instruction`` included, as in a pair file.

    Returns
    -------
    dict
        ``kl`` and ``kl_prompts``, the number of prompts that leave room for a text; empty without any.
    """
    if not prompts:
        return {}
    start = f"{instruction}\n\n" if instruction else ""
    config = TransformersConfig(
        model=str(policy), instruction=instruction, temperature=1.0, max_new_tokens=_NEW_TOKENS, batch_size=_BATCH
    )
    engine = TransformersEngine(config)
    data = [prompt.removeprefix(start) for prompt in prompts]
    fitting = [row for row, size in enumerate(engine.n_tokens(data)) if size <= engine.prompt_budget]
    if not fitting:
        return {}
    texts = [""] * len(fitting)
    streams = [int(stream) for stream in np.random.default_rng(seed).integers(2**62, size=len(fitting))]
    for index, answer in engine.generate([data[row] for row in fitting], streams):
        texts[index] = answer.text
    tokens = Tokens(engine.tokenizer, config.model, instruction, engine.frame.context)
    told = list(zip(tokens.prompts([prompts[row] for row in fitting]), tokens.answers(texts), strict=True))
    base = TransformersEngine(config.model_copy(update={"model": str(reference)})).model
    sums = [_kl(engine.model, base, told[at : at + _BATCH]) for at in range(0, len(told), _BATCH)]
    return {"kl": float(np.concatenate(sums).mean()), "kl_prompts": len(fitting)}


def _kl(policy: Any, reference: Any, rows: list[tuple[list[int], list[int]]]) -> np.ndarray:
    """(B,) float64: summed over the positions that predict an answer's tokens."""
    import torch

    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.tensor([[*p, *a] + [0] * (length - len(p) - len(a)) for p, a in rows])
    at = torch.arange(length)
    starts = torch.tensor([[len(p) - 1] for p, _ in rows])
    ends = torch.tensor([[len(p) + len(a) - 1] for p, a in rows])
    with torch.inference_mode():
        ours, theirs = (_log_probs(model, ids, at < ends + 1) for model in (policy, reference))
        kl = (ours.exp() * (ours - theirs)).sum(-1)
    return (kl * ((at >= starts) & (at < ends))).sum(1).double().numpy()


def _log_probs(model: Any, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """(B, L, V) float32."""
    return model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits.float().log_softmax(-1)
