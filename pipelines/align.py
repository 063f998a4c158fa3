"""LettinGo's loop:  lettingo align run [--data DIR] [--fast] | explore | reward | pairs | train | gate | report"""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from pipelines.align_options import open_run, run_options
from pipelines.console import home_option, json_option, open_home, show

WORLD_USERS, WORLD_ITEMS, FAST_WORLD_USERS = 2_000, 1_500, 600


@click.group()
def align() -> None:
    """Explore candidate profiles, reward them, align the generator by DPO, and let a gate decide."""


def _step(run_step, begins: bool):
    """A command that runs one step of a run and prints its record; only exploration may begin one."""

    @run_options
    def command(options, home_dir, as_json) -> None:
        from lettingo_features.errors import ConfigError

        home = open_home(home_dir)
        if not begins and not (home.alignment / options.name / "run.json").is_file():
            raise ConfigError(f"There is no run {options.name} in {home.alignment}: lettingo align explore begins one.")
        run = open_run(home, options, as_json)
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
    align.command(name, help=help)(_step(step, begins=name == "explore"))


@align.command()
@click.option("--data", type=click.Path(), help="Interactions to ingest first.")
@click.option("--format", help="Format of --data; detected when left out.")
@click.option("--world", is_flag=True, help="A synthetic world in an empty home; --fast implies it.")
@click.option("--release", help="Register the aligned generator under this name, with its verdict.")
@click.option(
    "--promote", is_flag=True, help="Promote it too, if the gate says so; needs built profiles of a champion."
)
@run_options
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
