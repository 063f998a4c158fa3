"""Who and when: users and times of one alignment run, so that nothing that judges has seen what it judges.

::

    history          reward targets                gate targets
    ─────────────┬─────────────────────────┬──────────────────────────┐
           reward_cutoff              gate_cutoff                     end
           explored and fit users     gate users: no reward, no training

A text is written from the window before its cutoff, and judged by what its user liked from ``cutoff + publish_lag`` on.
Explored users are those whose candidates are rewarded; fit users are those on whom the frozen judges are fitted; gate
users are seen by the gate alone. The three are disjoint, by a hash of seed and user id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home, write_parquet, write_text
from lettingo_features.profiles.summary import rating_scale
from lettingo_features.sql import connect, literal
from lettingo_features.windows import WindowConfig

_ROLES = ("gate", "fit", "explored")
_TABLES = (*_ROLES, "reward_targets", "gate_targets", "rated_targets")
_FILES = tuple(f"{table}.parquet" for table in _TABLES)
_TIMES = ("reward_cutoff", "gate_cutoff", "end")


class FrameConfig(Config):
    """Shares of time and users."""

    reward_share: float = Field(default=0.3, gt=0, lt=1)
    "Share of all interactions that lie in the reward's target period."
    gate_share: float = Field(default=0.2, gt=0, lt=1)
    "Share of all interactions, the newest, that lie in the gate's target period."
    gate_users: float = Field(default=0.5, gt=0, lt=1)
    "Share of the users whom only the gate sees."
    fit_users: float = Field(default=0.3, gt=0, lt=1)
    "Share of the other users on whom the judges are fitted; what is left is explored."
    max_fit: int = Field(default=300, ge=1)
    "Fit users kept, in order of the hash."
    max_explored: int = Field(default=700, ge=1)
    "Explored users kept, in order of the hash; each costs its candidates."
    max_gate: int = Field(default=1_200, ge=1)
    "Gate users kept, in order of the hash; each costs one text per compared generator."
    min_interactions: int = Field(default=5, ge=1)
    "Items in the window from which a user takes part: below, the statistical generator writes."
    positive_share: float = Field(default=0.7, gt=0, le=1)
    "Share of the rating scale from which an interaction is a target: 4 of 5, 7 of 10. Events without a rating are."
    seed: int = 0
    "Of the hash."

    @model_validator(mode="after")
    def _leaves_history(self) -> FrameConfig:
        if self.reward_share + self.gate_share >= 1:
            raise ConfigError(
                f"reward_share {self.reward_share} and gate_share {self.gate_share} leave no history: lower one."
            )
        return self


@dataclass(frozen=True)
class Frame:
    """Times (UTC), users and targets of one run.

    ``explored``, ``fit`` and ``gate`` are user ids in order of id. ``reward_targets`` and ``gate_targets`` have
    ``user_id, item_id, event_timestamp, rating``, one row per liked (user, item), first seen in the period.
    ``rated_targets`` has one such row per explored user: the first item of the reward's period, liked or not, that was
    rated and not met before.
    ``counts`` has eligible and kept users by role.
    """

    reward_cutoff: datetime
    gate_cutoff: datetime
    end: datetime
    rating_max: float
    explored: pa.Array
    fit: pa.Array
    gate: pa.Array
    reward_targets: pa.Table
    gate_targets: pa.Table
    rated_targets: pa.Table
    counts: dict[str, int]

    def save(self, directory: Path) -> None:
        """Keep the frame, so that interactions that arrive later change nothing for a run that has begun."""
        for name in _TABLES:
            table = getattr(self, name)
            table = pa.table({"user_id": table}) if isinstance(table, pa.Array) else table
            write_parquet(directory / f"{name}.parquet", table.to_batches(), table.schema)
        times = {name: getattr(self, name).isoformat() for name in _TIMES}
        write_text(
            directory / "frame.json", json.dumps({**times, "rating_max": self.rating_max, "counts": self.counts})
        )

    @staticmethod
    def load(directory: Path, beside: Sequence[str] = ()) -> Frame | None:
        """The frame that `save` kept; None where there is none, or where saving it was interrupted.

        Parameters
        ----------
        beside
            Names of files that were kept in the directory before the frame was saved.

        Raises
        ------
        ConfigError
            A frame that was saved whole lacks files, as an earlier version kept fewer: to draw it anew would change
            users and targets under a run that has begun.
        """
        if not (directory / "frame.json").is_file():  # it is written last
            return None
        lacking = [name for name in (*beside, *_FILES) if not (directory / name).is_file()]
        if lacking:
            raise ConfigError(
                f"{directory} has no {', '.join(lacking)}: an earlier version began this run and kept fewer files. Its "
                "users and targets cannot be drawn again alike: start a run under another --name."
            )
        facts = json.loads((directory / "frame.json").read_text())
        tables = {name: pq.read_table(directory / f"{name}.parquet") for name in _TABLES}
        users = {role: tables.pop(role)["user_id"].combine_chunks() for role in _ROLES}
        times = {name: datetime.fromisoformat(facts.pop(name)) for name in _TIMES}
        return Frame(**times, **facts, **users, **tables)

    def facts(self) -> dict[str, object]:
        """For reports and run records."""
        times = {name: getattr(self, name).isoformat() for name in _TIMES}
        return {**times, "rating_max": self.rating_max, **self.counts}


def make_frame(home: Home, config: FrameConfig, window: WindowConfig) -> Frame:
    """Cut time at quantiles of the interactions, and draw the users of each role among those who can be judged.

    Raises
    ------
    DataError
        A period is empty, or a role has no user.
    """
    connection = connect(home.spill)
    interactions = home.scan("interactions")
    reward_cutoff, gate_cutoff, end = _instants(connection, interactions, config)
    before = f"(SELECT * FROM {interactions} WHERE event_timestamp < {_at(reward_cutoff)})"
    top = rating_scale(connection, before)
    lag = timedelta(seconds=window.publish_lag_s)
    periods = {
        "reward": _targets(connection, interactions, reward_cutoff + lag, gate_cutoff, config.positive_share * top),
        "gate": _targets(
            connection, interactions, gate_cutoff + lag, end + timedelta(microseconds=1), config.positive_share * top
        ),
    }
    users, counts = {}, {}
    for role in _ROLES:
        period, cutoff = ("gate", gate_cutoff) if role == "gate" else ("reward", reward_cutoff)
        connection.register("period_targets", periods[period])
        eligible = _eligible(connection, interactions, cutoff, window, config, role)
        users[role] = pa.array(sorted(eligible[: getattr(config, f"max_{role}")]), pa.string())
        counts |= {f"{role}_users_eligible": len(eligible), f"{role}_users": len(users[role])}
        if not len(users[role]):
            raise DataError(
                f"No user can be {role}: with at least {config.min_interactions} items before {cutoff} and a liked one "
                "after it. Bring a longer history, or other shares."
            )
    return Frame(
        reward_cutoff,
        gate_cutoff,
        end,
        top,
        users["explored"],
        users["fit"],
        users["gate"],
        periods["reward"],
        periods["gate"],
        _rated_targets(connection, interactions, users["explored"], reward_cutoff + lag, gate_cutoff),
        counts,
    )


def _instants(connection: duckdb.DuckDBPyConnection, interactions: str, config: FrameConfig):
    [(first, reward, gate, end, n)] = connection.execute(
        f"""SELECT min(event_timestamp), quantile_disc(event_timestamp, $reward), quantile_disc(event_timestamp, $gate),
                   max(event_timestamp), count(*) FROM {interactions}""",
        {"reward": 1 - config.gate_share - config.reward_share, "gate": 1 - config.gate_share},
    ).fetchall()
    if not n or not first < reward < gate <= end:
        raise DataError(
            f"{n} interactions between {first} and {end} cannot be cut into history, reward and gate periods. "
            "Bring more interactions, or other shares."
        )
    return reward, gate, end


def _targets(connection, interactions: str, start: datetime, end: datetime, threshold: float) -> pa.Table:
    return connection.sql(
        f"""SELECT user_id, item_id, min(event_timestamp) AS event_timestamp, max(rating) AS rating FROM {interactions}
            WHERE event_timestamp >= {_at(start)} AND event_timestamp < {_at(end)}
              AND (rating IS NULL OR rating >= {threshold})
            GROUP BY user_id, item_id ORDER BY user_id, event_timestamp, item_id"""
    ).to_arrow_table()


def _rated_targets(connection, interactions: str, users: pa.Array, start: datetime, end: datetime) -> pa.Table:
    connection.register("explored_users", pa.table({"user_id": users}))
    return connection.sql(
        f"""WITH mine AS (SELECT * FROM {interactions} SEMI JOIN explored_users USING (user_id)),
                 met AS (SELECT DISTINCT user_id, item_id FROM mine WHERE event_timestamp < {_at(start)})
            SELECT user_id, item_id, event_timestamp, rating FROM mine ANTI JOIN met USING (user_id, item_id)
            WHERE event_timestamp >= {_at(start)} AND event_timestamp < {_at(end)} AND isfinite(rating)
            QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp, item_id, rating DESC) = 1
            ORDER BY user_id"""
    ).to_arrow_table()


# Two hashes: who is of which role, and in which order users of a role are taken.
_SHARE = "('0x' || substr(sha256($seed || '|{what}|' || user_id), 1, 12))::BIGINT / 2.0 ** 48"
_ROLE_OF = (
    f"CASE WHEN {_SHARE.format(what='role')} < $gate THEN 'gate' "
    f"WHEN {_SHARE.format(what='fit')} < $fit THEN 'fit' ELSE 'explored' END"
)


def _eligible(connection, interactions: str, cutoff: datetime, window: WindowConfig, config: FrameConfig, role: str):
    """Users of the role with enough items in their window and a target in ``period_targets``, in order of the hash."""
    rows = connection.execute(
        f"""SELECT user_id FROM {interactions} SEMI JOIN period_targets USING (user_id)
            WHERE event_timestamp >= {_at(cutoff - timedelta(days=window.days))} AND event_timestamp < {_at(cutoff)}
              AND {_ROLE_OF} = $role
            GROUP BY user_id HAVING count(DISTINCT item_id) >= $least
            ORDER BY sha256($seed || '|order|' || user_id)""",
        {
            "seed": str(config.seed),
            "gate": config.gate_users,
            "fit": config.fit_users,
            "role": role,
            "least": config.min_interactions,
        },
    ).fetchall()
    return [user for (user,) in rows]


def _at(instant: datetime) -> str:
    return f"TIMESTAMPTZ {literal(instant.isoformat())}"
