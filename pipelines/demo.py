"""The whole loop, end to end, then a report to open in a browser:  lettingo demo [--data DIR] [--home DIR]

Each step is the one that its own command runs; this file only puts them in order and chooses the cutoffs. Every step
skips what is already there, so a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pipelines.console import home_option, json_option, open_home, show

WORLD_USERS, WORLD_ITEMS = 1_500, 1_200
MAX_QUERIES, MAX_TEST_USERS = 2_000, 600  # what keeps the whole demo in minutes on two cores
BEHAVIOUR_PER_PROFILE = 3  # behaviour snapshots between two profile snapshots: counting is cheap, writing is not


def snapshot_schedule(split, publish_lag_s: int) -> tuple[list[datetime], list[datetime]]:
    """(profile cutoffs, behaviour cutoffs), oldest first, for the time split of the evaluation.

    The newest snapshot before the test is published exactly at its start; older ones follow at half the training
    period, back to one that is published when training starts, so that every training label finds a profile that
    existed before it. The last cutoff, for serving, is the first full second after the newest interaction.
    """
    lag = timedelta(seconds=publish_lag_s)
    step = max((split.test_start - split.train_start) / 2, timedelta(hours=1))
    profile = [split.test_start - lag - index * step for index in range(3)]
    fine = step / BEHAVIOUR_PER_PROFILE
    behaviour = [split.test_start - lag - index * fine for index in range(2 * BEHAVIOUR_PER_PROFILE + 1)]
    serving = split.end.replace(microsecond=0) + timedelta(seconds=1)
    return sorted({*profile, serving}), sorted({*behaviour, serving})


class Steps:
    """Prints each step as it begins, and keeps its wall seconds for the report."""

    def __init__(self, quiet: bool) -> None:
        self.seconds: list[tuple[str, float]] = []
        self._quiet = quiet

    @contextmanager
    def step(self, name: str):
        if not self._quiet:
            click.echo(click.style(f"▸ {name}", bold=True))
        start = time.monotonic()
        yield self
        self.seconds.append((name, round(time.monotonic() - start, 2)))

    def say(self, text: str) -> None:
        if not self._quiet:
            click.echo("\n".join(f"    {line}" for line in text.splitlines()))


@click.command()
@click.option("--data", type=click.Path(), help="Directory of interactions; a synthetic world when left out.")
@click.option("--format", help="Format of --data; detected when left out.")
@click.option("--port", type=int, help="Port of the Feast server on loopback; a free one when left out.")
@home_option
@json_option
def demo(data: str | None, format: str | None, port: int | None, home_dir: str, as_json: bool) -> None:
    """Interactions to profiles to a ranker's features, offline and online, with a certificate and a report."""
    home = open_home(home_dir)
    facts = run_demo(home, data, format, port, Steps(quiet=as_json))
    show(as_json, facts, f"\nreport: {facts['report']}")


def run_demo(home, data: str | None, format: str | None, port: int | None, steps: Steps) -> dict[str, Any]:
    """All steps in order; returns what ``--json`` prints."""
    from lettingo_features.evaluation.splits import SplitConfig, time_split
    from lettingo_features.home import write_parquet
    from lettingo_features.profiles.build import ProfileBuildConfig
    from lettingo_features.sql import connect
    from pipelines.behaviour import run_behaviour
    from pipelines.profiles import make_encoder, run_profiles
    from pipelines.uplift import labelled_users, make_labels
    from pipelines.writers import STATISTICAL_RELEASE

    began = time.monotonic()
    ingested = _ingest(home, data, format, steps)
    config = ProfileBuildConfig()
    splits = SplitConfig(max_queries=MAX_QUERIES, max_test_users=MAX_TEST_USERS)
    split = time_split(connect(home.spill), home.scan("interactions"), splits)
    labels, test = make_labels(home, split, splits)
    write_parquet(home.root / "training_sets" / "labels.parquet", labels.rows.to_batches(), labels.rows.schema)
    profile_cutoffs, behaviour_cutoffs = snapshot_schedule(split, config.window.publish_lag_s)
    with steps.step(f"behavioural features at {len(behaviour_cutoffs)} cutoffs"):
        rows = run_behaviour(home, behaviour_cutoffs, config.window.publish_lag_s)
        steps.say(", ".join(f"{count:,} rows of {table}" for table, count in rows.items()))
    encoder = make_encoder(home)
    built = {}
    # The statistical release is only the table's control here: the users that a label asks about are enough.
    for release, cutoffs, users in (
        ("v1", profile_cutoffs, None),
        (STATISTICAL_RELEASE, profile_cutoffs[:-1], labelled_users(labels, test)),
    ):
        with steps.step(
            f"profiles {release} at {len(cutoffs)} cutoffs{'' if users is None else ', users with labels'}"
        ):
            released = config.model_copy(update={"release": release})
            built[release] = run_profiles(home, released, cutoffs, encoder, users=users)
            steps.say(built[release].to_text())
    report, certificate, online = _rank_and_serve(home, encoder, split, labels, test, profile_cutoffs[-1], port, steps)
    facts = {
        "home": str(home.root),
        "ingest": ingested.model_dump(mode="json"),
        "profiles": {release: made.to_json() for release, made in built.items()},
        "certificate": certificate.model_dump(mode="json"),
        "uplift": report.to_dict(),
        "online": online,
        "steps": steps.seconds,
    }
    with steps.step("report"):
        facts["report"] = str(_write_report(home, data, split, profile_cutoffs, facts))
    facts["seconds"] = round(time.monotonic() - began, 1)
    return facts


def _ingest(home, data: str | None, format: str | None, steps: Steps):
    from pipelines.ingest import run_ingest

    _require_same_source(home, data)
    with steps.step(f"ingest {data or 'a synthetic world'}"):
        if data is None:
            data = str(_write_world(home))
        report = run_ingest(home, [data], format=format)
        steps.say(report.to_text())
    return report


def _require_same_source(home, data: str | None) -> None:
    """A home holds the interactions of one source: mixing two would make every table of the demo meaningless."""
    from lettingo_features.errors import ConfigError

    source = str(Path(data).resolve()) if data else "the synthetic world"
    note = home.root / "demo-source.txt"
    if not note.is_file():
        note.write_text(source + "\n")
    known = note.read_text().strip()
    if known != source:
        raise ConfigError(
            f"{home.root} holds a demo of {known}, and this one is of {source}: mixing two data sets would spoil both. "
            "Choose another home: make demo HOME_DIR=DIR, or lettingo demo --home DIR."
        )


def _write_world(home) -> Path:
    from lettingo_features.data.synthetic import SyntheticWorld, WorldConfig, write_world

    directory = home.root / "world"
    if not directory.is_dir():
        write_world(SyntheticWorld(WorldConfig(n_users=WORLD_USERS, n_items=WORLD_ITEMS)), directory)
    return directory


def _rank_and_serve(home, encoder, split, labels, test, serving_cutoff: datetime, port: int | None, steps: Steps):
    from lettingo_features.errors import ServingError
    from lettingo_features.evaluation.uplift import UpliftConfig
    from lettingo_features.windows import WindowConfig
    from pipelines.items import run_items
    from pipelines.online import run_consistency, run_materialize
    from pipelines.store import REPO, feast, open_store
    from pipelines.uplift import run_uplift
    from serving.server import feast_server

    with steps.step("item text vectors"):
        counts = run_items(home, encoder)
        steps.say(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    with steps.step("feast -c feature_repo apply"):
        feast(home, "apply")
    store = open_store(home)
    with steps.step("training sets, certificate, uplift table"):
        report, certificate = run_uplift(home, store, split, labels, test, UpliftConfig())
        steps.say(f"{certificate.to_text()}\n\n{report.to_text()}")
    published = serving_cutoff + timedelta(seconds=WindowConfig().publish_lag_s)
    with steps.step(f"feast -c feature_repo materialize-incremental {published:%Y-%m-%dT%H:%M:%S}"):
        run_materialize(home, published)
    with steps.step("feast -c feature_repo serve, then the same rows over HTTP"):
        with feast_server(REPO, home.root, port=port) as url:
            online = run_consistency(home, store, url, published)
        for service, facts in online.items():
            steps.say(
                f"{service:<20} {facts['rows']:>5} rows {facts['values']:>8,} values, "
                f"{'all equal to the offline join' if facts['equal'] else facts['mismatches']}, {facts['median_ms']} ms"
            )
        if not all(facts["equal"] for facts in online.values()):
            raise ServingError("Online and offline values differ: see the lines above.")
    return report, certificate, online


def _write_report(home, data, split, cutoffs, facts) -> Path:
    from lettingo_features.evaluation.report import ReportInputs, write_report
    from lettingo_features.evaluation.stories import activity, stories, word_histogram

    ingest = facts["ingest"]
    inputs = ReportInputs(
        title="Profiles as features",
        data_name=Path(data).name if data else "a synthetic world",
        created_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        activity=activity(home),
        cutoffs=cutoffs,
        split=split,
        ingest=ingest,
        users=stories(home, "v1"),
        stages=facts["steps"],
        profile_stats={**facts["profiles"]["v1"]["build"], "word_histogram": word_histogram(home, "v1")},
        uplift=facts["uplift"],
        certificate=facts["certificate"],
        online=facts["online"],
        commands=[
            f"export LETTINGO_HOME={home.root}",
            "feast -c feature_repo serve",
            "lettingo profiles show USER",
            f"lettingo training-set --labels {home.root}/training_sets/labels.parquet "
            "--service ranker_profile_v1 --out train.parquet",
        ],
    )
    return write_report(inputs, home.reports / "demo.html")
