"""What the alignment commands are told: options, a file and the run itself -> the `AlignmentRun` to go on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipelines.console import home_option, json_option
from pipelines.writers import STYLES, WriterOptions

FAST = {
    "frame": {"max_fit": 100, "max_explored": 150, "max_gate": 200},
    "explore": {"n_candidates": 8},
    "dpo": {"kl_prompts": 16},
    "sft": {"kl_prompts": 16},
}
"""A run of minutes that shows the machinery: too few users to show a small gain, which the gate then says."""
SENTIMENT = {
    "explore": {"styles": [style for style in STYLES if style != "free"]},
    "shrink": False,
    "guards": {"faithfulness_weight": 0.0},
    "pairs": {"mode": "faithful"},
    "dpo": {"averaged": None},
    "sft": {"averaged": None},
}
"""What follows from LettinGo's judge where nothing else is said: texts of every form, its pairs, no term beside its
answers, and the end of the training."""
SEEDED = ("frame", "explore", "reward", "sentiment", "dpo", "evaluator", "gate")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a command is told of a run. What it is not told is as the run began, or the default of a new one."""

    name: str = "a1"
    config: str | None = None
    fast: bool = False
    seed: int | None = None
    model: str | None = None
    prompt: str | None = None
    encoder: str | None = None
    reader: str | None = None
    judge: str | None = None
    judge_engine: str | None = None
    judge_model: str | None = None
    judge_url: str | None = None
    candidates: tuple[str, ...] = ()


_OPTIONS = (
    click.option("--name", default="a1", show_default=True, help="Of the run; its files lie in alignment/NAME."),
    click.option("--config", type=click.Path(exists=True, dir_okay=False), help="JSON of a LoopConfig's fields."),
    click.option("--fast", is_flag=True, help="Few users and candidates: minutes, to see the machinery."),
    click.option("--seed", type=int, show_default="0", help="Of users, draws, pairs, training and gate."),
    click.option("--model", help="Model directory to start from; left out: the champion's, else the embedded one."),
    click.option("--prompt", show_default="auto", help="As in lettingo profiles generate."),
    click.option("--encoder", show_default="minilm_l6_v2", help="That serves the profiles."),
    click.option("--reader", type=click.Choice(["encoder", "words"]), help="Of the reward; see docs/alignment.md."),
    click.option("--judge", type=click.Choice(["ranking", "sentiment"]), show_default="ranking", help="The reward."),
    click.option("--judge-engine", type=click.Choice(["transformers", "vllm", "openai"]), help="Of --judge sentiment."),
    click.option("--judge-model", help="Its directory, or the name that a server serves."),
    click.option("--judge-url", help="Of its server."),
    click.option(
        "--candidates",
        multiple=True,
        metavar="NAME=FILE",
        help="Texts written elsewhere from windows before the reward's cutoff: columns user_id, text and, if known, "
        "window_end. Repeat.",
    ),
)


def run_options(command: Callable) -> Callable:
    """The options of `RunOptions`, which the command gets as ``options``, with --home and --json."""
    names = RunOptions.__slots__

    @wraps(command)
    def gathered(**told: Any) -> Any:
        return command(options=RunOptions(**{name: told.pop(name) for name in names}), **told)

    for option in reversed((*_OPTIONS, home_option, json_option)):
        gathered = option(gathered)
    return gathered


def loop_config(options: RunOptions, begun: Mapping[str, Any] | None = None):
    """The configuration that ``options`` name. For a run that has begun with the configuration ``begun`` (JSON) that
    one, but for what is told otherwise: `AlignmentRun` refuses it, unless it shapes no result.

    Raises
    ------
    ConfigError
        The file is no JSON object, a field of it is unknown or out of range, the run has another judge, or
        options of a judge who is not asked.
    """
    from lettingo_features.alignment.loop_config import LoopConfig
    from lettingo_features.errors import ConfigError

    told = _told(options, begun)
    known = (begun or {}).get("judge", "ranking")
    judge = told.get("judge", known)
    if begun is not None and judge != known:
        raise ConfigError(f"The run {options.name} was begun with the judge {known}: give it another --name.")
    if judge != "sentiment" and (options.judge_engine or options.judge_model or options.judge_url):
        raise ConfigError("--judge-engine, --judge-model and --judge-url belong to --judge sentiment: add it.")
    if begun is not None:
        return LoopConfig(**_merged(begun, told))
    if judge == "sentiment":
        told = _merged(SENTIMENT, told)
    return LoopConfig(**_merged(LoopConfig().model_dump(mode="json"), told))


def _told(options: RunOptions, begun: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields that the options state: a file's go before those of the others."""
    told = _file_fields(options.config)
    if options.fast:
        told = _merged(FAST, told)
    if options.seed is not None:
        seeds = {part: {"seed": options.seed} for part in SEEDED}
        if told.get("sft", (begun or {}).get("sft", {})) is not None:
            seeds["sft"] = {"seed": options.seed}
        told = _merged(seeds, told)
    model = options.judge_model
    if model and options.judge_engine != "openai" and Path(model).is_dir():
        model = str(Path(model).resolve())  # the next command may come from elsewhere
    judge = {"engine": options.judge_engine, "model": model, "base_url": options.judge_url}
    named = {"reader": options.reader, "judge": options.judge}
    named["sentiment"] = {name: value for name, value in judge.items() if value is not None}
    return _merged(told, {name: value for name, value in named.items() if value})


def _file_fields(config: str | None) -> dict[str, Any]:
    import json

    from lettingo_features.errors import ConfigError

    try:
        told = json.loads(Path(config).read_text()) if config else {}
    except ValueError as error:
        raise ConfigError(f"{config} cannot be read as JSON ({error}).") from error
    if not isinstance(told, dict):
        raise ConfigError(f"{config} holds no JSON object: give the fields of a LoopConfig.")
    return told


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, objects field by field."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        if both and key == "minimum_effects":  # each is given one way or the other, never both
            merged[key] = merged[key] | value
        else:
            merged[key] = _merged(merged[key], value) if both else value
    return merged


def open_run(home, options: RunOptions, as_json: bool):
    """The `AlignmentRun` that the options name. Without --model it starts from the champion's, as the gate compares
    with what is released; a run that has begun goes on with what it began with."""
    from pipelines.align_files import AlignmentRun, begun_with
    from pipelines.profiles import make_encoder

    def say(text: str) -> None:
        if not as_json:
            click.echo(text)

    begun = begun_with(home, options.name)
    model = options.model or (begun["model"] if begun else _released_model(home))
    writer = WriterOptions(model=model, prompt=options.prompt or begun.get("prompt", "auto"))
    encoder = make_encoder(home, options.encoder or begun.get("encoder_model", "minilm_l6_v2"))
    elsewhere = read_candidates(options.candidates) if options.candidates else None
    config = loop_config(options, begun.get("config"))
    return AlignmentRun(home, options.name, config, writer, encoder, say, elsewhere)


def _released_model(home) -> str | None:
    """The champion's model directory; None: the embedded model."""
    from pipelines.release import open_registry

    with open_registry(home) as registry:
        champion = registry.champion()
    return (champion.writer or {}).get("model") if champion else None


def read_candidates(named: tuple[str, ...]) -> list[tuple[str, Any]]:
    """(generator, rows of `imported.read_texts`) of each ``NAME=FILE``."""
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.imported import read_texts

    read = []
    for each in named:
        name, sign, file = each.partition("=")
        if not (name and sign and file):
            raise ConfigError(f"--candidates {each} is no NAME=FILE.")
        read.append((name, read_texts(file, "user_id", "text", end_column="window_end")))
    return read
