"""LettinGo's protocol step by step on five users, each table compared with one made by hand.

Section 3.1: the newest K = 10 interactions stay raw for the predictor, older ones feed the profile. 3.2.1: N candidates
from several profilers. 3.2.2: a frozen model foretells the sentiment toward one held-out later item; the profile is
positive if it is right, else negative; all positive x negative pairs of a user are kept.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from lettingo_features.alignment.pair_file import write_pairs
from lettingo_features.alignment.pair_store import PairStore
from lettingo_features.alignment.pairs import PairConfig, preference_pairs
from lettingo_features.alignment.sentiment import SentimentScale
from lettingo_features.alignment.sentiment_judge import SentimentJudge, SentimentJudgeConfig
from lettingo_features.alignment.tables import CANDIDATES, PROMPTS
from lettingo_features.generation.ledger import Ledger
from lettingo_features.generation.runner import Runner
from lettingo_features.home import Home
from lettingo_features.profiles.history import history_rows
from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt
from lettingo_features.profiles.summary import SummaryConfig
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows, window_digests
from tests.alignment.scripted_engine import ScriptedEngine
from tests.test_windows import CUTOFF, DAY, interactions

K = 10
RECENT = [f"r{n}" for n in range(1, K + 1)]  # newest first
LONG = {"u1": ["old1", "old2"], "u2": ["old1"], "u3": ["old2"], "u4": ["old1"], "u5": []}
HELD_OUT = {"u1": ("Heat", 5.0), "u2": ("Alien", 2.0), "u3": ("Fargo", 3.0), "u4": ("Brazil", 4.0), "u5": ("Heat", 4.0)}
TITLES = {item: item.upper() for item in [*RECENT, "old1", "old2"]} | {title: title for title, _ in HELD_OUT.values()}

PAST = interactions(
    *(
        (user, item, days * DAY, 5.0 if days % 2 else 1.0)
        for user, old in LONG.items()
        for days, item in enumerate(RECENT + old, 1)
    ),
    *((user, title, 0 * DAY, rating) for user, (title, rating) in HELD_OUT.items()),  # at the cutoff: the future
)
ITEMS = pa.table({"item_id": list(TITLES), "title": list(TITLES.values()), "categories": [["Crime"]] * len(TITLES)})

# N = 4 candidates a user: two profilers, two draws each. Then what the judge answers to each, by hand.
ANSWERS = {
    "u1": {"a1": "like", "a2": "neutral", "b1": "dislike", "b2": "like"},  # truth: like
    "u2": {"a1": "like", "a2": "dislike", "b1": "no idea", "b2": "neutral"},  # truth: dislike
    "u3": {"a1": "neutral", "a2": "neutral", "b1": "neutral", "b2": "neutral"},  # truth: neutral: all right
    "u4": {"a1": "dislike", "a2": "neutral", "b1": "neutral", "b2": "dislike"},  # truth: like: all wrong
}
BARE = {"Heat": "like", "Alien": "like", "Fargo": "like", "Brazil": "like"}  # without a profile

REWARDS = [  # candidate, correct, answer, right without a profile
    ("u1a1", True, "like", 1.0),
    ("u1a2", False, "neutral", 1.0),
    ("u1b1", False, "dislike", 1.0),
    ("u1b2", True, "like", 1.0),
    ("u2a1", False, "like", 0.0),
    ("u2a2", True, "dislike", 0.0),
    ("u2b1", False, "no idea", 0.0),  # unparsable counts as wrong
    ("u2b2", False, "neutral", 0.0),
    *((f"u3{name}", True, "neutral", 0.0) for name in ANSWERS["u3"]),
    *((f"u4{name}", False, answer, 1.0) for name, answer in ANSWERS["u4"].items()),
]
PAIRS = [  # chosen, rejected: 2 x 2 of u1, 1 x 3 of u2
    *(("u1a1", "u1a2"), ("u1a1", "u1b1"), ("u1b2", "u1a2"), ("u1b2", "u1b1")),
    *(("u2a2", "u2a1"), ("u2a2", "u2b1"), ("u2a2", "u2b2")),
]


def histories(connection, reads: str) -> pa.Table:
    create_windows(connection, "given", [CUTOFF], WindowConfig(recent_k=K, long_k=50, reads=reads))
    return history_rows(connection, "items", SummaryConfig(rating_max=5.0)).read_all()


def words(user: str, name: str) -> str:
    return f"profile {name} of someone" if name.startswith("a") else f"{name} is what {user[1]} gets"


def judge_script(prompt: str) -> str:
    lines = [json.loads(line) for line in prompt.split("\n")]
    title, said = lines[-1]["title"], [line["profile"] for line in lines if "profile" in line]
    if not said:
        answer = BARE[title]
    else:
        user = next(user for user, (held_out, _) in HELD_OUT.items() if held_out == title)
        answer = next((a for name, a in ANSWERS[user].items() if words(user, name) == said[0]), "neutral")
    return json.dumps({"sentiment": answer}) if answer != "no idea" else answer


@pytest.fixture
def connection():
    made = connect(threads=1)
    made.register("given", PAST)
    made.register("items", ITEMS)
    return made


@pytest.fixture
def prompts(connection) -> pa.Table:
    long = histories(connection, reads="long")
    digests = window_digests(connection).order("user_id").to_arrow_table()
    columns = {name: digests[name] for name in ("user_id", "cutoff", "window_digest", "n_interactions")}
    return pa.table(columns | {"prompt": LettinGoPrompt().render(long)}).cast(PROMPTS)


@pytest.fixture
def candidates(prompts) -> pa.Table:
    rows = [
        {
            "candidate_id": user + name,
            "generator": f"profiler {name[0]}",
            "text": words(user, name),
            "draw": int(name[1]),
        }
        | {"user_id": user, "cutoff": CUTOFF, "window_digest": digest, "generator_id": name[0], "style": "free"}
        | {"n_words": 4, "n_lint": 0, "call_key": ""}
        for user, digest in zip(prompts["user_id"].to_pylist(), prompts["window_digest"].to_pylist(), strict=True)
        for name in ANSWERS[user]
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


@pytest.fixture
def targets() -> pa.Table:
    return pa.table(
        {
            "user_id": list(HELD_OUT),
            "item_id": [title for title, _ in HELD_OUT.values()],
            "title": [title for title, _ in HELD_OUT.values()],
            "categories": [["Crime"]] * len(HELD_OUT),
            "event_timestamp": pa.array([CUTOFF] * len(HELD_OUT), pa.timestamp("us", tz="UTC")),
            "rating": [rating for _, rating in HELD_OUT.values()],
        }
    )


def test_windows_do_not_overlap(connection, prompts):
    whole, long = (histories(connection, reads).to_pylist() for reads in ("window", "long"))
    recent = {row["user_id"]: [r["item_id"] for r in row["rows"] if r["segment"] == "recent"] for row in whole}
    assert recent == dict.fromkeys(LONG, RECENT)
    assert {row["user_id"]: [r["item_id"] for r in row["rows"]] for row in long} == {u: o for u, o in LONG.items() if o}
    assert prompts["n_interactions"].to_pylist() == [2, 1, 1, 1]  # u5 has no older history: no profile
    assert prompts["prompt"][0].as_py() == (
        '{"n":1,"title":"OLD1","categories":["Crime"],"sentiment":"liked"}\n'
        '{"n":2,"title":"OLD2","categories":["Crime"],"sentiment":"disliked"}'
    )


def test_from_candidates_to_pairs(connection, prompts, candidates, targets, tmp_path):
    home = Home(tmp_path).create()
    engine = ScriptedEngine(judge_script)
    config = SentimentJudgeConfig(scale=SentimentScale(rating_max=5.0))
    judge = SentimentJudge(engine, config, Runner(engine, Ledger(home.ledger_url), home))
    result = judge.score(candidates, targets, histories(connection, reads="window"), PAST)

    recent = "".join(
        f'{{"n":{n},"title":"R{n}","categories":["Crime"],"sentiment":"{"liked" if n % 2 else "disliked"}"}}\n'
        for n in range(1, K + 1)
    )
    last = '{"next":"item","title":"Heat","categories":["Crime"]}'
    assert recent + '{"profile":"profile a1 of someone"}\n' + last in engine.seen
    assert recent + last in engine.seen

    columns = ("candidate_id", "correct", "answer", "no_profile")
    assert [tuple(row[name] for name in columns) for row in result.rewards.to_pylist()] == REWARDS
    assert result.rewards["value"].to_pylist() == [float(correct) for _, correct, _, _ in REWARDS]
    assert result.counts["unparsable"] == 1
    assert result.prior == {"like": 0.5, "neutral": 0.25, "dislike": 0.25}
    accuracy = {row.name: row.accuracy for row in result.rows}
    assert accuracy["profile"] == 7 / 16
    assert accuracy["no profile"] == accuracy["majority"] == 0.5

    pairs = preference_pairs(candidates, result.rewards, prompts, PairConfig(mode="faithful"))
    made = zip(pairs.rows["chosen_id"].to_pylist(), pairs.rows["rejected_id"].to_pylist(), strict=True)
    assert sorted(made) == PAIRS
    assert set(pairs.rows["margin"].to_pylist()) == {1.0}
    statistics = pairs.statistics
    assert statistics.dropped_users == {"all_correct": 1, "all_wrong": 1}
    assert statistics.pairs_per_user == {0: 2, 3: 1, 4: 1}
    assert statistics.pair_wins == {
        "profiler a": {"profiler a": 2, "profiler b": 3},  # u1: a1>a2, a1>b1; u2: a2>a1, a2>b1, a2>b2
        "profiler b": {"profiler a": 1, "profiler b": 1},  # u1: b2>a2, b2>b1
    }

    store = PairStore(home.alignment_url)
    assert store.add("faithful", config.model_dump(), pairs.rows, candidates, result.rewards) == 7
    assert store.pairs("faithful").equals(pairs.rows.sort_by("pair_id"))
    lines = [json.loads(line) for line in write_pairs(pairs.rows, tmp_path / "pairs.jsonl").read_text().splitlines()]
    asked = dict(zip(prompts["user_id"].to_pylist(), prompts["prompt"].to_pylist(), strict=True))
    assert sorted(
        (line["prompt"][0]["content"], line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in lines
    ) == sorted(
        (asked[chosen[:2]], words(chosen[:2], chosen[2:]), words(rejected[:2], rejected[2:]))
        for chosen, rejected in PAIRS
    )
