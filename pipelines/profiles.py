"""Profiles as of instants:  lettingo profiles generate --as-of T | backfill --start T --end T --every 30d | show U"""

from __future__ import annotations

import os
from datetime import datetime

import click

from pipelines.behaviour import cutoffs_from
from pipelines.console import Instant, home_option, json_option, open_home, progress_bar, show

STATISTICAL_RELEASE = "v0"
"Release of the statistical generator alone: the baseline that every language model must beat."
MAX_PROCESSES = 4
"Copies of the embedded model, one per core; a larger model gets one process with all cores."


def make_encoder(home, model: str = "minilm_l6_v2", precision: str = "fp32"):
    """The sentence encoder, with its cache of vectors in ``home``."""
    from lettingo_features.encoding import EncoderConfig, SentenceEncoder

    return SentenceEncoder(EncoderConfig(model=model, precision=precision), cache_dir=home.cache)


def make_generators(release: str, model: str | None):
    """(cold, warm) generators of ``release``: both statistical for v0, else the language model for the warm."""
    from lettingo_features.profiles.statistical import StatisticalGenerator

    statistical = StatisticalGenerator()
    if release == STATISTICAL_RELEASE:
        return statistical, statistical
    from lettingo_features.profiles.language_model import LanguageModelConfig, LanguageModelGenerator

    processes = min(os.cpu_count() or 1, MAX_PROCESSES) if model is None else 1
    return statistical, LanguageModelGenerator(LanguageModelConfig(model=model, processes=processes))


def run_profiles(
    home, config, cutoffs: list[datetime], encoder, *, model: str | None = None, backfill: bool = True, users=None
):
    """Build ``cutoffs`` of the release that ``config`` names under a run record; return the build's report.

    ``users`` (Arrow ids) limits the build to some; ``model`` is a directory or id in place of the embedded model.
    """
    from lettingo_features.profiles.build import ProfileBuild
    from lettingo_features.runs import run_record

    cold, warm = make_generators(config.release, model)
    with run_record(home, f"profiles {config.release}", config.model_dump(mode="json")) as run:
        build = ProfileBuild(home, config, cold, warm, encoder)
        with progress_bar(f"profiles {config.release}", "users") as progress:
            report = build.run(cutoffs, backfill=backfill, users=users, progress=progress)
        run.record(report=report.model_dump(mode="json"))
    return report


@click.group()
def profiles() -> None:
    """Text profiles of users as features."""


def _build_options(command):
    for option in (
        click.option("--release", default="v1", show_default=True, help="v0 is the statistical baseline."),
        click.option("--model", help="Model directory or id; the embedded language model when left out."),
        click.option("--encoder", default="minilm_l6_v2", show_default=True, help="Shipped one, or a directory or id."),
        click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True),
        click.option("--window-days", default=365, show_default=True, help="Days of history a text may see."),
        click.option("--reads", type=click.Choice(["window", "long"]), default="window", show_default=True),
        home_option,
        json_option,
    ):
        command = option(command)
    return command


@profiles.command()
@click.option("--as-of", type=Instant(), required=True, help="Cutoff: the text sees only what lies before it.")
@_build_options
def generate(as_of, home_dir, as_json, **options) -> None:
    """Write profiles as of one cutoff and publish them now."""
    _build([as_of], False, home_dir, as_json, **options)


@profiles.command()
@click.option("--start", type=Instant(), required=True, help="First cutoff.")
@click.option("--end", type=Instant(), required=True, help="Last instant, inclusive.")
@click.option("--every", required=True, help="Interval between cutoffs, such as 30d.")
@_build_options
def backfill(start, end, every, home_dir, as_json, **options) -> None:
    """Write profiles as of past cutoffs, published at cutoff + lag, so that training labels find them."""
    _build(cutoffs_from(None, start, end, every), True, home_dir, as_json, **options)


def _build(cutoffs, is_backfill, home_dir, as_json, release, model, encoder, precision, window_days, reads) -> None:
    from lettingo_features.profiles.build import ProfileBuildConfig
    from lettingo_features.windows import WindowConfig

    home = open_home(home_dir)
    config = ProfileBuildConfig(release=release, window=WindowConfig(days=window_days, reads=reads))
    encoded_by = make_encoder(home, encoder, precision)
    report = run_profiles(home, config, cutoffs, encoded_by, model=model, backfill=is_backfill)
    show(as_json, report.model_dump(mode="json"), report.to_text())


@profiles.command()
@click.option("--release", default="v1", show_default=True)
@click.option("--encoder", default="minilm_l6_v2", show_default=True, help="Shipped one, or a directory or id.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@home_option
@json_option
def encode(release: str, encoder: str, precision: str, home_dir: str, as_json: bool) -> None:
    """Encode the texts of a release once more, with another encoder, into a table of its own."""
    from lettingo_features.profiles.tables import embedding_table, encode_release
    from lettingo_features.runs import run_record

    home = open_home(home_dir)
    encoded_by = make_encoder(home, encoder, precision)
    table = embedding_table(release, encoded_by.encoder_id)
    with run_record(home, "profiles encode", {"release": release, "encoder": encoded_by.encoder_id}) as run:
        with progress_bar(table, "parts") as progress:
            written = encode_release(home, release, encoded_by, progress)
        run.record(rows=written)
    show(as_json, {"table": table, "rows": written}, f"{written:,} rows of {table}")


@profiles.command("show")
@click.argument("user_id")
@click.option("--release", default="v1", show_default=True)
@home_option
@json_option
def show_user(user_id: str, release: str, home_dir: str, as_json: bool) -> None:
    """Print every profile of one user, newest first, each with its window."""
    from lettingo_features.errors import DataError
    from lettingo_features.profiles.tables import meta_table, text_table
    from lettingo_features.sql import connect

    home = open_home(home_dir)
    if not home.parts(meta_table(release)):
        raise DataError(f"No profiles of release {release} in {home.root}. Run 'lettingo profiles generate' first.")
    rows = connect().execute(
        f"""
        SELECT t.event_timestamp AS cutoff, m.generator, m.n_interactions, m.source_max_ts, m.published_at,
               t.profile_text
        FROM {home.scan(text_table(release))} AS t
        JOIN {home.scan(meta_table(release))} AS m USING (user_id, event_timestamp, created_timestamp)
        WHERE user_id = ? ORDER BY cutoff DESC, m.published_at DESC
        """,
        [user_id],
    )
    names = [column[0] for column in rows.description]
    found = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    if not found:
        raise DataError(f"User {user_id} has no profile of release {release} in {home.root}.")
    text = "\n\n".join(
        f"cutoff {row['cutoff']}  {row['generator']}  {row['n_interactions']} interactions up to {row['source_max_ts']}"
        f"  published {row['published_at']}\n  {row['profile_text']}"
        for row in found
    )
    show(as_json, {"user_id": user_id, "release": release, "profiles": found}, text)
