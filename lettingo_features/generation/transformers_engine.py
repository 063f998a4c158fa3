"""Batched text generation in this process with any causal language model that transformers can load.

Three properties that ``model.generate`` does not give:

* Same texts whatever the order, the batches or a resume: every row samples from its own stream. What remains is float
  rounding between batch shapes, which moves a choice only where two tokens tie to the sixth digit.
* Data cannot speak for the system: it is tokenised without control tokens (`frame.Frame`).
* Speed on a CPU for small models: batches of equal prompt lengths need no padding and no mask; keys and values are
  written into room taken once, not concatenated at each token; rows that ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from lettingo_features.errors import MissingExtraError, ModelError
from lettingo_features.generation.engine import Completion, diagnose
from lettingo_features.generation.frame import Frame, context
from lettingo_features.generation.grammar import Grammar, accept
from lettingo_features.generation.local_engine import LocalConfig, LocalEngine
from lettingo_features.generation.model_files import model_hash

if TYPE_CHECKING:
    import torch


class TransformersConfig(LocalConfig):
    """How to load and batch; batches and threads change no text."""

    extra: ClassVar[str] = "train"

    batch_size: int = Field(default=128, ge=1)
    """Rows at once. At one million parameters 128 keeps a core busy; beyond it caches spill from the CPU's own."""
    dtype: str = "float32"
    """Of the weights in memory. NOTE: bfloat16 without native support is 50 times slower on a CPU."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the whole process; None leaves torch's choice. Two beside a busy process are slower than one."""

    def model_identity(self) -> str:
        return self.identity("transformers", model_hash(self.model), self.dtype)


class TransformersEngine(LocalEngine):
    """Loads a model once and answers prompts.

    ::

        engine = TransformersEngine(TransformersConfig(model="path/to/model", temperature=1.0))
        completions = engine.generate(["history: ..."], streams=[17])

    Raises
    ------
    MissingExtraError
        torch or transformers is not installed.
    ModelError
        The model cannot be loaded, or has no end mark.
    """

    def __init__(self, config: TransformersConfig) -> None:
        super().__init__(config)
        self.tokenizer, self.model = _load(config)
        self.frame = Frame(self.tokenizer, config, context(self.model.config))
        import torch  # after _load, which says what to install where it is missing

        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        if ends is None:
            raise ModelError(
                f"{config.model} names no end-of-text token: set eos_token_id in its generation_config.json."
            )
        self._ends = torch.tensor(ends).reshape(-1)
        self._end_ids = frozenset(self._ends.tolist())
        self._grammar = None
        if config.json_schema is not None:
            n_logits = self.model.get_output_embeddings().weight.shape[0]
            self._grammar = Grammar(self.tokenizer, n_logits, sorted(self._end_ids), config.json_schema)

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Answer each prompt, shortest first.

        Parameters
        ----------
        prompts
            Data of each user turn (see `EngineConfig.instruction`), each within `prompt_budget`.
        streams
            Seed of each row's random stream, 0 <= stream < 2**63; greedy generation ignores it.

        Yields
        ------
        (int, Completion)
            Index into ``prompts`` and its answer, each index once.

        Raises
        ------
        ModelError
            A prompt exceeds `prompt_budget`.
        """
        ids = self.frame.prompts(prompts)
        for rows in equal_length_batches([len(row) for row in ids], self.config.batch_size):
            start = monotonic()
            answers = self._decode([ids[row] for row in rows], [streams[row] for row in rows])
            seconds = monotonic() - start
            for row, answer in zip(rows, answers, strict=True):
                yield row, self._completion(answer, len(ids[row]), seconds)

    def close(self) -> None:
        """Free the weights."""
        del self.model

    def _decode(self, ids: list[list[int]], streams: list[int]) -> list[list[int]]:
        """Return the new tokens of each row, the end mark included; rows that ended leave the batch."""
        import torch

        from lettingo_features.generation.key_value_cache import new_cache

        limit = self.config.max_new_tokens
        noise = [np.random.Generator(np.random.Philox(stream)) for stream in streams]
        inputs, mask, positions = left_padded(ids)
        matchers = self._grammar.rows(len(ids)) if self._grammar else []
        cache = new_cache(self.model.config, room=limit)
        alive, ended = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.bool)  # of the rows still in the batch
        answers: list[list[int]] = [[] for _ in ids]
        with torch.inference_mode():
            for _ in range(limit):
                logits = self.model(
                    input_ids=inputs,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
                rows = alive.tolist()
                tokens = self._choose(
                    logits.float(), [noise[row] for row in rows], [matchers[row] for row in rows] if matchers else []
                )
                for row, token, over in zip(rows, tokens.tolist(), ended.tolist(), strict=True):
                    if not over:
                        answers[row].append(token)
                ended |= torch.isin(tokens, self._ends)
                if ended.all():
                    break
                inputs, positions = tokens[:, None], positions[:, -1:] + 1
                mask = None if mask is None else torch.nn.functional.pad(mask, (0, 1), value=1)
                if 4 * int(ended.sum()) >= len(ended):  # moving the cache costs about one step: wait for a quarter
                    keep = (~ended).nonzero()[:, 0]
                    cache.batch_select_indices(keep)
                    alive, ended, inputs, positions = alive[keep], ended[keep], inputs[keep], positions[keep]
                    mask = None if mask is None else mask[keep]
        return answers

    def _choose(self, logits: torch.Tensor, noise: list[np.random.Generator], matchers: list[Any]) -> torch.Tensor:
        """(B, V) float32 logits, the stream of each row and its matcher (none without a schema) -> (B,) token ids.

        Sampling is a race of exponentials (the Gumbel-max trick): of all tokens the one with the least E / p wins. It
        takes V numbers per token where the inverse of the distribution takes one, but rounding cannot turn a near miss
        among thousands of unlikely tokens into another text.
        """
        import torch

        scores = logits
        if self.config.temperature > 0:
            race = np.empty(logits.shape, np.float32)
            for row, stream in zip(race, noise, strict=True):
                stream.standard_exponential(out=row, dtype=np.float32)
            scores = logits / self.config.temperature - torch.from_numpy(race).log().to(logits.device)
        if self._grammar:
            self._grammar.forbid(scores, matchers)
            accept(scores.argmax(-1).tolist(), matchers)
        return scores.argmax(-1)

    def _completion(self, ids: list[int], n_prompt_tokens: int, seconds: float) -> Completion:
        finished = ids[-1] in self._end_ids
        text = self.tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True).strip()
        return Completion(
            text,
            len(ids),
            diagnose(text, ids, finished=finished, schema=self.config.json_schema),
            n_prompt_tokens=n_prompt_tokens,
            seconds=seconds,
            cost=self.config.cost(n_prompt_tokens, len(ids)),
        )


def _load(config: TransformersConfig) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("The transformers engine", "train") from None
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    local = Path(config.model).is_dir()
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar per worker and load says nothing about a model of seconds
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, local_files_only=local)
        model = AutoModelForCausalLM.from_pretrained(
            config.model, local_files_only=local, dtype=getattr(torch, config.dtype)
        )
    except Exception as error:  # transformers, tokenizers and safetensors share no error type
        cause = " ".join(str(error).split())[:300]
        raise ModelError(
            f"Cannot load a causal language model from '{config.model}' ({type(error).__name__}: {cause}). Give a "
            "directory with config.json, model.safetensors and tokenizer.json as save_pretrained writes it, or a model "
            "id of the hub."
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    return tokenizer, model.eval()


def equal_length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield row numbers in batches of at most ``batch_size``, by length; where half a batch has one length, only that.

    >>> list(equal_length_batches([5, 7, 5, 9, 5], 4))
    [[0, 2, 4], [1, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    batch: list[int] = []
    for row in order:
        longer = bool(batch) and lengths[row] != lengths[batch[-1]]
        if len(batch) == batch_size or (longer and 2 * len(batch) >= batch_size):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def left_padded(ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """(B, L) ids, (B, L) mask or None where no row needs padding, (B, L) positions."""
    import torch

    length = max(map(len, ids))
    inputs = torch.tensor([[0] * (length - len(row)) + row for row in ids])
    if min(map(len, ids)) == length:
        return inputs, None, torch.arange(length).expand(len(ids), length)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
    return inputs, mask, (mask.cumsum(-1) - 1).clamp(min=0)
