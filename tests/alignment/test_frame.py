"""Who and when: roles that share nobody, and periods whose every boundary is known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.frame import Frame, FrameConfig, make_frame
from lettingo_features.columns import INTERACTIONS
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home
from lettingo_features.windows import WindowConfig
from tests.alignment.small_world import DAY, HOUR, T0, US, Event, synthetic_home, write_home

REWARD, GATE, END = T0 + 100 * DAY, T0 + 120 * DAY, T0 + 140 * DAY
LAG = 6 * HOUR
WINDOW = WindowConfig(days=90)


def crowd() -> list[Event]:
    """Interactions of passers-by that fix the cutoffs: many at one instant, so that a few more move no quantile."""
    spans = [(T0, 50), (REWARD, 15), (REWARD + 10 * DAY, 10), (GATE, 10), (END, 15)]
    instants = [start for start, n in spans for _ in range(40 * n)]
    return [(f"passer {n}", "known", at, 5.0) for n, at in enumerate(instants)]


def regular(user: str, last: timedelta = DAY) -> list[Event]:
    """Five items in the window of both cutoffs, the last one ``last`` before the first; a like in both periods."""
    past = [(user, f"i{n}", REWARD - (60 - n) * DAY, 3.0) for n in range(4)]
    later = [(user, "later", REWARD + DAY, 5.0), (user, "latest", GATE + 18 * DAY, 5.0)]
    return [*past, (user, "i4", REWARD - last, 3.0), *later]


def frame_of(root: Path, events: list[Event], window: WindowConfig = WINDOW, **config) -> Frame:
    return make_frame(write_home(root, events), FrameConfig(**{"reward_share": 0.2, **config}), window)


def pairs(targets: pa.Table) -> list[tuple[str, str]]:
    return [row for row in zip(*(targets[name].to_pylist() for name in ("user_id", "item_id")), strict=True)]


ROLES = ("explored", "fit", "gate")


def roles(frame: Frame) -> dict[str, str]:
    return {user: role for role in ROLES for user in getattr(frame, role).to_pylist()}


BOUNDARIES = [  # instant of a like, in which period it is a target
    (REWARD - US, ""),  # 0
    (REWARD, ""),  # 1  the future of the window, but nobody could have been served the text yet
    (REWARD + LAG - US, ""),  # 2
    (REWARD + LAG, "reward"),  # 3
    (GATE - US, "reward"),  # 4
    (GATE, ""),  # 5
    (GATE + LAG - US, ""),  # 6
    (GATE + LAG, "gate"),  # 7
    (END, "gate"),  # 8  the newest interaction is inside
]


def test_targets_at_every_boundary(tmp_path):
    planted = [("u", f"b{n}", at, 5.0) for n, (at, _) in enumerate(BOUNDARIES)]
    frame = frame_of(tmp_path, [*crowd(), *planted, *(row for n in range(40) for row in regular(f"v{n}"))])
    assert (frame.reward_cutoff, frame.gate_cutoff, frame.end) == (REWARD, GATE, END)
    for period, found in (("reward", frame.reward_targets), ("gate", frame.gate_targets)):
        expected = [("u", f"b{n}") for n, (_, where) in enumerate(BOUNDARIES) if where == period]
        assert [pair for pair in pairs(found) if pair[0] == "u"] == expected


LIKES = [  # ratings of one item with their hours after the reward cutoff plus lag, (hour, rating) of the target or None
    ([(1, 3.5)], (1, 3.5)),  # 0  0.7 of 5
    ([(1, 3.0)], None),  # 1
    ([(1, None)], (1, None)),  # 2  an event without a rating
    ([(3, 4.0), (1, 5.0)], (1, 5.0)),  # 3  first liked, best rating: one target
    ([(1, 2.0), (2, 5.0)], (2, 5.0)),  # 4  the dislike is none
    ([(-7, 5.0), (1, 5.0)], (1, 5.0)),  # 5  what was before the period does not date it
]


def test_what_is_a_target(tmp_path):
    planted = [
        ("u", f"l{n}", REWARD + LAG + hour * HOUR, rating) for n, (rows, _) in enumerate(LIKES) for hour, rating in rows
    ]
    late = [("u", "l9", END, 90.0)]  # a later scale of 100 would make nothing above a like
    frame = frame_of(tmp_path, [*crowd(), *planted, *late, *(row for n in range(40) for row in regular(f"v{n}"))])
    assert frame.rating_max == 5
    found = [tuple(row.values()) for row in frame.reward_targets.to_pylist() if row["user_id"] == "u"]
    expected = [
        ("u", f"l{n}", REWARD + LAG + target[0] * HOUR, target[1]) for n, (_, target) in enumerate(LIKES) if target
    ]
    assert sorted(found, key=lambda row: row[1]) == expected
    assert found == sorted(found, key=lambda row: (row[2], row[1]))


def test_who_takes_part(tmp_path):
    events = crowd()
    for n in range(30):
        events += regular(f"in {n}", last=US)
        events += regular(f"out {n}", last=timedelta(0))  # the fifth item lies at the cutoff itself
        events += [row for row in regular(f"again {n}") if row[1] != "i4"] + [(f"again {n}", "i3", REWARD - DAY, 1.0)]
        events += [row for row in regular(f"old {n}") if row[1] != "i0"] + [(f"old {n}", "i0", REWARD - 91 * DAY, 3.0)]
        events += [row for row in regular(f"idle {n}") if row[1] != "later"]  # nothing liked in the reward's period
    frame = frame_of(tmp_path, events, gate_users=0.5, fit_users=0.5)
    kinds = {role: {user.split()[0] for user in getattr(frame, role).to_pylist()} for role in ROLES}
    assert kinds["explored"] == kinds["fit"] == {"in"}
    assert kinds["gate"] == {"in", "out", "old", "again", "idle"}  # later likes count for the gate's window
    for role in ROLES:
        assert frame.counts[f"{role}_users"] == frame.counts[f"{role}_users_eligible"] == len(getattr(frame, role))
        assert getattr(frame, role).to_pylist() == sorted(getattr(frame, role).to_pylist())


def test_window_start(tmp_path):
    edge = REWARD - 90 * DAY
    events = crowd()
    for n in range(30):
        base = [row for row in regular(f"u{n}") if row[1] != "i0"]
        events += [*base, (f"u{n}", "i0", edge - (US if n % 2 else timedelta(0)), 3.0)]
    frame = frame_of(tmp_path, events)
    chosen = [int(user[1:]) for role in ("explored", "fit") for user in getattr(frame, role).to_pylist()]
    assert chosen and all(n % 2 == 0 for n in chosen)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Home:
    return synthetic_home(tmp_path_factory.mktemp("small"))


def test_roles_are_disjoint_and_of_the_asked_size(tmp_path):
    frame = frame_of(tmp_path, [*crowd() * 5, *(row for n in range(1_000) for row in regular(f"u{n}"))])
    users = {role: set(getattr(frame, role).to_pylist()) for role in ROLES}
    assert len(set.union(*users.values())) == sum(map(len, users.values())) == 1_000  # all are eligible in each role
    for role, share in (("gate", 0.5), ("fit", 0.15), ("explored", 0.35)):
        assert abs(len(users[role]) - 1_000 * share) < 4 * (1_000 * share * (1 - share)) ** 0.5  # four sd


def test_role_depends_on_seed_and_user_alone(tmp_path):
    some = [row for n in range(60) for row in regular(f"u{n}")]
    more = [row for n in range(200) for row in regular(f"w{n}")]
    few, many, other, caps = (
        roles(frame_of(tmp_path / name, [*crowd(), *events], **config))
        for name, events, config in (
            ("few", some, {}),
            ("many", [*more, *some], {}),
            ("other", some, {"seed": 1}),
            ("caps", some, {"max_fit": 2, "max_gate": 4, "max_explored": 3}),
        )
    )
    assert {user: many[user] for user in few} == few
    assert other != few and set(other) == set(few)
    assert caps.items() < few.items() and len(caps) == 9
    assert sorted(caps) != sorted(few)[:9]  # in order of the hash, not of the id


def test_a_cap_keeps_whom_a_smaller_cap_kept(tmp_path):
    events = [*crowd(), *(row for n in range(60) for row in regular(f"u{n}"))]
    kept = [set(frame_of(tmp_path / str(n), events, max_gate=n).gate.to_pylist()) for n in (3, 8)]
    assert kept[0] < kept[1] and [len(each) for each in kept] == [3, 8]


def test_order_and_files_change_nothing(tmp_path, small):
    table = pa.concat_tables([pq.read_table(path) for path in small.parts("interactions")])
    order = np.random.default_rng(0).permutation(table.num_rows)
    shuffled = Home(tmp_path).create()
    for part, rows in enumerate(np.array_split(order, 3)):
        shuffled.write_part("interactions", f"part{part}", table.take(rows), INTERACTIONS)
    one, other = (make_frame(home, FrameConfig(), WindowConfig()) for home in (small, shuffled))
    assert one.facts() == other.facts()
    assert roles(one) == roles(other) and len(roles(one)) > 50
    assert one.reward_targets.equals(other.reward_targets) and one.gate_targets.equals(other.gate_targets)


def test_periods_of_a_whole_world(small):
    frame = make_frame(small, FrameConfig(), WindowConfig())
    times = {name: getattr(frame, f"{name}_targets")["event_timestamp"].to_pylist() for name in ("reward", "gate")}
    assert frame.reward_cutoff + LAG <= min(times["reward"]) and max(times["reward"]) < frame.gate_cutoff
    assert frame.gate_cutoff + LAG <= min(times["gate"]) and max(times["gate"]) <= frame.end
    for role, period in (("explored", "reward"), ("fit", "reward"), ("gate", "gate")):
        targets = getattr(frame, f"{period}_targets")["user_id"].to_pylist()
        assert set(getattr(frame, role).to_pylist()) <= set(targets)
    table = pq.read_table(small.parts("interactions")[0])
    instants = np.sort(table["event_timestamp"].to_numpy())
    shares = [
        np.mean(instants < np.datetime64(at.replace(tzinfo=None))) for at in (frame.reward_cutoff, frame.gate_cutoff)
    ]
    assert shares == pytest.approx([0.5, 0.8], abs=1e-3)
    assert frame.facts()["reward_cutoff"] == frame.reward_cutoff.isoformat()
    assert frame.facts()["gate_users"] == len(frame.gate)


REFUSED = [  # events, config, what the message says
    ([("u", "a", T0, 5.0)] * 4, {}, r"4 interactions between 2026-01-01 .* and 2026-01-01 .* cannot be cut"),
    (
        [*crowd(), *regular("u")],
        {"min_interactions": 99},
        "No user can be gate: with at least 99 items before 2026-05-01",
    ),
    ([*crowd(), *regular("u"), *regular("v")], {"positive_share": 1.0, "gate_users": 1e-9}, "No user can be gate"),
]


@pytest.mark.parametrize(("events", "config", "message"), REFUSED)
def test_what_cannot_be_framed_is_refused(tmp_path, events, config, message):
    with pytest.raises(DataError, match=message):
        frame_of(tmp_path, events, **config)


def test_a_lag_longer_than_the_period_leaves_no_target(tmp_path):
    events = [*crowd(), *(row for n in range(40) for row in regular(f"u{n}"))]
    with pytest.raises(DataError, match="No user can be fit"):
        frame_of(tmp_path, events, WindowConfig(days=90, publish_lag_s=15 * 86_400))


def test_an_empty_home_is_refused(tmp_path):
    with pytest.raises(DataError, match="no table interactions"):
        make_frame(Home(tmp_path).create(), FrameConfig(), WINDOW)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2)])
def test_shares_must_leave_a_history(shares):
    with pytest.raises(ConfigError, match=f"reward_share {shares[0]} and gate_share {shares[1]} leave no history"):
        FrameConfig(reward_share=shares[0], gate_share=shares[1])


def test_a_saved_frame_is_the_same_frame(tmp_path, small):
    frame = make_frame(small, FrameConfig(), WindowConfig())
    assert Frame.load(tmp_path) is None
    frame.save(tmp_path)
    found = Frame.load(tmp_path)
    assert found.facts() == frame.facts() and roles(found) == roles(frame)
    for name in ("explored", "fit", "gate", "reward_targets", "gate_targets"):
        assert getattr(found, name).equals(getattr(frame, name))
    assert found.gate_cutoff.utcoffset() == timedelta(0)
    (tmp_path / "frame.json").unlink()  # written last: without it nothing was kept
    assert Frame.load(tmp_path) is None


LACKING = [  # files that an earlier version did not write, what the message says
    (["rated_targets.parquet"], "has no rated_targets.parquet: an earlier version began this run"),
    (["rated_targets.parquet", "windows.parquet"], "has no windows.parquet, rated_targets.parquet: .* another --name"),
]


@pytest.mark.parametrize(("files", "message"), LACKING)
def test_a_frame_of_an_earlier_version_is_not_drawn_anew(tmp_path, small, files, message):
    make_frame(small, FrameConfig(), WindowConfig()).save(tmp_path)
    (tmp_path / "windows.parquet").touch()
    for name in files:
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=message):
        Frame.load(tmp_path, beside=("windows.parquet",))
