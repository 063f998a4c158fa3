"""What a point of a training is worth to held-back users: a judge that gives a reward per word, hand-made texts."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from lettingo_features.alignment.judge import Judged
from lettingo_features.alignment.loop_config import LoopConfig
from pipelines import align_selection
from pipelines.align_selection import held_back, point_scorer
from tests.alignment.rows import candidates, rewards

USERS = [f"u{n}" for n in range(10)]
CONFIG = LoopConfig(held_back=0.4, guards={"faithfulness_weight": 0.0})


def run_of(n_words: list[int]) -> SimpleNamespace:
    """A run that writes a text of so many words for each held-back user in turn, and none for the users after."""
    known = rewards({f"{user}a": 0.0 for user in USERS})

    def written(model: Path, cutoff: datetime, users: pa.Array) -> pa.Table:
        texts = zip(users.to_pylist(), n_words, strict=False)
        return candidates(*((f"{user}a", user, "g", "word " * n) for user, n in texts))

    frame = SimpleNamespace(reward_cutoff=datetime(2026, 1, 1, tzinfo=UTC))
    return SimpleNamespace(config=CONFIG, frame=frame, read=lambda name: known, written=written)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The reward is a tenth of the number of words; holds an entry for each time that a judge was opened."""
    times: list[str] = []

    def judge(table: pa.Table) -> Judged:
        by_id = zip(table["candidate_id"].to_pylist(), table["n_words"].to_pylist(), strict=True)
        return Judged(rewards({one: n / 10 for one, n in by_id}), pa.table({}), {}, "")

    @contextmanager
    def open_judge(run):
        times.append("opened")
        yield SimpleNamespace(judge=judge)

    monkeypatch.setattr(align_selection, "open_judge", open_judge)
    return times


POINTS = [  # words of the texts for four held-back users, mean reward over the four, median words
    ([10, 10, 10, 10], 1.0, 10.0),
    ([2, 10, 10, 90], 2.8, 10.0),  # one long text moves no median
    ([10, 10], 0.5, 10.0),  # who gets no text counts as nothing
    ([40], 0.0, 0.0),  # a model that fell silent
    ([], 0.0, 0.0),
]


@pytest.mark.parametrize(("n_words", "value", "words"), POINTS)
def test_what_a_point_is_worth(opened, n_words, value, words):
    with point_scorer(run_of(n_words)) as scorer:
        assert scorer.score(Path("model")) == pytest.approx((value, words))


def test_the_judge_is_opened_once_and_only_if_asked(opened):
    with point_scorer(run_of([10, 10, 10, 10])) as scorer:
        assert not opened
        for _ in range(3):
            scorer.score(Path("model"))
    assert opened == ["opened"]


def test_held_back_users_are_a_share_that_order_does_not_change():
    table = rewards({f"{user}a": 0.0 for user in USERS})
    chosen = held_back(run_of([]), table)
    assert len(chosen) == 4 and set(chosen.to_pylist()) < set(USERS)
    assert held_back(run_of([]), table.take(list(range(9, -1, -1)))).equals(chosen)
