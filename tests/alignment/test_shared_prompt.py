"""A pair as one row: worked out by hand, and against two rows on a model with every kind of length."""

from __future__ import annotations

import numpy as np
import torch

from lettingo_features.alignment.shared_prompt import packed
from lettingo_features.profiles.local_model import embedded_model


def batch(pairs: list[tuple[list[int], list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and scored tokens as TRL lays them out: all chosen, then all rejected, padded on the right."""
    rows = [(prompt, chosen) for prompt, chosen, _ in pairs] + [(prompt, rejected) for prompt, _, rejected in pairs]
    width = max(len(prompt) + len(text) for prompt, text in rows)
    ids = torch.tensor([[*p, *t] + [0] * (width - len(p) - len(t)) for p, t in rows])
    real = torch.tensor([[1] * len(p + t) + [0] * (width - len(p) - len(t)) for p, t in rows])
    scored = torch.tensor([[0] * len(p) + [1] * len(t) + [0] * (width - len(p) - len(t)) for p, t in rows]).bool()
    return ids, real, scored


def test_one_pair_by_hand():
    ids, positions, visible, row, column = packed(*batch([([11, 12], [21, 22], [31, 32, 33])]))
    assert ids.tolist() == [[11, 12, 21, 22, 31, 32, 33]]
    assert positions.tolist() == [[0, 1, 2, 3, 2, 3, 4]]
    assert visible[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 1, 0],
        [1, 1, 0, 0, 1, 1, 1],
    ]
    assert row.tolist() == [0] * 5
    assert column.tolist() == [1, 2, 1, 4, 5]  # the prompt's last token predicts the first of both texts


def test_every_length_beside_every_other_gives_the_log_probabilities_of_two_rows():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded_model()).eval()
    rng = np.random.default_rng(5)
    sizes = [(1, 1, 1), (1, 9, 1), (30, 1, 9), (7, 20, 20), (50, 3, 40), (50, 40, 3)]
    ids, real, scored = batch([tuple(rng.integers(5, 2_000, n).tolist() for n in pair) for pair in sizes])
    with torch.inference_mode():
        two_rows = model(input_ids=ids, attention_mask=real).logits.log_softmax(-1)[:, :-1]
        joined = packed(ids, real, scored)
        one_row = model(
            input_ids=joined.input_ids, position_ids=joined.position_ids, attention_mask=joined.attention_mask
        ).logits.log_softmax(-1)
    expected = two_rows[scored[:, 1:]]  # (tokens of all texts, vocabulary)
    assert len(expected) == sum(chosen + rejected for _, chosen, rejected in sizes)
    torch.testing.assert_close(one_row[joined.row, joined.column], expected, atol=1e-4, rtol=1e-4)
