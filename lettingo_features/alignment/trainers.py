"""TRL's trainers, on token ids that are already the engine's, without telemetry and without cards of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOTrainer, SFTTrainer

from lettingo_features.alignment.reference_scores import ReferenceScores
from lettingo_features.alignment.training_data import TokenPairs

_WRITE_EVERY = 64  # batches of reference scores that a kill may lose at most


class _Discreet:
    """No step past the end, no message to a hub, no README in checkpoints (`model_card` writes the card), no dict on
    stdout at each step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None: ...

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """None after the last step: transformers looks for the end only after a step, so that a training that goes on
        from its last checkpoint, amid an epoch, would take one more."""
        if self.state.global_step >= self.state.max_steps:
            return [], None
        return super().get_batch_samples(*args, **kwargs)


class ImitationTrainer(_Discreet, SFTTrainer):
    """`trl.SFTTrainer`."""


class PreferenceTrainer(_Discreet, DPOTrainer):
    """`trl.DPOTrainer` that reads reference scores from a cache and runs a prompt once for both completions.

    The loss is TRL's, whatever ``loss_type`` says.

    Parameters
    ----------
    scores
        Cache of the reference model's log-probabilities.
    train_dataset, eval_dataset
        Of `preference_dataset`.

    Attributes
    ----------
    n_scored
        Pairs that the reference model had to score; the others came from the cache.
    shares_prompts
        False where the model does not honour the masks that this needs: then every prompt runs twice, as in TRL.
    """

    def __init__(self, *args: Any, scores: ReferenceScores, **kwargs: Any) -> None:
        self._scores = scores
        self.n_scored = 0
        self.shares_prompts: bool | None = None
        super().__init__(*args, **kwargs)
        if self.shares_prompts is None:  # no reference scores were asked for
            self._share_prompts(self.train_dataset)

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset  # token ids already, and none too long

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if self.shares_prompts is None:
            self._share_prompts(dataset)
        keys = dataset["pair"][:]
        scores = self._scores.known(keys)
        order = np.argsort(dataset["n_tokens"][:], kind="stable")
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        missing = [rows for rows in batches if np.isnan(scores[rows]).any()]
        for start in range(0, len(missing), _WRITE_EVERY):
            group = missing[start : start + _WRITE_EVERY]
            for rows in group:  # whole batches: a score does not depend on where an earlier run was killed
                scores[rows] = self._score(dataset, rows)
            written = np.concatenate(group)
            self._scores.add([keys[row] for row in written], scores[written])
            self.n_scored += len(written)
        columns = {"ref_chosen_logps": scores[:, 0], "ref_rejected_logps": scores[:, 1]}
        for column, values in columns.items():
            dataset = dataset.add_column(column, values)
        return dataset

    def _score(self, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
        """(B, 2) float32 log-probabilities of the completions under the reference model."""
        batch = self._prepare_inputs(self.data_collator([dataset[int(row)] for row in rows]))
        chosen, rejected = self.compute_ref_log_probs(self.ref_model or self.model, batch)
        return torch.stack([chosen, rejected], 1).float().cpu().numpy()

    def _share_prompts(self, dataset: Dataset) -> None:
        """Change the model's scoring to `shared_prompt` if it gives the longest pair the score that it has now."""
        self.shares_prompts = False
        if self.use_weighting or self.aux_loss_enabled:  # ask for more than `shared_prompt` gives
            return
        try:
            from lettingo_features.alignment.shared_prompt import share_prompts
        except ImportError:  # an older trl, whose log-probabilities are computed elsewhere
            return
        models = [_base(model) for model in (self.model, self.ref_model) if model is not None]
        before = [model.forward for model in models]
        longest = np.array([int(np.argmax(dataset["n_tokens"][:]))])
        expected = self._score(dataset, longest)
        for model in models:
            share_prompts(model)
        exact = next(self.model.parameters()).dtype == torch.float32 and not self.args.bf16 and not self.args.fp16
        tolerance = 1e-4 if exact else 2e-2
        self.shares_prompts = np.allclose(self._score(dataset, longest), expected, rtol=tolerance, atol=tolerance)
        if not self.shares_prompts:
            for model, forward in zip(models, before, strict=True):
                model.forward = forward

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss; the mean lengths of the batch's completions go to the log, in tokens."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        chosen, rejected = inputs["completion_mask"].sum(1).float().chunk(2)
        metrics["tokens/chosen"].append(chosen.mean().item())
        metrics["tokens/rejected"].append(rejected.mean().item())
        return super().compute_loss(model, inputs, *args, **kwargs)


def preference_dataset(pairs: TokenPairs) -> Dataset:
    """The columns that `PreferenceTrainer` reads."""
    return Dataset.from_dict(
        {
            "prompt_ids": pairs.prompt,
            "chosen_ids": pairs.chosen,
            "rejected_ids": pairs.rejected,
            "pair": pairs.keys,
            "n_tokens": pairs.lengths.sum(axis=1),
        }
    )


def _base(model: Any) -> Any:
    """The model beneath an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
