"""Interactions to published profiles through a server that fails at 20 %: nobody is lost, nothing is paid twice."""

from __future__ import annotations

import numpy as np
import pytest

from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuildConfig
from lettingo_features.profiles.tables import meta_table, text_table
from lettingo_features.sql import connect
from pipelines.profiles import run_profiles
from pipelines.writers import WriterOptions
from tests.generation.fake_openai import PRICE_IN, PRICE_OUT, FakeOpenAI
from tests.pipelines.small_home import CUTOFF, USERS, small_home


class Encoder:
    encoder_id, dim = "fake", 1

    def encode(self, texts):
        return np.ones((len(texts), 1), np.float32)


@pytest.fixture
def home(tmp_path) -> Home:
    return small_home(tmp_path)


def generate(home: Home, server: FakeOpenAI, release: str = "served", **options):
    told = {"engine": "openai", "model": "m", "base_url": server.url, "concurrency": 8}
    writer = WriterOptions(**told, price_in=PRICE_IN, price_out=PRICE_OUT, **options)
    return run_profiles(home, ProfileBuildConfig(release=release), [CUTOFF], Encoder(), writer=writer)


def test_all_users_get_a_text_and_the_bill_is_the_servers(home):
    faults = ("429_seconds", "500", "reset", "truncated", "cut", "duplicate", "late")
    with FakeOpenAI(rate=0.2, faults=faults, seed=3) as server:
        report = generate(home, server)
        asked = len(server.requests)
        again = generate(home, server)
        other = generate(home, server, release="copy")
        assert len(server.requests) == asked  # a second run, and a second release of the same calls, ask nothing
    assert report.build.written == {"m": USERS} == other.build.written
    assert (report.build.users_pending, report.calls.called, again.calls.called, other.calls.cached) == (
        0,
        USERS,
        0,
        USERS,
    )
    assert set(server.delivered.values()) == {1}
    assert report.calls.cost_usd == pytest.approx(server.delivered_usd)
    assert report.cost_per_1000_users == pytest.approx(1000 * server.delivered_usd / USERS)
    assert any(name.startswith("retried") for name in report.counts)
    assert "user-0" not in str(server.requests)  # no id in any prompt
    texts = connect().sql(f"SELECT count(*), count(DISTINCT profile_text) FROM {home.scan(text_table('served'))}")
    assert texts.fetchall() == [(USERS, USERS)]
    keys = connect().sql(f"SELECT count(DISTINCT call_key) FROM {home.scan(meta_table('served'))}")
    assert keys.fetchall() == [(USERS,)]


def test_a_budget_stops_within_a_batch_and_the_next_run_goes_on(home):
    with FakeOpenAI() as server:
        first = generate(home, server, budget=0.004)
        assert first.calls.stopped == "budget"
        assert 0 < sum(first.build.written.values()) < USERS
        assert first.build.users_pending == USERS - sum(first.build.written.values())
        generate(home, server)
    assert set(server.delivered.values()) == {1} and len(server.delivered) == USERS
