"""LettinGo's loop:  lettingo align run [--data DIR] [--fast] | explore | reward | pairs | train | gate | report"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipelines.console import home_option, json_option, open_home, show
from pipelines.writers import WriterOptions

FAST = {
    "frame": {"max_fit": 100, "max_explored": 150, "max_gate": 200},
    "explore": {"n_candidates": 6},
    "dpo": {"kl_prompts": 16},
    "sft": {"kl_prompts": 16},
}
"""A run of minutes that shows the machinery: too few users to show a small gain, which the gate then says."""
SENTIMENT = {"shrink": False, "guards": {"faithfulness_weight": 0.0}, "pairs": {"mode": "faithful"}}
"""What follows from LettinGo's judge where nothing else is said: its pairs, and no term beside its answers."""
SEEDED = ("frame", "explore", "reward", "sentiment", "dpo", "evaluator", "gate")
WORLD_USERS, WORLD_ITEMS, FAST_WORLD_USERS = 2_000, 1_500, 600


@click.group()
def align() -> None:
    """Explore candidate profiles, reward them, align the generator by DPO, and let a gate decide."""


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
    click.option("--fast", is_flag=True, help="Few users and one epoch: minutes, to see the machinery."),
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
        help="Texts written elsewhere from windows before the reward's cutoff: columns user_id, text. Repeat.",
    ),
)


def _run_options(command: Callable) -> Callable:
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
        The file is no JSON object, a field of it is unknown or out of range, or the run has another judge.
    """
    from lettingo_features.alignment.loop_config import LoopConfig
    from lettingo_features.errors import ConfigError

    told = _told(options, begun)
    if begun is not None:
        judge = begun.get("judge", "ranking")
        if told.get("judge", judge) != judge:
            raise ConfigError(f"The run {options.name} was begun with the judge {judge}: give it another --name.")
        return LoopConfig(**_merged(begun, told))
    if told.get("judge") == "sentiment":
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
    judge = {"engine": options.judge_engine, "model": options.judge_model, "base_url": options.judge_url}
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


def read_candidates(named: tuple[str, ...]) -> list[tuple[str, list[str], list[str]]]:
    """(generator, user ids, texts) of each ``NAME=FILE``."""
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.imported import read_profiles

    read = []
    for each in named:
        name, sign, file = each.partition("=")
        if not (name and sign and file):
            raise ConfigError(f"--candidates {each} is no NAME=FILE.")
        read.append((name, *read_profiles(file, "user_id", "text")))
    return read


def _step(run_step):
    """A command that runs one step of a run and prints its record."""

    @_run_options
    def command(options, home_dir, as_json) -> None:
        run = open_run(open_home(home_dir), options, as_json)
        run_step(run)
        if as_json:
            show(True, run.facts, "")

    return command


def _explore(run) -> None:
    from pipelines.align_loop import run_explore

    run_explore(run)


def _reward(run) -> None:
    from pipelines.align_loop import run_reward

    run_reward(run)


def _pairs(run) -> None:
    from pipelines.align_loop import run_pairs

    run_pairs(run)


def _train(run) -> None:
    from pipelines.align_loop import run_train

    run_train(run)


def _gate(run) -> None:
    from pipelines.align_gate import run_gate

    run_gate(run)


def _report(run) -> None:
    from pipelines.align_gate import run_report

    run.say(str(run_report(run, " ".join(["lettingo", *sys.argv[1:]]))))


for name, step, help in (
    ("explore", _explore, "Write candidates for the explored users."),
    ("reward", _reward, "Judge the candidates."),
    ("pairs", _pairs, "Make preference pairs of the rewards."),
    ("train", _train, "Align the generator by DPO; train the SFT baseline."),
    ("gate", _gate, "Compare the aligned generator with the base on users and times that nothing has seen."),
    ("report", _report, "Write the run's page again."),
):
    align.command(name, help=help)(_step(step))


@align.command()
@click.option("--data", type=click.Path(), help="Interactions to ingest first.")
@click.option("--format", help="Format of --data; detected when left out.")
@click.option("--world", is_flag=True, help="A synthetic world in an empty home; --fast implies it.")
@click.option("--release", help="Register the aligned generator under this name, with its verdict.")
@click.option(
    "--promote", is_flag=True, help="Promote it too, if the gate says so; needs built profiles of a champion."
)
@_run_options
def run(data, format, world, release, promote, options, home_dir, as_json) -> None:
    """The whole loop: explore, reward, pairs, train, gate, report. Run again, it goes on where it was.

    Exit status 0 whatever the gate decides; the decision is in the output. 2: a step could not be done.
    """
    from lettingo_features.errors import ConfigError
    from lettingo_features.runs import run_record

    if promote and not release:
        raise ConfigError("--promote needs a name for the release: --release v2.")
    if release and not re.fullmatch(r"[a-z0-9_]+", release):
        raise ConfigError(f"--release {release!r} is no name of a release: small letters, digits, underscores.")
    home = open_home(home_dir)
    _require_data(home, data, format, options.fast, world)
    with run_record(home, "align run", {"data": data, "name": options.name, "seed": options.seed}) as record:
        facts = run_loop(open_run(home, options, as_json), release, promote)
        record.record(**facts)
    page = f"\nreport: {facts['report']}" if "report" in facts else ""
    show(as_json, facts, f"\n{facts['decision']}: {' '.join(facts['reasons'])}{page}")


def run_loop(loop, release: str | None = None, promote: bool = False) -> dict[str, Any]:
    """All steps in order; returns what ``--json`` prints. Without a single pair there is nothing to train: held."""
    from pipelines.align_gate import run_gate, run_release, run_report
    from pipelines.align_loop import run_explore, run_pairs, run_reward, run_train

    run_explore(loop)
    run_reward(loop)
    if not run_pairs(loop):
        reason = "No comparison became a pair: bring more users or targets, or ask less of a pair."
        return {"decision": "hold", "reasons": [reason], "run": str(loop.directory)}
    run_train(loop)
    verdict = run_gate(loop)
    facts = {"decision": verdict["decision"], "reasons": verdict["reasons"], "run": str(loop.directory)}
    facts["report"] = str(run_report(loop, " ".join(["lettingo", *sys.argv[1:]])))
    if release:
        facts |= run_release(loop, release, promote)
    return facts | {"steps": loop.facts["steps"]}


@align.command()
@click.argument("name")
@home_option
@json_option
def forget(name: str, home_dir: str, as_json: bool) -> None:
    """Remove a run with its texts and pairs; not while a release uses its model."""
    import shutil
    from contextlib import closing

    from lettingo_features.alignment.pair_store import PairStore
    from lettingo_features.errors import ConfigError
    from pipelines.release import alignment_url, open_registry

    home = open_home(home_dir)
    directory = home.alignment / name
    if not directory.is_dir() or directory.parent != home.alignment:
        raise ConfigError(f"There is no run {name} in {home.alignment}.")
    with open_registry(home) as registry:
        used = [one.name for one in registry.all() if (one.model or "").startswith(f"{directory}/")]
    if used:
        raise ConfigError(f"The release(s) {', '.join(used)} use the model of {name}: abandon them first.")
    with closing(PairStore(alignment_url(home))) as store:
        store.forget(name)
    shutil.rmtree(directory)
    show(as_json, {"forgotten": name}, f"{name} is forgotten")


def _require_data(home, data: str | None, format: str | None, fast: bool, world: bool) -> None:
    """Ingest ``data``; a synthetic world only where it is asked for and nothing is there."""
    from lettingo_features.errors import ConfigError
    from pipelines.ingest import run_ingest

    if data is None and home.parts("interactions"):
        return
    if data is None and not (fast or world):
        raise ConfigError(f"{home.root} has no interactions: give --data DIR, or --world for a synthetic one.")
    if data is None:
        from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world

        directory = home.root / "world"
        users = FAST_WORLD_USERS if fast else WORLD_USERS
        write_world(SyntheticWorld(WorldConfig(n_users=users, n_items=WORLD_ITEMS)), directory)
        data = str(directory)
    run_ingest(home, [data], format=format)
