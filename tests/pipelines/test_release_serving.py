"""Promotion and rollback for real: under load, killed three times, and twice at once.

A client asks the alias services and those of both releases without a pause while ``lettingo release`` runs beside a
``feast serve``: nothing fails, and in every answer text, provenance and vector come from one release.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import duckdb
import pytest

from lettingo_features.champion import read_served
from lettingo_features.home import Home
from lettingo_features.profiles.tables import embedding_table, meta_table, text_table
from lettingo_features.releases import ReleaseRegistry
from pipelines.store import REPO, feast
from serving.client import FeatureClient
from serving.server import feast_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

RELEASES = ("v1", "v2")
BACKFILL = ["--start", "2023-05-01", "--end", "2023-08-01", "--every", "92d"]
SAMPLED = ["--temperature", "1.0", "--seed", "7"]  # the same model, other texts
REGISTRY_TTL_S = 1
PAUSE_S = 0.01  # leaves a machine of two cores some time for what is tested
WARM_VIEWS = ("user_behaviour_v1", "item_behaviour_v1", "item_text_embedding_minilm_l6_v2")


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *arguments, "--home", str(home)]


def lettingo(home: Path, *arguments: str) -> str:
    done = subprocess.run(command(home, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A home with v1 and a candidate v2 that passed its gate; Feast has not seen it yet."""
    base = tmp_path_factory.mktemp("base")
    home, world, verdict = base / "home", base / "world", base / "verdict.json"
    made = [sys.executable, "-m", "pipelines.cli", "world", "--out", str(world), "--users", "40", "--items", "60"]
    subprocess.run(made, check=True, capture_output=True)
    lettingo(home, "ingest", str(world))
    lettingo(home, "behaviour", "build", "--as-of", "2023-08-29")
    lettingo(home, "items", "encode")
    lettingo(home, "profiles", "backfill", *BACKFILL)
    verdict.write_text(json.dumps({"decision": "promote", "reasons": ["better"]}))
    lettingo(home, "release", "register", "v2", *SAMPLED, "--gate", str(verdict))
    return home


def copy(built: Path, target: Path) -> Path:
    """A home of its own, as long as Feast's registry knows no path of the first."""
    shutil.copytree(built, target)
    return target


class Truth:
    """What each release wrote, to tell whose an answer is."""

    def __init__(self, root: Path) -> None:
        home = Home(root)
        self.texts, self.vectors, self.release_of = defaultdict(set), defaultdict(set), {}
        for release in RELEASES:
            facts = json.loads((root / "releases" / f"{release}.json").read_text())
            self.release_of[facts["warm"]] = release
            rows = duckdb.sql(f"SELECT user_id, profile_text FROM {home.scan(text_table(release))}").fetchall()
            for user, text in rows:
                self.texts[release, user].add(text)
            table = home.scan(embedding_table(release, facts["encoder"]))
            for user, vector in duckdb.sql(f"SELECT user_id, profile_embedding FROM {table}").fetchall():
                self.vectors[release, user].add(tuple(vector))

    def users(self, root: Path) -> list[str]:
        """Users for whom a language model wrote each row of both releases, no text of which is in both."""
        tables = [Home(root).scan(meta_table(release)) for release in RELEASES]
        sql = " UNION ALL ".join(f"SELECT user_id, generator FROM {table}" for table in tables)
        warm = duckdb.sql(f"SELECT user_id FROM ({sql}) GROUP BY ALL HAVING bool_and(generator = 'embedded-lm')")
        mine = [user for (user,) in warm.fetchall()]
        return sorted(user for user in mine if all(self.texts[r, user] for r in RELEASES) and not self._shared(user))

    def _shared(self, user: str) -> set[str]:
        return self.texts["v1", user] & self.texts["v2", user]

    def mixed(self, user: str, row: dict) -> bool:
        """Whether text or vector of an answer belong to another release than its provenance says."""
        release = self.release_of[row["generator_id"]]
        text, vector = row.get("profile_text"), row.get("profile_embedding")
        return (text is not None and text not in self.texts[release, user]) or (
            vector is not None and tuple(vector.tolist()) not in self.vectors[release, user]
        )


class Hammer(threading.Thread):
    """Asks ``services`` in turn until told to stop; keeps (service, user, answer) and what failed."""

    def __init__(self, url: str, users: list[str], item: str, services: list[str]) -> None:
        super().__init__(daemon=True)
        self.client, self.users, self.item, self.services = FeatureClient(url), users, item, services
        self.answers: list[tuple[str, str, dict]] = []
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        n = 0
        while not self.over.is_set():
            n += 1
            time.sleep(PAUSE_S)
            user, service = self.users[n % len(self.users)], self.services[n % len(self.services)]
            items = [self.item] if service.startswith("ranker") else None
            try:
                columns = self.client.features(service, [user], items)
            except Exception as error:
                self.failures.append(f"{service}: {error}")
                continue
            kept = ("generator_id", "profile_text", "profile_embedding")
            self.answers.append((service, user, {name: columns[name][0] for name in kept if name in columns}))

    def stop(self) -> None:
        self.over.set()
        self.join(30)


def champion_seen(client: FeatureClient, truth: Truth, user: str) -> str:
    return truth.release_of[client.features("profile_text_champion", [user])["generator_id"][0]]


def wait_for(client: FeatureClient, truth: Truth, user: str, release: str) -> float:
    began = time.monotonic()
    while champion_seen(client, truth, user) != release:
        assert time.monotonic() - began < 60, f"the alias does not answer as {release}"
        time.sleep(0.05)
    return time.monotonic() - began


def test_promotion_and_rollback_under_load_serve_no_mixed_release(built, tmp_path):
    root = copy(built, tmp_path / "home")
    home = Home(root)
    feast(home, "apply")
    v1 = (text_table("v1"), meta_table("v1"), embedding_table("v1", "minilm_l6_v2"))
    views = [argument for view in (*v1, *WARM_VIEWS) for argument in ("--views", view)]
    feast(home, "materialize", *views, "2022-01-01T00:00:00", "2026-01-01T00:00:00")
    item = duckdb.sql(f"SELECT min(item_id) FROM {home.scan('items')}").fetchall()[0][0]
    aliases = ["profile_text_champion", "ranker_profile_champion"]
    with feast_server(REPO, root, registry_ttl_s=REGISTRY_TTL_S) as url, FeatureClient(url) as client:
        everyone = [u for (u,) in duckdb.sql(f"SELECT DISTINCT user_id FROM {home.scan(v1[1])}").fetchall()]
        hammers = [Hammer(url, sorted(everyone), item, [*aliases, "profile_text_v1", "ranker_profile_v1"])]
        hammers[0].start()
        lettingo(root, "release", "promote", "v2")
        truth = Truth(root)
        users = truth.users(root)
        assert len(users) > 10
        swapped = {"generator_id": json.loads((root / "releases" / "v2.json").read_text())["warm"]}
        assert truth.mixed(users[0], swapped | {"profile_text": min(truth.texts["v1", users[0]])})  # it can tell
        wait_for(client, truth, users[0], "v2")
        own = [f"{kind}_{release}" for kind in ("profile_text", "ranker_profile") for release in RELEASES]
        hammers.append(Hammer(url, users, item, [*aliases, *own]))
        hammers[1].start()
        for back, forth in (("rollback", "v1"), ("promote", "v2"), ("rollback", "v1")):
            lettingo(root, "release", back, *(["v2", "--force", "again"] if back == "promote" else []))
            wait_for(client, truth, users[0], forth)
        for hammer in hammers:
            hammer.stop()
    assert [failure for hammer in hammers for failure in hammer.failures] == []
    answers = [answer for hammer in hammers for answer in hammer.answers if answer[1] in users]
    assert len(answers) > 500
    assert [(service, user) for service, user, row in answers if truth.mixed(user, row)] == []
    seen = Counter((service, truth.release_of[row["generator_id"]]) for service, _, row in answers)
    for service in aliases:
        assert min(seen[service, release] for release in RELEASES) > 0, seen
    pinned = {(service, release) for service, release in seen if service not in aliases}
    assert pinned == {(f"{kind}_{r}", r) for kind in ("profile_text", "ranker_profile") for r in RELEASES}
    print(f"\n{len(answers):,} answers, none failed, none mixed: {dict(seen)}")


def texts(root: Path) -> list[tuple]:
    """Every text of v2 by user and cutoff; when it was published differs from run to run."""
    table = Home(root).scan(text_table("v2"))
    return duckdb.sql(f"SELECT user_id, event_timestamp, profile_text FROM {table} ORDER BY ALL").fetchall()


def test_a_promotion_killed_three_times_ends_as_one_that_was_not(built, tmp_path):
    whole, root = copy(built, tmp_path / "whole"), copy(built, tmp_path / "killed")
    lettingo(whole, "release", "promote", "v2")
    registry = ReleaseRegistry(Home(root).alignment_url)
    for step in ("backfill", "live", "declare"):  # kill as soon as it is noted: in the one that follows
        process = subprocess.Popen(command(root, "release", "promote", "v2"), start_new_session=True)
        while step not in registry.steps("v2") and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert registry.champion().name == "v1"
    lettingo(root, "release", "promote", "v2")
    assert texts(root) == texts(whole) != []
    assert registry.champion().name == read_served(root).champion == "v2"
    told = ReleaseRegistry(Home(whole).alignment_url).steps("v2")
    for step, facts in registry.steps("v2").items():
        assert {**facts, "until": ""} == {**told[step], "until": ""} or step in ("backfill", "live")


def test_two_promotions_at_once_one_wins(built, tmp_path):
    root = copy(built, tmp_path / "home")
    runs = [
        subprocess.Popen(command(root, "release", "promote", "v2"), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [run.communicate()[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2], errors
    lost = codes.index(2)
    assert f"(process {runs[1 - lost].pid} on " in errors[lost]
    assert [flip.kind for flip in ReleaseRegistry(Home(root).alignment_url).history()] == ["adopt", "promote"]
