"""The sentiment judge on a home: which later item, which recent ones, and what is refused."""

from __future__ import annotations

import json
from datetime import timedelta

import pyarrow as pa
import pytest

from lettingo_features.alignment.frame import FrameConfig, make_frame
from lettingo_features.alignment.loop_config import LoopConfig
from lettingo_features.alignment.pairs import PairConfig
from lettingo_features.alignment.sentiment_judge import SentimentJudge
from lettingo_features.alignment.sentiment_reward import SentimentReward, SentimentRewardConfig
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.generation.engine import Completion
from lettingo_features.home import Home
from lettingo_features.windows import WindowConfig
from tests.alignment.rows import CUTOFF, candidates
from tests.alignment.scripted_engine import ScriptedEngine
from tests.alignment.small_world import DAY, synthetic_home, write_home

LIKE = '{"sentiment":"like"}'
ITEMS = [("a", "Alien", ["Horror"]), ("b", "Brazil", ["Satire"]), ("c", "Casablanca", []), ("x", "", [])]
EVENTS = [
    ("u1", "a", CUTOFF - 3 * DAY, 5.0),
    ("u1", "b", CUTOFF - 2 * DAY, 1.0),
    ("u1", "c", CUTOFF + DAY, 2.0),
    ("u2", "a", CUTOFF - DAY, 4.0),
    ("u2", "b", CUTOFF + DAY, 5.0),
    ("u3", "b", CUTOFF - DAY, 4.0),
    ("u3", "x", CUTOFF + DAY, 5.0),  # without title and categories: nobody could foretell anything
]
TARGETS = pa.table(
    {
        "user_id": ["u1", "u2", "u3"],
        "item_id": ["c", "b", "x"],
        "event_timestamp": pa.array([CUTOFF + DAY] * 3, pa.timestamp("us", tz="UTC")),
        "rating": pa.array([2.0, 5.0, 5.0], pa.float32()),
    }
)
TEXTS = candidates(("1a", "u1", "lm", "Likes horror."), ("2a", "u2", "lm", "Likes satire."), ("3a", "u3", "lm", "New."))


@pytest.fixture
def home(tmp_path) -> Home:
    return write_home(tmp_path, EVENTS, ITEMS)


def judged(home: Home, script, targets: pa.Table = TARGETS, window: WindowConfig | None = None, **told):
    engine = ScriptedEngine(script, **told)
    judge = SentimentJudge(engine, SentimentRewardConfig().judged(5.0))
    reward = SentimentReward(judge, home, targets, CUTOFF, window or WindowConfig())
    return reward.judge(TEXTS), engine


@pytest.mark.parametrize("reads", ["window", "long"])  # what the generator reads is not what the judge reads
def test_rewards_and_what_they_are_worth(home, reads):
    found, engine = judged(home, lambda prompt: LIKE, window=WindowConfig(recent_k=1, reads=reads))
    rows = found.rewards.select(["candidate_id", "value", "correct", "no_profile"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("1a", 0.0, False, 0.0), ("2a", 1.0, True, 1.0)]
    told = found.facts["sentiment"]
    assert told["prior"] == {"like": 0.5, "neutral": 0.0, "dislike": 0.5}
    assert told["counts"]["users_whose_target_has_no_text"] == 1
    assert (told["counts"]["judged"], told["counts"]["unparsable"]) == (2, 0)
    assert found.facts["controls"]["no profile"] == found.facts["controls"]["majority"] == 0.5
    assert "like from 4, dislike below 3 of 5" in found.text
    recent = '{"n":1,"title":"Brazil","categories":["Satire"],"sentiment":"disliked"}'
    assert f'{recent}\n{{"profile":"Likes horror."}}\n{{"next":"item","title":"Casablanca"}}' in engine.seen


def test_a_call_without_an_answer_is_asked_again_before_anything_is_kept(home):
    failed = Completion("", 0, error="http_500")
    with pytest.raises(DataError, match="2 calls of the judge scripted got no answer"):
        judged(home, lambda prompt: failed if "satire" in prompt else LIKE)


def test_a_call_that_was_given_up_costs_its_candidate_alone(home):
    given_up = Completion("", 0, problem="given_up")
    found, _ = judged(home, lambda prompt: given_up if "horror" in prompt else LIKE)
    assert found.rewards["candidate_id"].to_pylist() == ["2a"]
    assert found.facts["sentiment"]["counts"]["not_answered"] == 2  # as u1's text, and as u2's shuffled control


def test_nobody_to_judge_says_why(home):
    with pytest.raises(DataError, match="None of 3 candidates could be judged: 3 users without target"):
        judged(home, lambda prompt: LIKE, TARGETS.slice(0, 0))
    with pytest.raises(DataError, match=r"scripted has room for prompts of 10 tokens, and the shortest of 6"):
        judged(home, lambda prompt: LIKE, prompt_budget=10)


REFUSED = [
    ({"pairs": PairConfig(mode="faithful")}, "correct x wrong answers of the sentiment judge"),
    ({"judge": "sentiment", "shrink": False}, "Which model judges"),
    ({"judge": "sentiment", "sentiment": {"model": "m"}}, "no noise to shrink by"),
    (
        {"judge": "sentiment", "shrink": False, "sentiment": {"model": "m", "engine": "openai", "by": "likelihood"}},
        "Likelihoods are read in this process",
    ),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED)
def test_what_does_not_go_together_is_refused_before_anything_is_written(fields, says):
    with pytest.raises(ConfigError, match=says):
        LoopConfig(**fields)


def test_where_the_judge_is_served_shapes_nothing():
    def shaping(**sentiment) -> str:
        return json.dumps(LoopConfig(judge="sentiment", shrink=False, sentiment={"model": "m"} | sentiment).shaping())

    assert shaping(base_url="http://elsewhere/v1", concurrency=4, price_in=2.0) == shaping()
    assert len({shaping(), shaping(model="n"), shaping(revision="2"), shaping(liked_from=0.7)}) == 4


def test_the_target_is_the_first_item_that_was_rated_and_not_met_before(tmp_path):
    home = synthetic_home(tmp_path)
    window = WindowConfig()
    frame = make_frame(home, FrameConfig(max_explored=20), window)
    start = frame.reward_cutoff + timedelta(seconds=window.publish_lag_s)
    assert set(frame.rated_targets["user_id"].to_pylist()) <= set(frame.explored.to_pylist())
    assert frame.rated_targets.num_rows > 10
    rows = home_rows(home)
    for target in frame.rated_targets.to_pylist():
        own = [row for row in rows if row["user_id"] == target["user_id"]]
        met = {row["item_id"] for row in own if row["event_timestamp"] < start}
        later = [
            row
            for row in own
            if start <= row["event_timestamp"] < frame.gate_cutoff and row["item_id"] not in met and row["rating"]
        ]
        first = min(later, key=lambda row: (row["event_timestamp"], row["item_id"]))
        assert (target["item_id"], target["rating"]) == (first["item_id"], first["rating"])


def home_rows(home: Home) -> list[dict]:
    from lettingo_features.sql import connect

    return connect().sql(f"SELECT * FROM {home.scan('interactions')}").to_arrow_table().to_pylist()
