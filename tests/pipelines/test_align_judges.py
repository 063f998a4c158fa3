"""The reward and pairs of a run by LettinGo's judge: served and by likelihood, through the steps of the command."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.report import render_align_report
from lettingo_features.alignment.run_files import read_run
from lettingo_features.alignment.sentiment import CLASSES
from lettingo_features.columns import TIMESTAMP
from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world
from lettingo_features.errors import ConfigError
from lettingo_features.home import Home
from lettingo_features.profiles.local_model import embedded_model
from pipelines.align_files import AlignmentRun
from pipelines.align_loop import run_explore, run_pairs, run_reward
from pipelines.align_options import RunOptions, loop_config
from pipelines.ingest import run_ingest
from pipelines.writers import WriterOptions
from tests.generation.fake_openai import FakeOpenAI

SMALL = {"frame": {"max_fit": 5, "max_explored": 12, "max_gate": 5}, "explore": {"n_candidates": 4}}
FEW_ROWS = {"window": {"recent_k": 2}}  # the embedded model has room for 512 tokens
PAIRS_BY_HAND = """
    WITH judged AS (
        SELECT user_id, text, min(candidate_id) AS id, any_value(correct) AS correct
        FROM candidates JOIN rewards USING (candidate_id, user_id) GROUP BY user_id, text
    )
    SELECT good.user_id, good.id AS chosen_id, bad.id AS rejected_id
    FROM judged good JOIN judged bad USING (user_id) WHERE good.correct AND NOT bad.correct
"""


class Encoder:
    """Vectors that tell texts apart and mean nothing."""

    encoder_id, config = "hashed", SimpleNamespace(model="hashed")

    def encode(self, texts):
        seeds = [int(sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        rows = np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds], np.float32).reshape(-1, 8)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    root = tmp_path_factory.mktemp("judged")
    write_world(SyntheticWorld(WorldConfig(n_users=120, n_items=150, interactions_per_user=30)), root / "world")
    made = Home(root / "home").create()
    run_ingest(made, [str(root / "world")])
    return made


def begun(home: Home, name: str, tmp_path: Path, fields: dict, elsewhere=None, **options) -> AlignmentRun:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(SMALL | fields))
    config = loop_config(RunOptions(name, config=str(path), judge="sentiment", **options))
    return AlignmentRun(home, name, config, WriterOptions(), Encoder(), lambda text: None, elsewhere)


def answer(prompt: str) -> str:
    """A judge who reads the profile and the item as a hash; one answer in seven is none."""
    lines = [json.loads(line) for line in prompt.split("\n") if line.startswith("{")]
    said = next((line["profile"] for line in lines if "profile" in line), "")
    drawn = int(sha256((said + lines[-1].get("title", "")).encode()).hexdigest(), 16)
    return "no idea" if drawn % 7 == 0 else json.dumps({"sentiment": CLASSES[drawn % 3]})


def test_a_served_judge_makes_faithful_pairs_and_is_asked_once(home, tmp_path):
    with FakeOpenAI(text=answer) as server:
        served = {"judge_engine": "openai", "judge_model": "m", "judge_url": server.url}
        users = [f"u{n:06}" for n in range(120)]
        texts = {"user_id": users, "text": ["Likes what others like."] * 120, "window_end": pa.nulls(120, TIMESTAMP)}
        run = begun(home, "served", tmp_path, {}, [("gpt", pa.table(texts))], **served)
        run_explore(run)
        write = run.write
        run.write = lambda name, table: 1 / 0  # ended after the last answer and before anything was kept
        with pytest.raises(ZeroDivisionError):
            run_reward(run)
        run.write = write
        asked = len(server.requests)
        run_reward(run)
        assert len(server.requests) == asked == len(server.delivered)
        assert all(str(user) not in str(server.requests) for user in run.frame.explored.to_pylist())
    assert run.facts["elsewhere"] == {"gpt": {"with_window_end": 0, "without_window_end": len(run.frame.explored)}}
    facts = run.read_json("reward.json")
    counts = facts["sentiment"]["counts"]
    rewards = pq.read_table(run.path("rewards.parquet"))
    assert counts["judged"] == rewards.num_rows > 20
    assert counts["unparsable"] == sum(given not in CLASSES for given in rewards["answer"].to_pylist()) > 0
    assert sum(facts["sentiment"]["prior"].values()) == pytest.approx(1)
    assert facts["controls"].keys() >= {
        "profile",
        "profile: gpt",
        "no profile",
        "shuffled profile",
        "majority",
        "user mode",
    }
    assert "shrinkage" not in facts

    n_pairs = run_pairs(run)
    tables = {name: pq.read_table(run.path(f"{name}.parquet")) for name in ("candidates", "rewards", "pairs")}
    expected = duckdb.sql(PAIRS_BY_HAND, connection=_with(tables)).fetchall()
    made = duckdb.sql("SELECT user_id, chosen_id, rejected_id FROM pairs", connection=_with(tables)).fetchall()
    assert sorted(made) == sorted(expected)
    assert n_pairs == len(expected) > 10
    assert set(tables["pairs"]["margin"].to_pylist()) == {1.0}

    page = render_align_report(read_run(run.directory), "lettingo align run", "aligned", "base")
    assert "What the judge foretells" in page
    assert "shuffled profile" in page and "user mode" in page
    assert "texts of gpt" in page
    assert f"<dt>unparsable</dt><dd>{counts['unparsable']}</dd>" in page
    run._held.close()


def _with(tables) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, table)
    return connection


def test_a_judge_by_likelihood_makes_capped_pairs(home, tmp_path):
    judge = {"sentiment": {"by": "likelihood", "model": str(embedded_model())}}
    capped = {"pairs": {"mode": "capped", "min_margin": 1e-3, "length_ratio": None}}
    run = begun(home, "likely", tmp_path, FEW_ROWS | judge | capped)
    run_explore(run)
    run_reward(run)
    before = run.path("rewards.parquet").read_bytes()
    rewards = pq.read_table(run.path("rewards.parquet"))
    assert rewards.num_rows > 20
    values = rewards["value"].to_numpy()
    assert (values < 0).all()  # log p of the true class
    foretold = run.read_json("reward.json")["sentiment"]["rows"][0]
    assert foretold["mean_log_p"] == pytest.approx(values.mean())
    assert run_pairs(run) > 0
    assert run.read_json("pairs/pairs.json")["mode"] == "capped"
    for name in ("reward.json", "rewards.parquet"):
        run.path(name).unlink()
    run_reward(run)
    assert run.path("rewards.parquet").read_bytes() == before
    run._held.close()


def test_an_unknown_model_is_refused_when_it_is_asked_for(home, tmp_path):
    with pytest.raises(ConfigError, match="Which model judges"):
        begun(home, "nobody", tmp_path, {})
