"""Behavioural features as of instants:  lettingo behaviour build --as-of T | --start T --end T --every 7d"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import click

from pipelines.console import Instant, home_option, json_option, open_home, show

USER_TABLE = "user_behaviour_v1"
ITEM_TABLE = "item_behaviour_v1"


def run_behaviour(home, cutoffs: list[datetime], publish_lag_s: int) -> dict[str, int]:
    """Append the cutoffs that are not there yet; a published row is never rewritten. Returns rows by table."""
    from lettingo_features.behaviour import build_item_behaviour, build_user_behaviour
    from lettingo_features.columns import ITEM_BEHAVIOUR, USER_BEHAVIOUR
    from lettingo_features.data.ingest import latest_items_sql
    from lettingo_features.errors import ConfigError
    from lettingo_features.runs import run_record
    from lettingo_features.sql import connect

    now = datetime.now(UTC)
    if cutoffs and max(cutoffs) > now:
        raise ConfigError(f"The cutoff {max(cutoffs)} lies after now ({now}): its row would never be completed.")
    interactions, items = home.scan("interactions"), latest_items_sql(home)
    written = {}
    config = {"cutoffs": [str(cutoff) for cutoff in cutoffs], "publish_lag_s": publish_lag_s}
    with run_record(home, "behaviour", config) as run:
        connection = connect(home.spill)
        for table, schema in ((USER_TABLE, USER_BEHAVIOUR), (ITEM_TABLE, ITEM_BEHAVIOUR)):
            missing = _missing(connection, home, table, cutoffs)
            written[table] = 0
            if not missing:
                continue
            if table == USER_TABLE:
                rows = build_user_behaviour(connection, interactions, items, missing, publish_lag_s)
            else:
                rows = build_item_behaviour(connection, interactions, missing, publish_lag_s)
            named = hashlib.sha256("/".join(cutoff.isoformat() for cutoff in missing).encode()).hexdigest()
            part = f"{missing[0]:%Y%m%dT%H%M%S}-{missing[-1]:%Y%m%dT%H%M%S}-{named[:16]}"
            path = home.write_part(table, part, rows, schema)
            written[table] = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchall()[0][0]
        run.record(rows=written)
    return written


def _missing(connection, home, table: str, cutoffs: list[datetime]) -> list[datetime]:
    if not home.parts(table):
        return sorted(set(cutoffs))
    there = connection.execute(f"SELECT DISTINCT event_timestamp FROM {home.scan(table)}").fetchall()
    return sorted(set(cutoffs) - {row[0] for row in there})


@click.group()
def behaviour() -> None:
    """Point-in-time behavioural features of users and items."""


@behaviour.command()
@click.option("--as-of", type=Instant(), help="One cutoff.")
@click.option("--start", type=Instant(), help="First cutoff of a backfill.")
@click.option("--end", type=Instant(), help="Last instant of a backfill, inclusive.")
@click.option("--every", help="Interval of a backfill, such as 7d.")
@click.option("--publish-lag-s", default=21_600, show_default=True, help="Cutoff to online availability, seconds.")
@home_option
@json_option
def build(as_of, start, end, every, publish_lag_s: int, home_dir: str, as_json: bool) -> None:
    """Append the features as of each cutoff that is not there yet."""
    cutoffs = cutoffs_from(as_of, start, end, every)
    written = run_behaviour(open_home(home_dir), cutoffs, publish_lag_s)
    rows = ", ".join(f"{count:,} rows of {table}" for table, count in written.items())
    show(as_json, {"cutoffs": cutoffs, "rows": written}, f"{rows} at {len(cutoffs)} cutoffs")


def cutoffs_from(as_of, start, end, every) -> list[datetime]:
    """The cutoffs that ``--as-of`` or ``--start --end --every`` name."""
    from lettingo_features.snapshots import snapshot_cutoffs

    if as_of is not None and start is end is every is None:
        return [as_of]
    if as_of is None and None not in (start, end, every):
        return snapshot_cutoffs(start, end, every)
    raise click.UsageError("Give either --as-of T, or all of --start T --end T --every 30d.")
