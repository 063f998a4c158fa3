"""Train the embedded language model from nothing, on synthetic text only.

    OMP_NUM_THREADS=1 python -m pipelines.train_embedded_lm --out DIR                # the shipped model, 30 minutes
    OMP_NUM_THREADS=1 python -m pipelines.train_embedded_lm --out DIR --minutes 10   # stop early ...
    OMP_NUM_THREADS=1 python -m pipelines.train_embedded_lm --out DIR --resume       # ... and go on to the same end
    OMP_NUM_THREADS=1 python -m pipelines.train_embedded_lm --out DIR --quick        # 60 steps, a smoke test

One core, fp32, one thread (two threads beside another busy process are slower than one). The same configuration on the
same build of torch gives the same weights. What made a model of one million parameters copy names it has never seen:

* initial weights of scale ``hidden ** -0.5``: with the usual 0.02 so small a model never learns to copy;
* the loss on the profiles only, the counts and the strongest category last in a short prompt;
* names from a space too large to learn by heart that uses every piece of the tokenizer (see `corpus.Names`);
* simple prompts first: copying forms on two categories, then titles and history join;
* four profiles per prompt: the prompt, most of the tokens, is computed once for all four.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lettingo_features.config import Config

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A row label with its line break is one token, and data holds no line breaks; digits and marks stand alone, so that a
# name has the same pieces before "=", a comma or a full stop.
PIECES = r"\n[a-z]+:|\n-|\n| ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s"
CHUNK = 128  # documents that are sorted by length together
TOKENIZER_DOCUMENTS = 12_000

Document = tuple[list[int], list[tuple[list[int], list[int]]]]
"""(prompt ids, [(ids from the style to the assistant mark, profile ids), ...])"""


class TrainConfig(Config):
    """Recipe of the embedded model; saved beside its weights."""

    seed: int = 7
    """Of weights, texts and batches."""
    vocab: int = 2_048
    """Byte-level BPE: small, so that names are copied in pieces and the output layer stays cheap."""
    hidden: int = 128
    layers: int = 3
    """Two are the least that can copy (one finds the previous token, one matches it); the third plans."""
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    """vLLM's attention kernels take no smaller heads."""
    ffn: int = 352
    context: int = 512
    """Positions; a prompt has about 90 tokens, a profile about 30."""
    steps: int = 5_500
    tokens: int = 1_600
    """Tokens of a batch, prompts and profiles: many small steps teach copying sooner than few large ones."""
    lr: float = 2e-3
    """Peak of AdamW (0.9, 0.95); cosine to 5 % after ``warmup`` steps."""
    warmup: int = 50
    weight_decay: float = 0.05
    """On matrices only."""
    simple_until: float = 0.3
    """Share of the steps over which the share of simplified prompts falls from 1 to 0.1."""


QUICK = TrainConfig(steps=60, warmup=10)


def train_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE on documents of its own seed."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from lettingo_features.profiles.corpus import documents

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        f"{shared} {style}\n{text}"
        for shared, profiles in islice(documents(config.seed + 1), TOKENIZER_DOCUMENTS)
        for style, text in profiles[:2]
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
        padding_side="left",
        model_max_length=config.context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def new_model(config: TrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained model; config.json names the prompt version that it is for."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lettingo_features.profiles.local_model import PROMPT_KEY
    from lettingo_features.profiles.prompt import PROMPT_VERSION

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.ffn,
            max_position_embeddings=config.context,
            initializer_range=config.hidden**-0.5,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **{PROMPT_KEY: PROMPT_VERSION},
        )
    )


def fragments(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokenizer's pieces that are letters only, without the space before; training builds words of them."""
    pieces = (tokenizer.decode([token]).strip() for token in range(len(SPECIAL), len(tokenizer)))
    return [piece for piece in pieces if piece.isalpha()]


def tokenised(
    tokenizer: PreTrainedTokenizerFast, seed: int, simple_share: Callable[[], float]
) -> Iterator[list[Document]]:
    """Yield `CHUNK` documents of token ids at a time, without end."""
    from lettingo_features.profiles.corpus import documents

    user, assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
    end = tokenizer.eos_token_id

    def ids(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    stream = documents(seed, simple_share, fragments(tokenizer))
    while True:
        chunk = list(islice(stream, CHUNK))
        styles = ids([f" {style}" for _, profiles in chunk for style, _ in profiles])
        texts = ids([text for _, profiles in chunk for _, text in profiles])
        branches = iter([([*style, end, assistant], [*text, end]) for style, text in zip(styles, texts, strict=True)])
        prompts = ids([shared for shared, _ in chunk])
        yield [
            ([user, *prompt], list(islice(branches, len(profiles))))
            for prompt, (_, profiles) in zip(prompts, chunk, strict=True)
        ]


def batches(
    tokenizer: PreTrainedTokenizerFast, config: TrainConfig, simple_share: Callable[[], float]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of documents of like length, at most ``config.tokens`` tokens each, in random order."""
    rng = random.Random(config.seed)
    for chunk in tokenised(tokenizer, config.seed, simple_share):
        groups: list[list[Document]] = [[]]
        for document in sorted(chunk, key=_length):
            if groups[-1] and _length(document) * (len(groups[-1]) + 1) > config.tokens:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, tokenizer.pad_token_id)


def _length(document: Document) -> int:
    return len(document[0]) + sum(len(lead) + len(text) for lead, text in document[1])


def collate(documents: list[Document], pad: int) -> dict[str, torch.Tensor]:
    """Lay each prompt out once, followed by its profiles, each of which sees the prompt and itself only.

    Returns
    -------
    dict
        input_ids, position_ids, labels: (B, L) int64; a label is the next token, -100 where no loss is taken.
        attention_mask: (B, 1, L, L) float32, 0 where row sees column.
    """
    import torch

    rows = []
    for prompt, branches in documents:
        ids, positions, owners, labels = list(prompt), list(range(len(prompt))), [0] * len(prompt), [-100] * len(prompt)
        for owner, (lead, text) in enumerate(branches, start=1):
            size = len(lead) + len(text)
            ids += lead + text
            positions += range(len(prompt), len(prompt) + size)
            owners += [owner] * size
            labels += [-100] * (len(lead) - 1) + text + [-100]
        rows.append((ids, positions, owners, labels))
    length = max(len(ids) for ids, *_ in rows)
    ids, positions, owners, labels = (
        torch.tensor([row[column] + [fill] * (length - len(row[column])) for row in rows])
        for column, fill in enumerate((pad, 0, -1, -100))
    )
    visible = (owners[:, None, :] == owners[:, :, None]) | (owners[:, None, :] == 0)
    visible &= torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "attention_mask": mask[:, None]}


def simple_share(config: TrainConfig, step: int) -> float:
    """Share of simplified prompts at ``step``."""
    return max(0.1, 1.0 - step / config.steps / config.simple_until * 0.9)


class Training:
    """One training run in a directory: step, checkpoint, export.

    Checkpoint and weights are written to a temporary name and renamed, so a run killed at any point can resume.
    """

    def __init__(self, config: TrainConfig, out: Path) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(config.seed)
        self.config, self.out, self.step = config, out, 0
        self.totals = {"tokens": 0, "profile_tokens": 0, "cpu_s": 0.0}
        self.loss = math.nan
        self.tokenizer = train_tokenizer(config)
        self.model = new_model(config, self.tokenizer)
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._stream = batches(self.tokenizer, config, lambda: simple_share(config, self.step))

    def _learning_rate(self) -> float:
        done = self.step / self.config.steps
        return (
            self.config.lr
            * min(1.0, (self.step + 1) / self.config.warmup)
            * (0.05 + 0.475 * (1 + math.cos(math.pi * done)))
        )

    def advance(self) -> None:
        """Take one optimiser step."""
        import torch
        from torch.nn.functional import cross_entropy

        started = time.process_time()
        batch = next(self._stream)
        labels = batch.pop("labels")
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        hidden = self.model.model(**batch, use_cache=False).last_hidden_state
        kept = labels != -100  # the output layer is a third of the work: only where there is a loss
        loss = cross_entropy(self.model.lm_head(hidden[kept]), labels[kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.loss = loss.item() if self.step == 1 else 0.95 * self.loss + 0.05 * loss.item()
        self.totals["tokens"] += batch["input_ids"].numel()
        self.totals["profile_tokens"] += int(kept.sum())
        self.totals["cpu_s"] += time.process_time() - started

    def save(self) -> None:
        """Write the model directory ``out/model``, the record of the run and the checkpoint."""
        import torch

        self.tokenizer.save_pretrained(self.out / "model")
        self.model.save_pretrained(self.out / "model")
        record = {"config": self.config.model_dump(), "step": self.step, "loss": round(self.loss, 4), **self.totals}
        (self.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "record": record}
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")

    def resume(self) -> None:
        """Go on where `save` left off: the texts already used are drawn again and skipped."""
        import torch

        path = self.out / "checkpoint.pt"
        if not path.is_file():
            raise click.ClickException(f"No checkpoint at {path}: start without --resume.")
        state = torch.load(path, weights_only=True)
        record = state["record"]
        if record["config"] != self.config.model_dump():
            raise click.ClickException(f"{path} is of another configuration: {record['config']}. Use a fresh --out.")
        for self.step in range(record["step"]):
            next(self._stream)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.loss = record["step"], record["loss"]
        self.totals = {key: record[key] for key in self.totals}


def _report(training: Training, **more: Any) -> None:
    totals = training.totals
    click.echo(
        f"step={training.step} loss={training.loss:.3f} tokens={totals['tokens']} cpu_s={totals['cpu_s']:.0f}"
        + "".join(f" {key}={value}" for key, value in more.items())
    )


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory of the model and its checkpoint."
)
@click.option("--steps", type=click.IntRange(1), default=TrainConfig().steps, show_default=True)
@click.option("--seed", type=int, default=TrainConfig().seed, show_default=True)
@click.option("--minutes", type=float, default=math.inf, help="Stop after so many minutes; --resume goes on.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--quick", is_flag=True, help="60 steps: shows that everything runs, learns next to nothing.")
@click.option(
    "--every", type=click.IntRange(1), default=500, show_default=True, help="Steps between checkpoints with figures."
)
def main(out: Path, steps: int, seed: int, minutes: float, resume: bool, quick: bool, every: int) -> None:
    """Train the embedded language model."""
    from pipelines.evaluate_embedded_lm import top_first

    config = QUICK.model_copy(update={"seed": seed}) if quick else TrainConfig(steps=steps, seed=seed)
    training = Training(config, out)
    if resume:
        training.resume()
    deadline = time.monotonic() + 60 * minutes
    while training.step < config.steps and time.monotonic() < deadline:
        training.advance()
        if training.step % 50 == 0:
            _report(training)
        if training.step % every == 0 or training.step == config.steps:
            training.save()
            _report(training, **top_first(str(out / "model"), n=64))
    training.save()


if __name__ == "__main__":
    main()
