"""Which interactions that arrive late change the windows of a run, and which do not."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from lettingo_features.alignment.frame import Frame, FrameConfig, make_frame
from lettingo_features.alignment.kept_windows import digests_of, n_changed
from lettingo_features.columns import INTERACTIONS
from lettingo_features.home import Home
from lettingo_features.windows import WindowConfig
from tests.alignment.small_world import DAY, interactions, synthetic_home

SMALL = FrameConfig(max_fit=5, max_explored=6, max_gate=7)


@pytest.fixture
def begun(tmp_path) -> tuple[Home, Frame, WindowConfig, pa.Table]:
    home, window = synthetic_home(tmp_path), WindowConfig(recent_k=4, long_k=200, reads="long")
    frame = make_frame(home, SMALL, window)
    return home, frame, window, digests_of(home, frame, window)


LATE = [  # role of the user, days after the role's cutoff, users that changed
    ("explored", -1, 1),
    ("fit", -1, 1),
    ("gate", -1, 1),
    ("gate", 1, 0),  # the future of every window
    ("explored", 1, 0),
    ("explored", -366, 0),  # too old for the window
    (None, -1, 0),  # nobody of the run
]


@pytest.mark.parametrize(("role", "days", "changed"), LATE)
def test_a_late_interaction(begun, role, days, changed):
    home, frame, window, kept = begun
    cutoff = frame.gate_cutoff if role == "gate" else frame.reward_cutoff
    user = getattr(frame, role)[0].as_py() if role else "passer-by"
    late = [(user, "i-late", cutoff + days * DAY - timedelta(seconds=1), 3.0)]
    home.write_part("interactions", "late", interactions(late), INTERACTIONS)
    assert n_changed(kept, digests_of(home, frame, window)) == changed


def test_every_user_of_the_run_has_a_digest_at_the_right_cutoff(begun):
    _, frame, _, kept = begun
    rows = zip(kept["user_id"].to_pylist(), kept["cutoff"].to_pylist(), strict=True)
    judged = {(user, frame.reward_cutoff) for users in (frame.explored, frame.fit) for user in users.to_pylist()}
    assert set(rows) == judged | {(user, frame.gate_cutoff) for user in frame.gate.to_pylist()}


def test_a_window_that_is_gone_or_new_counts(begun):
    kept = begun[-1]
    assert n_changed(kept, kept.slice(2)) == n_changed(kept.slice(2), kept) == 2
