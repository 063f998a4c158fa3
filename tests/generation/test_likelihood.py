"""Likelihoods of answers against one plain forward pass each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lettingo_features.generation.likelihood import answer_log_probs
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
from lettingo_features.profiles.local_model import embedded_model

PROMPTS = ["history:\ntop: Drama=3", "top: Horror=9", "history:\nlow: War\nalso: Drama=2\ntop: Horror=9\nstyle: brief"]


@pytest.mark.parametrize("batch_size", [1, 8])  # 8: prompts of different lengths are padded
@pytest.mark.parametrize("answers", [["like", "A longer answer about drama.", "!"], ["a", "b"]])
def test_the_same_as_reading_prompt_and_answer_as_one(answers, batch_size):
    engine = TransformersEngine(TransformersConfig(model=str(embedded_model()), batch_size=batch_size, threads=1))
    expected = np.zeros((len(PROMPTS), len(answers)))
    for row, prompt in enumerate(engine.frame.prompts(PROMPTS)):
        for column, answer in enumerate(engine.frame.data(answers)):
            with torch.inference_mode():
                logits = engine.model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
            expected[row, column] = sum(logits[len(prompt) - 1 + n, token].item() for n, token in enumerate(answer))
    np.testing.assert_allclose(answer_log_probs(engine, PROMPTS, answers), expected, atol=1e-4)
