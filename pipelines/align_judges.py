"""The judge of candidates that a run is told: the one place of the loop that knows which family it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from lettingo_features.alignment.judge import Judge
from lettingo_features.alignment.ranking_judge import RankingJudge
from lettingo_features.alignment.sentiment_reward import SentimentReward, SentimentRewardConfig
from lettingo_features.generation.engine import Engine
from pipelines.align_files import AlignmentRun
from pipelines.writers import WriterOptions, calls_at_once, ledger_url, make_engine, refuse_ignored

ANSWER_TOKENS = 32
"The longest answer of the three has about a dozen."


@contextmanager
def open_judge(run: AlignmentRun) -> Iterator[Judge]:
    """The judge of the explored users, frozen; its model is closed at the end."""
    config, frame = run.config, run.frame
    if config.judge == "ranking":
        scene, read = run.scene("explored"), run.reader()
        yield RankingJudge(run.ranking_reward(scene, read), read, frame.reward_targets, config.explore.seed)
        return
    from lettingo_features.alignment.sentiment_judge import SentimentJudge
    from lettingo_features.generation.ledger import Ledger
    from lettingo_features.generation.runner import Runner, RunnerConfig

    options = judge_options(config.sentiment)
    with closing(_engine(options, config.sentiment.by)) as engine:
        calls = RunnerConfig(claim_size=calls_at_once(options))
        runner = Runner(engine, Ledger(ledger_url(run.home, options)), run.home, calls)
        judge = SentimentJudge(engine, config.sentiment.judged(frame.rating_max), runner)
        yield SentimentReward(judge, run.home, frame.rated_targets, frame.reward_cutoff, config.window)


def judge_options(config: SentimentRewardConfig) -> WriterOptions:
    """The judge's model as the options of a writer."""
    return WriterOptions(**config.model_dump(include=set(WriterOptions.__slots__)))


def _engine(options: WriterOptions, by: str) -> Engine:
    from lettingo_features.alignment import sentiment_prompt as asked
    from lettingo_features.generation.likelihood import AnswerLikelihoods
    from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine
    from lettingo_features.profiles.local_model import instruction_for

    bare = options.engine != "openai" and instruction_for(options.model) == ""  # trained on rows: reads nothing else
    instruction = "" if bare else asked.INSTRUCTION
    if by == "answer":
        return make_engine(options, instruction, asked.JSON_SCHEMA, ANSWER_TOKENS)
    refuse_ignored(options)
    told = {"model": options.model, "instruction": instruction, "max_new_tokens": ANSWER_TOKENS}
    config = TransformersConfig(**told, **({"dtype": options.dtype} if options.dtype else {}))
    return AnswerLikelihoods(TransformersEngine(config), asked.ANSWERS)
