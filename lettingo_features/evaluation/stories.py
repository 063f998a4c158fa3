"""What the report tells about people and time: activity per day, and users with their history beside their profiles."""

from __future__ import annotations

import pyarrow as pa

from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.evaluation.report_users import UserStory
from lettingo_features.home import Home
from lettingo_features.profiles.tables import meta_table, text_table
from lettingo_features.sql import connect


def activity(home: Home) -> pa.Table:
    """``day`` (start of day, UTC) and ``interactions`` (int64), oldest first."""
    return (
        connect(home.spill)
        .sql(
            f"""SELECT date_trunc('day', event_timestamp) AS day, count(*) AS interactions
            FROM {home.scan("interactions")} GROUP BY day ORDER BY day"""
        )
        .to_arrow_table()
    )


def word_histogram(home: Home, release: str) -> list[tuple[int, int]]:
    """(words, texts) of every text of ``release``, shortest first."""
    counted = f"SELECT profile_n_words, count(*) FROM {home.scan(meta_table(release))} GROUP BY ALL ORDER BY ALL"
    return connect(home.spill).execute(counted).fetchall()


def stories(home: Home, release: str, users: int = 3, longest_history: int = 60) -> list[UserStory]:
    """``users`` users with at least two profiles and a full history, chosen by a hash of their id, not by taste.

    Each has the newest ``longest_history`` interactions before the last cutoff, newest first, and all profiles.
    """
    connection = connect(home.spill)
    chosen = connection.execute(
        f"""SELECT user_id FROM {home.scan(meta_table(release))}
        GROUP BY user_id HAVING max(n_interactions) >= 5
        ORDER BY least(count(DISTINCT event_timestamp), 2) DESC, least(max(n_interactions), 15) DESC, sha256(user_id)
        LIMIT {int(users)}"""
    ).fetchall()
    return [_story(connection, home, release, user_id, longest_history) for (user_id,) in chosen]


def _story(connection, home: Home, release: str, user_id: str, longest_history: int) -> UserStory:
    profiles = connection.sql(
        f"""SELECT event_timestamp AS cutoff, generator, profile_text AS text, n_interactions
        FROM {home.scan(text_table(release))} AS texts JOIN {home.scan(meta_table(release))} AS meta
        USING (user_id, event_timestamp, created_timestamp) WHERE user_id = $user ORDER BY cutoff""",
        params={"user": user_id},
    )
    told = profiles.to_arrow_table().to_pylist()
    history = connection.sql(
        f"""SELECT event_timestamp, coalesce(title, item_id) AS title, coalesce(categories, []) AS categories, rating
        FROM {home.scan("interactions")} AS interactions LEFT JOIN {latest_items_sql(home)} AS items USING (item_id)
        WHERE user_id = $user AND event_timestamp < $cutoff ORDER BY event_timestamp DESC, item_id LIMIT $longest""",
        params={"user": user_id, "cutoff": told[-1]["cutoff"], "longest": longest_history},
    )
    return UserStory(user_id=user_id, history=history.to_arrow_table().to_pylist(), profiles=told)
