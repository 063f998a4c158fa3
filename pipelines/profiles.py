"""Profiles as of instants:  lettingo profiles generate --as-of T | backfill --start T --end T --every 30d | show U"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from datetime import datetime

import click

from pipelines.behaviour import cutoffs_from
from pipelines.console import Instant, home_option, json_option, open_home, progress_bar, show
from pipelines.writers import WriterOptions, calls_at_once, ledger_url, make_writers, writer_options


def make_encoder(home, model: str = "minilm_l6_v2", precision: str = "fp32"):
    """The sentence encoder, with its cache of vectors in ``home``."""
    from lettingo_features.encoding import EncoderConfig, SentenceEncoder

    return SentenceEncoder(EncoderConfig(model=model, precision=precision), cache_dir=home.cache)


def run_profiles(
    home,
    config,
    cutoffs: list[datetime],
    encoder,
    *,
    writer: WriterOptions | None = None,
    backfill: bool = True,
    users=None,
):
    """Build ``cutoffs`` of the release that ``config`` names under a run record; return the run's report.

    ``users`` (Arrow ids) limits the build to some; ``writer`` says which model writes in place of the embedded one.
    """
    from lettingo_features.profiles.build import ProfileBuild
    from lettingo_features.profiles.run_report import ProfileRunReport
    from lettingo_features.runs import run_record

    writers = make_writers(home, config.release, writer or WriterOptions())
    try:
        with run_record(home, f"profiles {config.release}", config.model_dump(mode="json")) as run:
            build = ProfileBuild(home, config, writers.cold, writers.warm, encoder)
            with progress_bar(f"profiles {config.release}", "users") as progress:
                built = build.run(cutoffs, backfill=backfill, users=users, progress=progress)
            report = ProfileRunReport(build=built)
            if writers.runner is not None:
                report = ProfileRunReport(
                    build=built,
                    calls=writers.runner.report,
                    engine=writers.warm.name,
                    engine_identity=writers.engine.identity,
                    counts=dict(writers.warm.counts) | writers.retries(),
                )
            run.record(report=report.to_json())
        report.write_metrics(home.reports)
    finally:
        writers.close()
    return report


@click.group()
def profiles() -> None:
    """Text profiles of users as features."""


def _build_options(command):
    for option in (
        click.option("--release", default="v1", show_default=True, help="v0 is the statistical baseline."),
        click.option("--dry-run", is_flag=True, help="Print calls, tokens, money and time; write nothing."),
        click.option(
            "--tokens-per-second",
            type=float,
            help="Of --dry-run: tokens written per second, for the time; left out: by the newest run of this engine.",
        ),
        click.option(
            "--refresh-after",
            multiple=True,
            metavar="N|DAYSd",
            help="Write a changed user again only after N new interactions, or so many days; repeat for either.",
        ),
        click.option("--encoder", default="minilm_l6_v2", show_default=True, help="Shipped one, or a directory or id."),
        click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True),
        click.option("--window-days", default=365, show_default=True, help="Days of history a text may see."),
        click.option("--long-history", default=50, show_default=True, help="Older interactions shown."),
        click.option("--reads", type=click.Choice(["window", "long"]), default="window", show_default=True),
        click.option("--max-words", default=120, show_default=True, help="A text ends at the last sentence within."),
        writer_options,
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


def _build(
    cutoffs,
    is_backfill,
    home_dir,
    as_json,
    release,
    encoder,
    precision,
    window_days,
    long_history,
    reads,
    max_words,
    dry_run,
    tokens_per_second,
    refresh_after,
    writer,
) -> None:
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.build import ProfileBuildConfig
    from lettingo_features.profiles.refresh import RefreshPolicy
    from lettingo_features.windows import WindowConfig

    if tokens_per_second is not None and not dry_run:
        raise ConfigError("--tokens-per-second belongs to --dry-run: leave it out, or ask for that.")
    home = open_home(home_dir)
    window = WindowConfig(days=window_days, long_k=long_history, reads=reads)
    refresh = RefreshPolicy.parse(refresh_after)
    chunk = max(2_048, calls_at_once(writer))
    config = ProfileBuildConfig(release=release, window=window, max_words=max_words, refresh=refresh, chunk_size=chunk)
    if dry_run:
        planned = _estimate(home, config, cutoffs, writer, tokens_per_second)
        show(as_json, planned.model_dump(mode="json"), planned.to_text())
        return
    with redirect_stdout(sys.stderr):  # engines talk while they work; standard output is the report
        report = run_profiles(
            home, config, cutoffs, make_encoder(home, encoder, precision), writer=writer, backfill=is_backfill
        )
    show(as_json, report.to_json(), report.to_text())
    if report.build.users_pending:
        sys.exit(1)


def _estimate(home, config, cutoffs, writer, tokens_per_second):
    from lettingo_features.errors import ConfigError
    from lettingo_features.generation.ledger import Ledger
    from lettingo_features.profiles.build import ProfileBuild
    from lettingo_features.profiles.estimate import EstimateConfig, estimate

    writers = make_writers(home, config.release, writer, calls=False)
    try:
        if writers.engine is None:
            raise ConfigError(f"No language model writes release {config.release}: there is nothing to cost.")
        build = ProfileBuild(home, config, writers.cold, writers.warm, encoder=None)
        if tokens_per_second is None:
            tokens_per_second = _known_speed(home, writers.engine.identity)
        speed = EstimateConfig(tokens_per_second=tokens_per_second)
        return estimate(build, writers.warm, cutoffs, Ledger.existing(ledger_url(home, writer)), speed)
    finally:
        writers.close()


def _known_speed(home, identity: str) -> float | None:
    """Tokens per second of the newest run with this engine that wrote some."""
    for path in sorted(home.runs.glob("*-profiles-*/run.json"), reverse=True):
        report = json.loads(path.read_text()).get("report") or {}
        calls = report.get("calls") or {}
        if report.get("engine_identity") == identity and calls.get("tokens_per_second"):
            return calls["tokens_per_second"]
    return None


@profiles.command("import")
@click.argument("file", type=click.Path())
@click.option("--release", required=True, help="Name of the release that the texts become.")
@click.option("--generator", required=True, help="Who wrote them, such as gpt-4o-mini.")
@click.option("--cutoff", type=Instant(), help="End of the window that the writer saw: all it read is older.")
@click.option("--window-days", type=int, help="Days before the cutoff that the writer saw.")
@click.option("--published-at", type=Instant(), help="When they could have been served; now when left out.")
@click.option("--user-column", default="user_id", show_default=True)
@click.option("--text-column", default="profile", show_default=True)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value; may be repeated.")
@click.option("--max-words", default=1000, show_default=True, help="A text ends at the last sentence within.")
@click.option("--encoder", default="minilm_l6_v2", show_default=True, help="Shipped one, or a directory or id.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@home_option
@json_option
def import_(
    file,
    release,
    generator,
    cutoff,
    window_days,
    published_at,
    user_column,
    text_column,
    where,
    max_words,
    encoder,
    precision,
    home_dir,
    as_json,
) -> None:
    """Make profiles that were written elsewhere a release, from CSV, JSON lines or parquet; no call is made."""
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.imported import ImportConfig, import_profiles, read_profiles
    from lettingo_features.runs import run_record
    from lettingo_features.windows import WindowConfig

    if cutoff is None or window_days is None:
        raise ConfigError(
            "What did the writer see? State the window with --cutoff T and --window-days N: a text whose window is "
            "unknown may hold the future, so it is refused."
        )
    home = open_home(home_dir)
    window = WindowConfig(days=window_days, long_k=1_000_000)
    told = {"cutoff": cutoff, "published_at": published_at, "window": window, "max_words": max_words}
    config = ImportConfig(release=release, generator=generator, **told)
    users, texts = read_profiles(file, user_column, text_column, where)
    with run_record(home, f"profiles import {release}", config.model_dump(mode="json")) as run:
        report = import_profiles(home, config, users, texts, make_encoder(home, encoder, precision))
        run.record(report=report.model_dump(mode="json"))
    show(as_json, report.model_dump(mode="json"), f"{report.to_text()}\nnext: feast -c feature_repo apply")


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
    connection = connect()
    profiles_sql = f"""
        SELECT t.event_timestamp AS cutoff, m.generator, m.n_interactions, m.source_max_ts, m.published_at,
               t.profile_text
        FROM {home.scan(text_table(release))} AS t
        JOIN {home.scan(meta_table(release))} AS m USING (user_id, event_timestamp, created_timestamp)
        WHERE user_id = ? ORDER BY cutoff DESC, m.published_at DESC
    """
    found = _dicts(connection, profiles_sql, user_id)
    if not found:
        raise DataError(f"User {user_id} has no profile of release {release} in {home.root}.")
    claims = _claims(connection, home, release, user_id)
    for row in found:
        when = (row["cutoff"], row["published_at"])
        row["claims"] = [claim for claim in claims if (claim["cutoff"], claim["published_at"]) == when]
    show(as_json, {"user_id": user_id, "release": release, "profiles": found}, "\n\n".join(map(_profile_text, found)))


def _dicts(connection, sql: str, user_id: str) -> list[dict]:
    rows = connection.execute(sql, [user_id])
    names = [column[0] for column in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _claims(connection, home, release: str, user_id: str) -> list[dict]:
    """Each claim with the newest interaction before the cutoff with each of its items."""
    from lettingo_features.data.ingest import latest_items_sql
    from lettingo_features.profiles.tables import claims_table

    if not home.parts(claims_table(release)):
        return []
    sql = f"""
        WITH mine AS (
            SELECT event_timestamp AS cutoff, created_timestamp AS published_at, position, claim,
                   unnest(item_ids) AS item_id, generate_subscripts(item_ids, 1) AS place
            FROM {home.scan(claims_table(release))} WHERE user_id = $1
        ), met AS (
            SELECT mine.*, i.event_timestamp AS seen_at, i.rating FROM mine
            JOIN {home.scan("interactions")} AS i
                ON i.user_id = $1 AND i.item_id = mine.item_id AND i.event_timestamp < mine.cutoff
            QUALIFY row_number() OVER (PARTITION BY cutoff, published_at, position, place
                ORDER BY i.event_timestamp DESC) = 1
        )
        SELECT cutoff, published_at, position, claim,
               list({{item_id: item_id, title: title, seen_at: seen_at, rating: rating}} ORDER BY place) AS interactions
        FROM met LEFT JOIN {latest_items_sql(home)} USING (item_id)
        GROUP BY ALL ORDER BY cutoff, published_at, position
    """
    return _dicts(connection, sql, user_id)


def _profile_text(row: dict) -> str:
    from lettingo_features.generation.untrusted import clean  # a title may hold what a terminal obeys

    lines = [
        f"cutoff {row['cutoff']}  {row['generator']}  {row['n_interactions']} interactions up to {row['source_max_ts']}"
        f"  published {row['published_at']}",
        f"  {row['profile_text']}",
    ]
    for claim in row["claims"]:
        lines.append(f"  claim: {claim['claim']}")
        for seen in claim["interactions"]:
            rating = "" if seen["rating"] is None else f"  rated {seen['rating']:g}"
            lines.append(f"    {seen['seen_at']:%Y-%m-%d}  {clean(seen['title'] or seen['item_id'])}{rating}")
    return "\n".join(lines)
