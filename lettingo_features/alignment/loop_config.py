"""Everything that one alignment run is told, in one place; its content hash names the run's inputs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lettingo_features.alignment.evaluator import EvaluatorConfig
from lettingo_features.alignment.explore import ExploreConfig
from lettingo_features.alignment.frame import FrameConfig
from lettingo_features.alignment.gate import GateConfig, MinimumEffect
from lettingo_features.alignment.guards import GuardConfig
from lettingo_features.alignment.pairs import PairConfig
from lettingo_features.alignment.ranking_reward import RankingRewardConfig
from lettingo_features.alignment.sentiment_reward import OF_A_HOST, SentimentRewardConfig
from lettingo_features.alignment.training_config import DpoTraining, SftTraining
from lettingo_features.config import Config
from lettingo_features.errors import ConfigError
from lettingo_features.windows import WindowConfig

Reader = Literal["encoder", "words"]


class LoopConfig(Config):
    """Explore, reward, pairs, training, gate. Defaults fit the embedded model and minutes on two cores."""

    frame: FrameConfig = FrameConfig()
    "Users and times."
    window: WindowConfig = WindowConfig()
    "What a text may see."
    max_words: int = Field(default=120, ge=1)
    "Words after which a text ends at its last whole sentence."
    explore: ExploreConfig = ExploreConfig(styles=("narrative",))
    "Candidates; of one style, so that what they are paid for is what they say."
    reader: Reader = "words"
    """What turns a text into a vector for the reward: the words of the catalogue (`evaluator.Words`), or the sentence
    encoder that serves. The gate's first metric reads with the other one: by default, with what serves."""
    judge: Literal["ranking", "sentiment"] = "ranking"
    "Family of the reward: ours, or LettinGo's language model. The gate's judges are the same either way."
    reward: RankingRewardConfig = RankingRewardConfig()
    "The ranking reward."
    sentiment: SentimentRewardConfig = SentimentRewardConfig()
    "The sentiment judge."
    guards: GuardConfig = GuardConfig(faithfulness_weight=0.05)
    "Against texts that please the judge without describing the person."
    shrink: bool = True
    "Shrink noisy rewards towards their kind's (`shrinkage`)."
    pairs: PairConfig = PairConfig(max_per_user=10, noise_factor=0.5, length_ratio=1.25)
    """Which comparisons teach; of closely matched lengths, since a small model learns length first. Many of a user,
    each seen once: what one pair says of its two texts is mostly noise, which a second epoch learns by heart."""
    shuffle_labels: bool = False
    "Negative control: chosen and rejected are swapped at random. What such a run gains is no effect of preferences."
    dpo: DpoTraining = DpoTraining(
        dpo={
            "beta": 0.5,
            "learning_rate": 2e-4,
            "num_train_epochs": 1,
            "loss_type": ["sigmoid", "sft"],
            "loss_weights": [1.0, 1.0],
        },
        averaged=8,
    )
    """Preference training: DPO's loss and the likelihood of the chosen texts (Pang et al. 2024, arXiv 2404.19733), by
    which a small model stays with texts that somebody wrote. A large beta keeps what no pair speaks against as it is in
    the base."""
    sft: SftTraining | None = SftTraining(sft={"learning_rate": 2e-4}, averaged=8)
    "The baseline on the chosen texts, as many steps; None leaves it out."
    evaluator: EvaluatorConfig = EvaluatorConfig()
    "The gate's ranker."
    gate: GateConfig = GateConfig(
        minimum_effects={
            "matched": MinimumEffect(absolute=0.01),
            "nDCG@10": MinimumEffect(share=0.02),
        }
    )
    "When a candidate generator may be released."

    def shaping(self) -> dict[str, Any]:
        """What decides the results, as JSON: all but where a judge's server is and what it costs."""
        return self.model_dump(mode="json", exclude={"sentiment": OF_A_HOST})

    @model_validator(mode="after")
    def _judge_fits(self) -> LoopConfig:
        if self.judge == "ranking" and self.pairs.mode == "faithful":
            raise ConfigError(
                "Faithful pairs are correct x wrong answers of the sentiment judge: add judge 'sentiment' (--judge), "
                "or take pairs of mode 'capped'."
            )
        if self.judge == "ranking":
            return self
        if not self.sentiment.model:
            raise ConfigError(
                "Which model judges? Give --judge-model: a directory of this machine, or with --judge-engine openai "
                "the name that a server serves."
            )
        if self.sentiment.by == "likelihood" and self.sentiment.engine != "transformers":
            raise ConfigError(
                f"Likelihoods are read in this process, not from {self.sentiment.engine}: judge by 'answer', or with "
                "the engine transformers."
            )
        if self.shrink:
            raise ConfigError("The sentiment judge has one target a user and so no noise to shrink by: shrink=false.")
        return self

    @model_validator(mode="after")
    def _same_batches(self) -> LoopConfig:
        dpo, sft = (
            told.get("per_device_train_batch_size") for told in (self.dpo.dpo, self.sft.sft if self.sft else {})
        )
        if self.sft is not None and dpo != sft:
            raise ConfigError(
                f"DPO trains {dpo or 'the default number of'} pairs a step and SFT {sft or 'the default'}: give both "
                "the same per_device_train_batch_size, or the rows of the table cannot be compared."
            )
        return self
