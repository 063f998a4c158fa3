"""LettinGo's reward as a judge of the loop: which model answers, on whose recent items and which later one.

One held-out item a user, as in the paper (section 3.2.2): the first that the user rated in the reward's period and had
not met before (`frame.Frame.rated_targets`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.alignment.judge import Judged
from lettingo_features.alignment.sentiment import SentimentRow, SentimentScale
from lettingo_features.alignment.sentiment_judge import SentimentJudge, SentimentJudgeConfig
from lettingo_features.config import Config
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.errors import DataError
from lettingo_features.home import Home
from lettingo_features.profiles.history import history_rows
from lettingo_features.profiles.summary import SummaryConfig
from lettingo_features.sql import connect, literal
from lettingo_features.windows import WindowConfig, create_windows

OF_A_HOST = {"base_url", "api_key_env", "concurrency", "price_in", "price_out"}
"""Fields of `SentimentRewardConfig` that shape no answer: a server may move while a run goes on."""


class SentimentRewardConfig(Config):
    """How a rating becomes a class, and which model judges; from ``engine`` on as options of ``profiles generate``."""

    by: Literal["answer", "likelihood"] = "answer"
    "See `SentimentJudgeConfig.by`; likelihood needs a model directory and the engine transformers."
    liked_from: float = 0.8
    "Share of the rating scale from which the later item was liked: 4 of 5."
    disliked_below: float = 0.6
    "Share of the rating scale below which it was disliked: under 3 of 5."
    seed: int = 0
    "Of the shuffled control and the intervals."
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    "In this process, or a server of the OpenAI kind."
    model: str = ""
    "Directory, or the name that a server serves. There is no default: the embedded model writes, it cannot judge."
    base_url: str = "http://127.0.0.1:8000/v1"
    "Of a server."
    api_key_env: str = "OPENAI_API_KEY"
    "Environment variable that holds a server's key; read by the command line, never kept."
    revision: str = ""
    "What tells a served model of one name from its successor."
    tokenizer: str | None = None
    "Local directory with the served model's tokenizer: data then goes as token ids."
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    "What a server can hold an answer to."
    max_model_len: int | None = None
    "Positions that vLLM takes or a server serves; None: as in ``profiles generate``."
    dtype: str | None = None
    "Of the weights in this process; None: the engine's."
    concurrency: int = 32
    "Calls open at a server."
    price_in: float = 0.0
    "USD per million tokens read."
    price_out: float = 0.0
    "USD per million tokens written."

    def judged(self, rating_max: float) -> SentimentJudgeConfig:
        """For data whose ratings end at ``rating_max``."""
        scale = SentimentScale(rating_max=rating_max, liked_from=self.liked_from, disliked_below=self.disliked_below)
        return SentimentJudgeConfig(scale=scale, by=self.by, seed=self.seed)


class SentimentReward:
    """A `judge.Judge`.

    Parameters
    ----------
    targets
        One rated later item a user: user_id, item_id, event_timestamp, rating.
    cutoff, window
        Whose recent segment the judge reads.
    """

    def __init__(
        self, judge: SentimentJudge, home: Home, targets: pa.Table, cutoff: datetime, window: WindowConfig
    ) -> None:
        self._judge, self._home, self._targets, self._cutoff, self._window = judge, home, targets, cutoff, window

    def judge(self, candidates: pa.Table) -> Judged:
        """See `judge.Judge`; ``controls`` are means of the reward: shares foretold right, or log p(true class)."""
        shown, histories, ratings = self._tables()
        result = self._judge.score(candidates, shown, histories, ratings)
        counts = result.counts
        if counts.get("pending"):
            raise DataError(
                f"{counts['pending']:,} calls of the judge {self._judge.engine.name} got no answer. Run the same "
                "command again: what was answered is stored, and only the rest is asked."
            )
        if not result.rewards.num_rows:
            said = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in counts.items() if n)
            raise DataError(
                f"None of {candidates.num_rows:,} candidates could be judged: {said or 'no user has a later rating'}. "
                "The judge needs rated later items, titles or categories, and a model with room for its prompts."
            )
        facts = {"sentiment": result.to_json(), "controls": {row.name: self._mean(row) for row in result.rows}}
        return Judged(result.rewards, self._targets, facts, result.to_text())

    def _mean(self, row: SentimentRow) -> float | None:
        return row.accuracy if self._judge.config.by == "answer" else row.mean_log_p

    def _tables(self) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Targets with title and categories, histories and earlier ratings of the users who have a target."""
        connection = connect(self._home.spill)
        connection.register("targets", self._targets)
        items = latest_items_sql(self._home)
        shown = connection.sql(
            f"""SELECT targets.*, coalesce(title, '') AS title, coalesce(categories, []::VARCHAR[]) AS categories
                FROM targets LEFT JOIN {items} USING (item_id) ORDER BY user_id"""
        ).to_arrow_table()
        mine = f"(SELECT * FROM {self._home.scan('interactions')} SEMI JOIN targets USING (user_id))"
        both = self._window.model_copy(update={"reads": "window"})  # the judge reads what the generator may not
        create_windows(connection, mine, [self._cutoff], both)
        scale = self._judge.config.scale
        summary = SummaryConfig(**scale.model_dump())
        histories = history_rows(connection, items, summary).read_all()
        ratings = connection.sql(
            f"""SELECT {c.USER_ID}, {c.EVENT_TIMESTAMP}, {c.RATING} FROM {mine}
                WHERE {c.EVENT_TIMESTAMP} < TIMESTAMPTZ {literal(self._cutoff.isoformat())}"""
        ).to_arrow_table()
        connection.close()
        return shown, histories, ratings
