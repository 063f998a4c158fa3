"""``lettingo profiles generate --engine-cluster ray``: a killed actor loses nothing, the texts are one machine's."""

from __future__ import annotations

import os
import time

import pytest

from tests.generation import ray_actors
from tests.pipelines.small_home import USERS, finish, small_home, start_generate, texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # three runs; minutes each on a busy machine


def test_a_killed_actor_loses_nothing_and_the_texts_are_those_of_one_machine(tmp_path):
    pytest.importorskip("ray.data", reason="extra 'scale' is not installed")
    cluster, alone = small_home(tmp_path / "cluster"), small_home(tmp_path / "alone")
    run = start_generate(cluster, "--engine-cluster", "ray", "--workers", "2")
    while not (actors := ray_actors.pids(run.pid)) and run.poll() is None:
        time.sleep(0.05)
    os.kill(actors[0], 9)
    report, _ = finish(run)
    assert (report["calls"]["called"], report["calls"]["failed"]) == (USERS, {})
    assert report["build"]["written"] == {"embedded-lm": USERS}

    finish(start_generate(alone))
    assert texts(cluster) == texts(alone)

    again, said = finish(start_generate(cluster, "--engine-cluster", "ray", "--release", "other"))
    assert (again["calls"]["called"], again["calls"]["cached"]) == (0, USERS)
    assert "ray" not in said.lower()  # nothing to call: none was started
