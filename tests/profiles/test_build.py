"""Builds of profiles: what a text may see, what a second run costs, what a killed run leaves."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import INTERACTIONS, ITEMS
from lettingo_features.errors import ConfigError
from lettingo_features.home import Home
from lettingo_features.profiles.build import ProfileBuild, ProfileBuildConfig
from lettingo_features.profiles.generator import Draft
from lettingo_features.profiles.refresh import RefreshPolicy
from lettingo_features.profiles.release import Release
from lettingo_features.profiles.structured import Claim
from lettingo_features.profiles.tables import claims_table, embedding_table, encode_release, meta_table, text_table
from lettingo_features.windows import WindowConfig

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CUTOFF = T0 + 30 * DAY
NOW = T0 + 365 * DAY
TOKEN = "XYLOPHONEQUARTZ"  # in the title and category of one item, and nowhere else


class FakeGenerator:
    """Writes what it was told, and remembers it: whatever reaches a prompt is in ``asked``."""

    reads_history = False

    def __init__(self, name: str) -> None:
        self.name, self.generator_id, self.asked, self.empty = name, f"id-{name}", [], False

    def write(self, requests, progress=None):
        self.asked += [str(request.summary) for request in requests]
        yield [Draft("" if self.empty else f"{self.name} {request.summary}") for request in requests]


class FakeEncoder:
    """A vector that depends on every character of its text."""

    encoder_id = "fake"
    dim = 4

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts):
        self.encoded += texts
        digests = [hashlib.sha256(text.encode()).digest()[:4] for text in texts]
        return np.array([list(digest) for digest in digests], dtype=np.float32)


def interactions(*rows: tuple[str, str, datetime]) -> pa.Table:
    user, item, at = zip(*rows, strict=True)
    created = [instant + timedelta(microseconds=1) for instant in at]
    n = len(rows)
    return pa.table([user, item, at, created, [4.0] * n, [None] * n, [None] * n], schema=INTERACTIONS)


def six(user: str, start: datetime = T0) -> list[tuple[str, str, datetime]]:
    return [(user, f"i{k}", start + k * DAY) for k in range(6)]


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path).create()
    titles = [*(f"Title {k}" for k in range(8)), TOKEN]
    categories = [*([["Drama"]] * 8), [TOKEN]]
    ids = [*(f"i{k}" for k in range(8)), "planted"]
    items = pa.table([ids, titles, categories, [None] * 9, [T0] * 9], schema=ITEMS)
    home.write_part("items", "p", items, ITEMS)
    rows = [*six("warm"), ("cold", "i0", T0), ("cold", "i1", T0 + DAY), *six("later", CUTOFF)]
    home.write_part("interactions", "p", interactions(*rows), INTERACTIONS)
    return home


def build(home: Home, **config):
    made = ProfileBuild(home, ProfileBuildConfig(**config), FakeGenerator("cold"), FakeGenerator("warm"), FakeEncoder())
    return made


def read(home: Home, table: str) -> list[dict]:
    sql = f"SELECT * FROM {home.scan(table)} ORDER BY user_id, event_timestamp, created_timestamp"
    return duckdb.sql(sql).to_arrow_table().to_pylist()


def test_three_tables_hold_one_row_per_user_and_cutoff_with_provenance(home):
    report = build(home).run([CUTOFF], now=NOW)
    assert report.written == {"cold": 1, "warm": 1}  # five interactions make a user warm; "later" has none yet
    meta, text, vectors = (
        read(home, table) for table in (meta_table("v1"), text_table("v1"), embedding_table("v1", "fake"))
    )
    assert [row["user_id"] for row in meta] == [row["user_id"] for row in text] == ["cold", "warm"]
    warm = meta[1]
    assert (warm["generator"], warm["n_interactions"]) == ("warm", 6)
    assert warm["source_max_ts"] == T0 + 5 * DAY < warm["profile_cutoff_at"] == warm["event_timestamp"] == CUTOFF
    assert warm["published_at"] == warm["created_timestamp"] == CUTOFF + timedelta(hours=6)
    expected = FakeEncoder().encode([text[1]["profile_text"]])[0]
    assert vectors[1]["profile_embedding"] == list(expected)


PLANTED = [  # when the planted interaction happens                        must it be seen at CUTOFF?
    pytest.param(CUTOFF - timedelta(microseconds=1), True, id="last instant of the window"),
    pytest.param(CUTOFF, False, id="exactly the cutoff"),
    pytest.param(CUTOFF + DAY, False, id="after the cutoff"),
]


@pytest.mark.parametrize(("at", "seen"), PLANTED)
def test_a_planted_future_reaches_no_prompt_text_or_vector(home, at, seen):
    plain = build(home)
    plain.run([CUTOFF], now=NOW)
    other = Home(home.root / "planted").create()
    for table, schema in (("items", ITEMS), ("interactions", INTERACTIONS)):
        rows = duckdb.sql(f"SELECT * FROM {home.scan(table)}").to_arrow_table()
        other.write_part(table, "p", rows, schema)
    other.write_part("interactions", "q", interactions(("warm", "planted", at)), INTERACTIONS)
    planted = build(other)
    planted.run([CUTOFF], now=NOW)
    assert (TOKEN in str(planted.warm.asked)) is seen
    assert any(TOKEN in row["profile_text"] for row in read(other, text_table("v1"))) is seen
    same = read(other, embedding_table("v1", "fake")) == read(home, embedding_table("v1", "fake"))
    assert same is not seen
    assert (read(other, meta_table("v1")) == read(home, meta_table("v1"))) is not seen


def asked(made: ProfileBuild) -> int:
    return len(made.cold.asked) + len(made.warm.asked)


def test_a_second_run_asks_nothing_and_one_changed_user_asks_once(home):
    build(home).run([CUTOFF], now=NOW)
    again = build(home)
    report = again.run([CUTOFF], now=NOW)
    assert (asked(again), again.encoder.encoded, report.users_unchanged) == (0, [], 2)
    one = build(home)
    one.run([CUTOFF + timedelta(hours=1)], now=NOW)  # in that hour only "later" did something
    assert asked(one) == 1
    home.write_part("interactions", "q", interactions(("warm", "i7", CUTOFF + timedelta(hours=2))), INTERACTIONS)
    changed = build(home)
    changed.run([CUTOFF + timedelta(hours=3)], now=NOW)
    assert asked(changed) == 1


def test_late_interactions_make_a_row_that_was_not_served_before_now(home):
    build(home).run([CUTOFF], now=NOW)
    home.write_part("interactions", "late", interactions(("warm", "i7", T0 + 10 * DAY)), INTERACTIONS)
    build(home).run([CUTOFF], now=NOW)
    rows = [row for row in read(home, meta_table("v1")) if row["user_id"] == "warm"]
    assert [row["published_at"] for row in rows] == [CUTOFF + timedelta(hours=6), NOW]
    assert [row["n_interactions"] for row in rows] == [6, 7]


def test_late_interactions_of_a_user_without_a_row_at_that_cutoff_are_published_now_too(home):
    cutoffs = [CUTOFF, CUTOFF + DAY]  # nothing happens in between: no row at the second one
    build(home).run(cutoffs, now=NOW)
    home.write_part("interactions", "late", interactions(("warm", "i7", CUTOFF + DAY / 2)), INTERACTIONS)
    build(home).run(cutoffs, now=NOW)
    rows = [row for row in read(home, meta_table("v1")) if row["user_id"] == "warm"]
    assert [row["published_at"] for row in rows] == [CUTOFF + timedelta(hours=6), NOW]
    assert [row["event_timestamp"] for row in rows] == cutoffs


def test_a_rating_after_the_first_cutoff_does_not_change_the_scale_of_texts_before_it(home):
    plain = build(home)
    plain.run([CUTOFF], now=NOW)
    later = interactions(("x", "i0", CUTOFF)).set_column(4, "rating", pa.array([10.0], pa.float32()))
    home.write_part("interactions", "q", later, INTERACTIONS)
    other = build(home, release="v2")
    other.run([CUTOFF], now=NOW)
    assert other.warm.asked == plain.warm.asked


def test_another_encoder_gets_a_table_of_its_own_with_the_texts_times(home):
    build(home, chunk_size=1).run([CUTOFF], now=NOW)
    other = FakeEncoder()
    other.encoder_id = "fake_int8"
    assert encode_release(home, "v1", other) == 2
    assert encode_release(home, "v1", other) == 0  # nothing is encoded twice
    mine, theirs = (read(home, embedding_table("v1", name)) for name in ("fake", "fake_int8"))
    assert mine == theirs


def test_another_encoder_in_the_same_release_is_refused(home):
    build(home).run([CUTOFF], now=NOW)
    made = build(home)
    made.encoder.encoder_id = "other"
    with pytest.raises(ConfigError, match="encoder differ"):
        made.run([CUTOFF], now=NOW)


def test_two_runs_of_one_release_side_by_side_write_each_row_once(home):
    both = Barrier(2)

    def run():
        made = build(home, chunk_size=1)
        write = made.warm.write

        def together(requests, progress=None):
            both.wait(timeout=60)  # both have found the same users to do before either writes
            return write(requests, progress)

        made.warm.write = together
        return made.run([CUTOFF], now=NOW)

    with ThreadPoolExecutor(2) as pool:
        reports = [job.result() for job in [pool.submit(run), pool.submit(run)]]
    assert sum(sum(report.written.values()) for report in reports) == 2
    assert [row["user_id"] for row in read(home, meta_table("v1"))] == ["cold", "warm"]


@pytest.mark.parametrize(
    ("bounds", "writes"),
    [
        ((), True),  # any change
        (("1",), True),  # one new interaction is enough
        (("2",), False),  # two are not there yet
        (("11d",), False),  # ten days since the last text
        (("10d",), True),  # exactly old enough
        (("2", "10d"), True),  # either bound
    ],
)
def test_refresh_policy(home, bounds, writes):
    build(home).run([CUTOFF], now=NOW)
    home.write_part("interactions", "new", interactions(("warm", "i7", CUTOFF)), INTERACTIONS)
    report = build(home, refresh=RefreshPolicy.parse(bounds)).run(
        [CUTOFF + 10 * DAY], users=pa.array(["warm"]), now=NOW
    )
    assert (sum(report.written.values()), report.users_kept) == ((1, 0) if writes else (0, 1))


def test_late_interactions_wait_for_the_days_of_a_policy(home):
    build(home).run([CUTOFF], now=NOW)
    home.write_part("interactions", "late", interactions(("warm", "i7", T0 + DAY)), INTERACTIONS)
    warm = pa.array(["warm"])
    counted = build(home, refresh=RefreshPolicy(interactions=1)).run([CUTOFF + DAY], users=warm, now=NOW)
    aged = build(home, refresh=RefreshPolicy(interactions=1, days=2)).run([CUTOFF + 2 * DAY], users=warm, now=NOW)
    assert (counted.users_kept, sum(aged.written.values())) == (1, 1)


@pytest.mark.parametrize(
    ("bounds", "writes"),
    [
        ((), 1),  # a window that lost an interaction is another window
        (("1",), 0),  # nothing new
        (("1", "10d"), 1),  # old enough
    ],
)
def test_a_deleted_interaction_is_no_news(home, bounds, writes):
    home.write_part("interactions", "more", interactions(("warm", "i6", T0 + 6 * DAY)), INTERACTIONS)
    build(home).run([CUTOFF], now=NOW)
    (home.table_dir("interactions") / "more.parquet").unlink()
    made = build(home, refresh=RefreshPolicy.parse(bounds))
    report = made.run([CUTOFF + 10 * DAY], users=pa.array(["warm"]), now=NOW)
    assert (sum(report.written.values()), report.users_kept) == (writes, 1 - writes)
    assert all("Title 6" not in summary for summary in made.warm.asked)


def test_a_window_that_became_empty_keeps_its_last_text(home):
    home.write_part("interactions", "gone", interactions(*six("gone")), INTERACTIONS)
    build(home).run([CUTOFF], now=NOW)
    (home.table_dir("interactions") / "gone.parquet").unlink()
    made = build(home)
    report = made.run([CUTOFF + DAY], users=pa.array(["gone"]), now=NOW)
    assert (report.users_seen, asked(made)) == (0, 0)
    assert [row["user_id"] for row in read(home, text_table("v1"))].count("gone") == 1


@pytest.mark.parametrize("bound", ["0", "-1", "d", "5 d", "soon", "0d"])
def test_a_refresh_bound_that_is_none(bound):
    with pytest.raises((ConfigError, ValueError)):
        RefreshPolicy.parse((bound,))


def test_a_refresh_bound_above_the_window_is_refused():
    with pytest.raises(ConfigError, match="never comes: a window holds 60"):
        ProfileBuildConfig(refresh=RefreshPolicy(interactions=61))


def test_users_without_an_answer_are_left_for_the_next_run(home):
    made = build(home)
    made.warm.write = lambda requests, progress=None: iter([[Draft("", pending=True) for _ in requests]])
    report = made.run([CUTOFF], now=NOW)
    assert (report.users_pending, report.written, report.fallbacks) == (1, {"cold": 1}, 0)
    assert not Release(home, "v1").is_finished(CUTOFF)
    again = build(home).run([CUTOFF], now=NOW)
    assert (again.users_pending, again.written) == (0, {"warm": 1})
    assert Release(home, "v1").is_finished(CUTOFF)


def test_claims_are_kept_beside_their_items(home):
    made = build(home)
    made.warm.reads_history = True
    seen = {}

    def write(requests, progress=None):
        seen.update({request.user_id: request.history.to_pylist() for request in requests})
        yield [Draft("Likes drama.", (Claim("Likes drama", (1, 3)),), n_dropped=2, call_key="k") for _ in requests]

    made.warm.write = write
    report = made.run([CUTOFF], now=NOW)
    assert [row["item_id"] for row in seen["warm"]] == ["i5", "i4", "i3", "i2", "i1", "i0"]  # newest first
    assert (report.claims, report.claims_dropped) == (1, 2)
    (claim,) = read(home, claims_table("v1"))
    assert (claim["user_id"], claim["claim"], claim["item_ids"]) == ("warm", "Likes drama", ["i5", "i3"])
    meta = {row["user_id"]: row for row in read(home, meta_table("v1"))}
    assert [meta[u]["profile_n_claims"] for u in ("cold", "warm")] == [0, 1]
    assert (meta["warm"]["profile_n_dropped"], meta["warm"]["call_key"]) == (2, "k")


def test_a_live_run_is_published_now(home):
    build(home).run([CUTOFF], backfill=False, now=NOW)
    assert {row["published_at"] for row in read(home, meta_table("v1"))} == {NOW}


def test_an_empty_text_falls_back_to_the_cold_generator(home):
    made = build(home)
    made.warm.empty = True
    report = made.run([CUTOFF], now=NOW)
    assert (report.fallbacks, report.written) == (1, {"cold": 2})


class Killed(BaseException):
    pass


@pytest.mark.parametrize("writes", range(7))
def test_a_run_killed_between_any_two_writes_is_finished_by_the_next(home, monkeypatch, writes):
    whole = Home(home.root / "whole").create()
    for table, schema in (("items", ITEMS), ("interactions", INTERACTIONS)):
        rows = duckdb.sql(f"SELECT * FROM {home.scan(table)}").to_arrow_table()
        whole.write_part(table, "p", rows, schema)
    build(whole, chunk_size=1).run([CUTOFF], now=NOW)
    left = iter([True] * writes)
    write = home.write_part

    def dying(*arguments):
        if not next(left, False):
            raise Killed
        return write(*arguments)

    monkeypatch.setattr(home, "write_part", dying)
    if writes < 6:  # two users, three tables each
        with pytest.raises(Killed):
            build(home, chunk_size=1).run([CUTOFF], now=NOW)
    monkeypatch.undo()
    build(home, chunk_size=1).run([CUTOFF], now=NOW)
    for table in (meta_table("v1"), text_table("v1"), embedding_table("v1", "fake")):
        assert read(home, table) == read(whole, table)


def test_a_release_is_one_generator_one_window_one_style(home):
    build(home).run([CUTOFF], now=NOW)
    with pytest.raises(ConfigError, match=r"v1 was built with other settings: config differ.*new release name"):
        build(home, window=WindowConfig(days=7)).run([CUTOFF], now=NOW)
    build(home, release="v2", window=WindowConfig(days=7)).run([CUTOFF], now=NOW)


def test_a_cutoff_in_the_future_is_refused(home):
    with pytest.raises(ConfigError, match="cannot read the future"):
        build(home).run([NOW + DAY], now=NOW)
