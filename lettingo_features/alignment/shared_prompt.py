"""One pass over a prompt for both of its completions: fewer tokens, the same log-probabilities.

TRL's batch holds every prompt twice, once before the chosen and once before the rejected text, and scores every
position of both. Here a pair is one row, prompt + chosen + rejected, in which the rejected text neither sees the chosen
one nor counts its positions, and only positions of completions reach the output layer. Loss and log-probability stay
TRL's own.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, NamedTuple

import torch
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import FusedCausalLMOutput

_TILE = 32_768  # columns of the vocabulary at a time, as in TRL
_OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


class Packed(NamedTuple):
    """B pairs in B rows of length L.

    Parameters
    ----------
    input_ids, position_ids
        (B, L) int64; after a pair's end anything.
    attention_mask
        (B, 1, L, L) bool: True where a query (row) may look at a key (column).
    row, column
        (T,) int64 each: where the state stands that predicts the t-th scored token, in the order of the scored tokens
        of the unpacked batch.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


def packed(input_ids: torch.Tensor, attention_mask: torch.Tensor, scored: torch.Tensor) -> Packed:
    """Pack a batch of `trl.trainer.dpo_trainer.DataCollatorForPreference`.

    Parameters
    ----------
    input_ids, attention_mask
        (2 B, W) int64, right-padded: B rows prompt + chosen, then B rows prompt + rejected of the same prompts.
    scored
        (2 B, W) bool: tokens of completions.
    """
    n_pairs, width = len(input_ids) // 2, input_ids.shape[1]
    prompt = scored.int().argmax(1)[:n_pairs, None]
    chosen_end, rejected_end = attention_mask.sum(1, keepdim=True).split(n_pairs)
    skip = chosen_end - prompt  # tokens of the chosen text, which the rejected one stands behind
    at = torch.arange(int((skip + rejected_end).max()), device=input_ids.device)
    in_rejected = at >= chosen_end
    position = torch.where(in_rejected, at - skip, at).clamp(max=width - 1)
    ids = torch.where(in_rejected, input_ids[n_pairs:].gather(1, position), input_ids[:n_pairs].gather(1, position))
    in_chosen = (at >= prompt) & ~in_rejected
    visible = (at <= at[:, None]) & ~(in_rejected[:, :, None] & in_chosen[:, None, :])
    line, column = scored[:, 1:].nonzero(as_tuple=True)  # a state predicts the token after it
    row = line % n_pairs
    behind = (line >= n_pairs) & (column >= prompt[row, 0])
    return Packed(ids, position, visible[:, None], row, torch.where(behind, column + skip[row, 0], column))


def share_prompts(model: Any) -> None:
    """Let ``model``, which TRL gave its fused output layer, score preference batches in `packed` form from now on.

    Only for models that honour positions and masks given to them: `trainers.PreferenceTrainer` compares first.
    """
    original = model.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **inputs: Any) -> Any:
        if not fused_lm_head:
            return original(*args, **inputs, **({} if labels is None else {"labels": labels}))
        scored = labels[:, 1:] != -100
        batch = packed(inputs["input_ids"], inputs["attention_mask"], labels != -100)
        states = self.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        ).last_hidden_state
        head = self.get_output_embeddings()
        found = ChunkedLogProbFunction.apply(
            states[batch.row, batch.column],
            head.weight,
            head.bias,
            labels[:, 1:][scored],
            1.0,
            _TILE,
            None,
            1.0,
            _OUTPUTS,
        )
        log_probs, entropy, _, mean_logits, is_top1 = (
            None if each is None else each.new_zeros(scored.shape).masked_scatter(scored, each) for each in found
        )
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / scored.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=entropy,
            mean_logits=mean_logits,
            is_top1=is_top1,
            label_mask=scored,
        )

    model.forward = MethodType(forward, model)
