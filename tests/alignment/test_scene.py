"""What the judges know at a cutoff, against hand-made tables; and that nothing later is among it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.frame import FrameConfig, make_frame
from lettingo_features.alignment.scene import Scene, build_random_split_scene, build_scene
from lettingo_features.columns import INTERACTIONS, TIMESTAMP
from lettingo_features.errors import DataError
from lettingo_features.evaluation.features import ITEM_NUMBERS, USER_NUMBERS
from lettingo_features.windows import WindowConfig
from tests.alignment.small_world import DAY, HOUR, T0, US, synthetic_home, write_home

CUTOFF = T0 + 30 * DAY
LAG_S = 6 * 3600
SERVED = CUTOFF + 6 * HOUR
ITEMS = [
    ("a", "Alpha", ["Drama", "Crime"]),
    ("b", "Beta", ["Drama"]),
    ("d", None, []),
    ("e", "Unmet", ["Western"]),  # in the catalogue, but nobody met it
]
PAST = [  # item c is in no catalogue
    ("v", "a", T0, 5.0),
    ("v", "b", T0 + DAY, 1.0),
    ("v", "a", T0 + 2 * DAY, 3.0),  # met twice
    ("w", "c", T0 + 3 * DAY, 4.0),
    ("w", "a", CUTOFF - US, None),  # the last instant
    ("x", "d", T0 + 29 * DAY, 2.0),
]
FUTURE = [
    ("w", "b", CUTOFF, 5.0),  # at the cutoff itself
    ("v", "new", SERVED, 5.0),
    ("late", "a", SERVED + DAY, 5.0),
    ("x", "a", SERVED + DAY, 5.0),
]
ASKED = ["x", "w", "v", "late", "silent", "v"]
TARGETS = [  # user, item, after the cutoff plus lag
    ("v", "d", 3 * HOUR),
    ("v", "c", 0 * HOUR),  # the first instant that counts
    ("v", "a", 1 * HOUR),  # met before
    ("v", "new", 1 * HOUR),  # nobody had met it: not available
    ("w", "b", 1 * HOUR),
    ("w", "e", 1 * HOUR),  # only in the catalogue
    ("late", "a", 1 * HOUR),  # a user without history
    ("late", "new", 1 * HOUR),  # and a new item besides
    ("stranger", "a", 1 * HOUR),  # not asked about
]


def targets(rows=TARGETS) -> pa.Table:
    users, items, after = zip(*rows, strict=True)
    return pa.table(
        {"user_id": users, "item_id": items, "event_timestamp": pa.array([SERVED + each for each in after], TIMESTAMP)}
    )


def scene_of(root: Path, past=PAST, asked=ASKED, wanted=None) -> Scene:
    home = write_home(root, past, ITEMS)
    return build_scene(home, CUTOFF, pa.array(asked), targets() if wanted is None else wanted, LAG_S)


def content(scene: Scene) -> dict[str, list]:
    """Everything that a judge reads, for comparison."""
    users = scene.users
    return {
        "user_ids": scene.user_ids.to_pylist(),
        "numbers": np.nan_to_num(users.numbers, nan=-1).tolist(),
        "shares": [each.toarray().tolist() for each in (users.shares, users.rated_shares, users.ratings)],
        "item_ids": scene.item_ids.to_pylist(),
        "item_numbers": np.nan_to_num(scene.item_numbers, nan=-1).tolist(),
        "item_categories": scene.item_categories.toarray().tolist(),
        "item_texts": scene.item_texts,
        "history": scene.history.matrix().toarray()[np.argsort(scene.history.user_ids.to_pylist())].tolist(),
        "seen": scene.seen.toarray().tolist(),
        "targets": [scene.target_user.tolist(), scene.target_item.tolist()],
        "counts": scene.counts,
    }


def test_a_hand_made_scene(tmp_path):
    scene = scene_of(tmp_path)
    assert scene.user_ids.to_pylist() == ["v", "w"]
    assert scene.item_ids.to_pylist() == ["a", "b", "c", "d"]
    assert scene.item_texts == ["Alpha. Drama, Crime", "Beta. Drama", "", ""]
    assert scene.seen.toarray().tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]
    # v: c at once, d two hours later; w: b
    assert scene.target_user.tolist() == [0, 0, 1] and scene.target_item.tolist() == [2, 3, 1]
    assert scene.counts == {
        "users_asked": 5,
        "users": 2,
        "targets": 3,
        "targets_of_cold_users": 2,
        "targets_on_new_items": 2,
        "targets_met_before": 1,
    }
    assert scene.counts["targets"] + 5 == len(TARGETS) - 1  # each target asked about is in one count
    assert scene.item_categories.toarray().tolist() == [[1, 1], [0, 1], [0, 0], [0, 0]]  # Crime, Drama
    assert [sorted(scene.categories_of(item)) for item in range(4)] == [["Crime", "Drama"], ["Drama"], [], []]
    met = scene.item_numbers[:, ITEM_NUMBERS.index("item_count_all")]
    rated = scene.item_numbers[:, ITEM_NUMBERS.index("item_mean_rating")]
    assert (met.tolist(), rated.tolist()) == ([3, 1, 1, 1], [4, 1, 4, 2])
    assert scene.users.numbers[:, USER_NUMBERS.index("user_count_all")].tolist() == [3, 2]
    assert scene.users.shares.toarray() == pytest.approx(np.array([[2 / 3, 1], [1 / 2, 1 / 2]]))
    history = scene.history
    matrix = history.matrix().toarray().tolist()
    rows = dict(zip(history.user_ids.to_pylist(), matrix, strict=True))
    assert rows == {"v": [1, 1, 0, 0], "w": [1, 0, 1, 0], "x": [0, 0, 0, 1]}  # of users without a target too


def test_the_future_changes_nothing(tmp_path):
    assert content(scene_of(tmp_path / "past")) == content(scene_of(tmp_path / "both", [*PAST, *FUTURE]))


def test_the_last_instant_of_the_past_counts(tmp_path):
    more = content(scene_of(tmp_path / "more", [*PAST, ("w", "b", CUTOFF - US, 5.0)]))
    less = content(scene_of(tmp_path / "less"))
    assert {name for name in less if less[name] != more[name]} >= {"seen", "item_numbers", "numbers", "targets"}
    assert more["counts"]["targets_met_before"] == 2


def test_order_changes_nothing(tmp_path):
    expected = content(scene_of(tmp_path / "given"))
    rng = np.random.default_rng(0)
    for n in range(3):
        past = [PAST[row] for row in rng.permutation(len(PAST))]
        wanted = targets().take(rng.permutation(len(TARGETS)))
        asked = [ASKED[row] for row in rng.permutation(len(ASKED))]
        assert content(scene_of(tmp_path / str(n), past, asked, wanted)) == expected


EARLY = [  # after the cutoff plus lag, refused
    (0 * US, False),
    (-US, True),
    (-6 * HOUR, True),
]


@pytest.mark.parametrize(("after", "refused"), EARLY)
def test_targets_before_a_text_could_be_served(tmp_path, after, refused):
    wanted = targets([("v", "c", after), ("v", "d", HOUR)])
    if not refused:
        assert scene_of(tmp_path, wanted=wanted).counts["targets"] == 2
        return
    with pytest.raises(DataError, match=r"1 of 2 targets lie before 2026-01-31 06:00:00\+00:00"):
        scene_of(tmp_path, wanted=wanted)


NONE_LEFT = [  # targets that cannot be ranked
    [("v", "a", HOUR), ("v", "b", HOUR)],
    [("late", "a", HOUR)],
    [("v", "new", HOUR)],
]


@pytest.mark.parametrize("rows", NONE_LEFT)
def test_no_target_left_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match=f"None of {len(rows)} targets of 5 users can be ranked"):
        scene_of(tmp_path, wanted=targets(rows))


def test_rows_of(tmp_path):
    scene = scene_of(tmp_path)
    assert scene.rows_of(pa.array(["w", "v", "w"])).tolist() == [1, 0, 1]
    assert scene.rows_of(pa.chunked_array([["v"], ["w"]])).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"2 of 3 users have no target after 2026-01-31 .* has 2"):
        scene.rows_of(pa.array(["v", "x", "nobody"]))


def test_a_home_without_a_catalogue(tmp_path):
    scene = build_scene(write_home(tmp_path, PAST), CUTOFF, pa.array(ASKED), targets(), LAG_S)
    assert scene.item_texts == [""] * 4 and scene.item_categories.shape == (4, 0)


def test_a_random_split(tmp_path):
    """Targets of any time, or of none; what the home holds is no target."""
    home = write_home(tmp_path, PAST, ITEMS)
    scene = build_random_split_scene(home, CUTOFF, pa.array(ASKED), targets().drop_columns("event_timestamp"))
    assert scene.user_ids.to_pylist() == ["v", "w"]
    assert sorted(zip(scene.target_user.tolist(), scene.target_item.tolist(), strict=True)) == [(0, 2), (0, 3), (1, 1)]


def test_arrays_belong_to_their_ids(tmp_path):
    """A whole world against loops over its rows."""
    home = synthetic_home(tmp_path, n_users=60, n_items=80)
    frame = make_frame(home, FrameConfig(), WindowConfig())
    scene = build_scene(home, frame.gate_cutoff, frame.gate, frame.gate_targets, LAG_S)
    rows = pa.Table.from_batches(
        [batch for path in home.parts("interactions") for batch in pq.read_table(path).to_batches()],
        INTERACTIONS,
    ).to_pylist()
    past = [row for row in rows if row["event_timestamp"] < frame.gate_cutoff]
    users, items = scene.user_ids.to_pylist(), scene.item_ids.to_pylist()
    assert items == sorted({row["item_id"] for row in past})
    count = scene.item_numbers[:, ITEM_NUMBERS.index("item_count_all")]
    assert count.tolist() == [sum(row["item_id"] == item for row in past) for item in items]
    count = scene.users.numbers[:, USER_NUMBERS.index("user_count_all")]
    assert count.tolist() == [sum(row["user_id"] == user for row in past) for user in users]
    seen = {(users[user], items[item]) for user, item in zip(*scene.seen.nonzero(), strict=True)}
    assert seen == {(row["user_id"], row["item_id"]) for row in past if row["user_id"] in users}
    wanted = [tuple(row.values())[:2] for row in frame.gate_targets.to_pylist()]
    wanted = [(user, item) for user, item in wanted if user in users and item in items and (user, item) not in seen]
    found = zip(scene.target_user.tolist(), scene.target_item.tolist(), strict=True)
    assert [(users[user], items[item]) for user, item in found] == wanted  # by user and then time
    titles = {row["item_id"]: row["title"] for path in home.parts("items") for row in pq.read_table(path).to_pylist()}
    assert all(titles[item] in text for item, text in zip(items, scene.item_texts, strict=True))


def test_a_home_is_only_read(tmp_path):
    home = write_home(tmp_path, PAST, ITEMS)
    before = {path: path.read_bytes() for path in home.offline.rglob("*.parquet")}
    build_scene(home, CUTOFF, pa.array(ASKED), targets(), LAG_S)
    assert {path: path.read_bytes() for path in home.offline.rglob("*.parquet")} == before
