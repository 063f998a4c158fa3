"""The steps of a promotion on a real home: profiles, Feast's registry, rows online, a check, the alias services."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

CHECKED_USERS = 20


def make_plan(home, champion, why: str, cutoffs: Sequence[datetime] | None, live: datetime | None):
    """The plan against ``champion``: its own cutoffs unless others are given, and a snapshot just after the newest
    interaction, which is where a refresh of the champion would stand."""
    from lettingo_features.errors import ReleaseError
    from lettingo_features.profiles.tables import meta_table
    from lettingo_features.release_records import Plan
    from lettingo_features.sql import connect

    if cutoffs is None and champion is None:
        raise ReleaseError("There is no champion whose cutoffs could be followed: give --start, --end and --every.")
    connection = connect(home.spill)
    if cutoffs is None:
        table = home.scan(meta_table(champion.name))
        cutoffs = [row[0] for row in connection.execute(f"SELECT DISTINCT event_timestamp FROM {table}").fetchall()]
    newest = connection.execute(f"SELECT max(event_timestamp) FROM {home.scan('interactions')}").fetchall()[0][0]
    after = newest.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    return Plan(
        champion=champion and champion.name,
        cutoffs=sorted(cutoff.astimezone(UTC) for cutoff in cutoffs),
        live=live or min(max([after, *cutoffs]), datetime.now(UTC)),
        why=why,
    )


def promotion_steps(home, registry) -> dict[str, Any]:
    """The steps by name, in order: each can be done twice with the effect of once."""
    return {
        "backfill": lambda release, plan: _backfill(home, registry, release, plan),
        "live": lambda release, plan: _build(home, release, [plan.live], backfill=False),
        "declare": lambda release, plan: _declare(home),
        "online": lambda release, plan: _online(home, release, plan),
    }


def publish_aliases(home) -> None:
    """Apply the alias services alone: a flip deploys no other edit of the feature repository."""
    from lettingo_features.champion import ALIAS_TAG
    from lettingo_features.feast_registry import declared
    from pipelines.store import REPO, open_store

    store = open_store(home)
    store.apply([service for service in declared(REPO).feature_services if ALIAS_TAG in service.tags])


def apply_repository(home) -> None:
    """``feast apply``: what is no longer declared goes, online rows included."""
    from pipelines.store import feast

    feast(home, "apply")


def newest_online(home, name: str) -> datetime | None:
    """Newest cutoff whose profiles of release ``name`` are online; None where nothing is."""
    from feast.errors import FeatureViewNotFoundException

    from lettingo_features.sql import connect, literal
    from pipelines.store import open_store

    store, (_, meta, _), ends = open_store(home), release_views(home, name), []
    for view in release_views(home, name):
        try:
            ends.append(store.get_feature_view(view).most_recent_end_time)
        except FeatureViewNotFoundException:
            return None
    if None in ends or not home.parts(meta):
        return None
    until = literal(min(ends).astimezone(UTC).isoformat())
    newest = f"""
        SELECT max(event_timestamp) FROM {home.scan(meta)}
        WHERE greatest(event_timestamp, created_timestamp) < {until}::TIMESTAMPTZ
    """
    return connect(home.spill).execute(newest).fetchall()[0][0]


def release_views(home, name: str) -> tuple[str, str, str]:
    """Names of the release's views of text, meta and vectors."""
    from lettingo_features.errors import ReleaseError
    from lettingo_features.profiles.release import Release
    from lettingo_features.profiles.tables import embedding_table, meta_table, text_table

    facts = Release(home, name).facts
    if not facts:
        raise ReleaseError(f"No profile of release {name} was written in {home.root} yet: is it the right home?")
    return text_table(name), meta_table(name), embedding_table(name, facts["encoder"])


def _backfill(home, registry, release, plan) -> dict[str, Any]:
    from lettingo_features.profiles.release import Release
    from pipelines.release import model_identity
    from pipelines.writers import WriterOptions

    _require_same_model(release, model_identity(WriterOptions(**release.writer)))
    facts = _build(home, release, list(plan.cutoffs), backfill=True)
    registry.know_generator(release.name, Release(home, release.name).facts["warm"])
    return facts


def _build(home, release, cutoffs: list[datetime], backfill: bool) -> dict[str, Any]:
    from lettingo_features.errors import ReleaseError
    from lettingo_features.profiles.build import ProfileBuildConfig
    from pipelines.profiles import make_encoder, run_profiles
    from pipelines.writers import WriterOptions, calls_at_once

    writer, settings = WriterOptions(**release.writer), release.settings
    chunk = max(2_048, calls_at_once(writer))
    config = ProfileBuildConfig(**settings["config"] | {"release": release.name, "chunk_size": chunk})
    encoder = make_encoder(home, settings["encoder"], settings["precision"])
    built = run_profiles(home, config, cutoffs, encoder, writer=writer, backfill=backfill).build
    if built.users_pending:
        raise ReleaseError(
            f"{built.users_pending:,} users of release {release.name} got no text yet: the engine gave none, or the "
            f"budget was spent. Run 'lettingo release promote {release.name}' again to go on."
        )
    return {"cutoffs": cutoffs, "users": built.users_seen, "written": built.written}


def _require_same_model(release, found: dict[str, Any]) -> None:
    from lettingo_features.errors import ReleaseError

    changed = sorted(key for key in found if found[key] != getattr(release, key))
    if changed:
        raise ReleaseError(
            f"The model of release {release.name} is not what was registered: {', '.join(changed)} of {release.model} "
            "changed since. Restore the directory, or register the new model under a new name."
        )


def _declare(home) -> dict[str, Any]:
    apply_repository(home)
    return {}


def _online(home, release, plan) -> dict[str, Any]:
    """Materialise the release and compare some users with the offline join, as one step: a difference that comes from
    rows written in between goes away when it is done again."""
    from lettingo_features.sql import connect
    from pipelines.online import run_materialize

    views = release_views(home, release.name)
    # All its rows, not only those after the latest run: a cutoff of the past may be new.
    times = "min(event_timestamp), max(greatest(event_timestamp, created_timestamp))"
    first, last = connect(home.spill).execute(f"SELECT {times} FROM {home.scan(views[1])}").fetchall()[0]
    until = datetime.fromtimestamp(math.floor(last.timestamp()) + 1, UTC)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))  # a row of this very second
    run_materialize(home, until, views=views, since=first - timedelta(seconds=1))
    return {"until": until, "newest_cutoff": newest_online(home, release.name)} | _check(home, views, until)


def _check(home, views: Sequence[str], as_of: datetime) -> dict[str, Any]:
    """Online rows of some users against the offline join; raises ServingError where they differ."""
    import pyarrow as pa

    from lettingo_features.columns import EVENT_TIMESTAMP, TIMESTAMP, USER_ID
    from lettingo_features.sql import connect
    from lettingo_features.training_set import join_views
    from pipelines.store import open_store
    from serving.consistency import compare

    some = f"SELECT DISTINCT user_id FROM {home.scan(views[1])} ORDER BY sha256(user_id) LIMIT {CHECKED_USERS}"
    users = [row[0] for row in connect(home.spill).execute(some).fetchall()]
    store = open_store(home)
    rows = pa.table({USER_ID: users, EVENT_TIMESTAMP: pa.array([as_of] * len(users), TIMESTAMP)})
    offline = join_views(store, rows, views).drop_columns([EVENT_TIMESTAMP])
    asked = [f"{view}:{feature.name}" for view in views for feature in store.get_feature_view(view).features]
    answer = store.get_online_features(features=asked, entity_rows=[{USER_ID: user} for user in users]).to_dict()
    online = {name: [_in_seconds(value) for value in values] for name, values in answer.items()}
    report = compare(offline, online, [USER_ID]).require_equal()
    return {"checked_users": report.n_rows, "checked_values": report.n_values}


def _in_seconds(value: Any) -> Any:
    """A timestamp as the server's answers have it."""
    return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp()) if isinstance(value, datetime) else value
