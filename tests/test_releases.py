"""The registry of releases: states, one champion, flips, and who may promote; on SQLite and PostgreSQL."""

from __future__ import annotations

import fcntl
import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from lettingo_features import release_lock
from lettingo_features.alignment.database_tables import promoters, releases
from lettingo_features.champion import Served, read_served, served_path, write_served
from lettingo_features.errors import DatabaseError, ReleaseError
from lettingo_features.release_lock import current_promoter, promotion_lock
from lettingo_features.release_records import Plan
from lettingo_features.releases import ReleaseRegistry
from tests.alignment.conftest import database_url, postgres_database, postgres_url

__all__ = ["database_url", "postgres_database", "postgres_url"]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PASSED = {"decision": "promote", "reasons": ["nDCG@10 is 0.02 higher"]}
MODEL = {"model": "models/a", "revision": "a" * 64, "prompt": "rows-2", "settings": {"encoder": "e"}}
WRITER = {"base_url": "http://a"}


@pytest.fixture
def registry(database_url):
    registry = ReleaseRegistry(database_url)
    yield registry
    registry.close()


def plan(champion: str | None, why: str = "gate: promote") -> Plan:
    return Plan(champion=champion, cutoffs=(NOW,), live=NOW, why=why)


def promote(registry: ReleaseRegistry, name: str, tmp_path) -> None:
    champion = registry.champion()
    with promotion_lock(registry.database, tmp_path / "lock", name, "ann") as me:
        registry.begin(name, plan(champion and champion.name), me)
        registry.flip(name, me, "ann")


def states(registry: ReleaseRegistry) -> dict[str, str]:
    return {release.name: release.state for release in registry.all()}


def test_a_name_stands_for_one_generator(registry):
    made = registry.register("v2", MODEL, WRITER, "ann", parent="v1", verdict=PASSED)
    assert (made.state, made.parent, made.decision, made.writer) == ("candidate", "v1", "promote", WRITER)
    assert registry.register("v2", MODEL, WRITER, "bob") == made  # again: no change
    moved = registry.register("v2", MODEL, {"base_url": "http://b"}, "bob")
    assert (moved.writer, moved.verdict) == ({"base_url": "http://b"}, PASSED)
    with pytest.raises(ReleaseError, match="registered as another generator: revision differ"):
        registry.register("v2", MODEL | {"revision": "b" * 64}, WRITER, "ann")
    with pytest.raises(ReleaseError, match="No release may be called champion"):
        registry.register("champion", MODEL, WRITER, "ann")
    with pytest.raises(ReleaseError, match=r"No release v9 is registered \(known: v2\)"):
        registry.get("v9")


VERDICTS = [  # told, one after the other       state after each
    (["promote"], ["candidate"]),
    (["hold", "reject"], ["candidate", "rejected"]),
    (["reject", "promote"], ["rejected", "candidate"]),
]


@pytest.mark.parametrize(("told", "after"), VERDICTS)
def test_verdicts(registry, told, after):
    found = [registry.register("v2", MODEL, WRITER, "ann", verdict={"decision": each}).state for each in told]
    assert found == after


def test_a_verdict_that_says_none_of_the_three(registry):
    with pytest.raises(ReleaseError, match="says 'maybe'"):
        registry.register("v2", MODEL, WRITER, "ann", verdict={"decision": "maybe"})


def test_the_first_champion_is_adopted_once(registry):
    assert registry.champion() is None
    assert registry.adopt("v1", "g1", "ann").state == "champion"
    assert registry.adopt("v0", "g0", "ann").name == "v1"
    assert registry.register("v1", MODEL, WRITER, "ann").state == "champion"  # what it is may be told later, once
    with pytest.raises(ReleaseError, match="revision differ"):
        registry.register("v1", MODEL | {"revision": "b" * 64}, WRITER, "ann")
    assert [(flip.kind, flip.to_release) for flip in registry.history()] == [("adopt", "v1")]


def test_promotions_and_rollbacks_are_a_stack(registry, tmp_path):
    registry.adopt("v1", "g1", "ann")
    for name in ("v2", "v3"):
        registry.register(name, MODEL | {"revision": name}, WRITER, "ann")
        promote(registry, name, tmp_path)
    assert states(registry) == {"v1": "retired", "v2": "retired", "v3": "champion"}
    for champion in ("v2", "v1"):
        flip = registry.roll_back("worse clicks", "bob")
        assert (flip.kind, flip.to_release, flip.why, flip.who) == ("rollback", champion, "worse clicks", "bob")
        registry.note_published(flip.id)
        assert registry.champion().name == champion
    with pytest.raises(ReleaseError, match="The champion v1 took over from no release: there is nothing to roll back"):
        registry.roll_back("", "bob")
    promote(registry, "v3", tmp_path)  # a retired release returns
    assert registry.get("v3").replaced == "v1"
    assert [flip.kind for flip in registry.history()] == ["adopt", *["promote"] * 2, *["rollback"] * 2, "promote"]


def test_a_rollback_that_was_interrupted_is_finished_not_repeated(registry, tmp_path):
    registry.adopt("v1", "g1", "ann")
    for name in ("v2", "v3"):
        registry.register(name, MODEL | {"revision": name}, WRITER, "ann")
        promote(registry, name, tmp_path)
    first = registry.roll_back("", "ann")  # killed here: the alias services do not follow
    assert registry.roll_back("", "ann") == first
    assert registry.champion().name == "v2"


def test_the_database_itself_allows_one_champion_and_one_promotion(registry):
    registry.adopt("v1", "g1", "ann")
    registry.register("v2", MODEL, WRITER, "ann")
    for state in ("champion", "promoting"):
        with pytest.raises(DatabaseError), registry.database.writing() as connection:
            connection.execute(sa.update(releases).values(state=state))


def test_the_champion_changes_during_a_promotion(registry, tmp_path):
    registry.adopt("v1", "g1", "ann")
    for name in ("v2", "v3"):
        registry.register(name, MODEL | {"revision": name}, WRITER, "ann")
    promote(registry, "v2", tmp_path)
    with promotion_lock(registry.database, tmp_path / "lock", "v3", "ann") as me:
        registry.begin("v3", plan("v2"), me)
        registry.roll_back("", "bob")  # needs no lock
        with pytest.raises(ReleaseError, match="The champion changed from v2 to v1 while v3 was being promoted"):
            registry.flip("v3", me, "ann")
    assert states(registry) == {"v1": "champion", "v2": "retired", "v3": "promoting"}


def test_an_interrupted_promotion_is_finished_or_undone_before_another(registry, tmp_path):
    registry.adopt("v1", "g1", "ann")
    for name in ("v2", "v3"):
        registry.register(name, MODEL | {"revision": name}, WRITER, "ann")
    with promotion_lock(registry.database, tmp_path / "lock", "v2", "ann") as me:
        registry.begin("v2", plan("v1"), me)
        registry.finish_step("v2", "backfill", {"rows": 3}, me)
        with pytest.raises(ReleaseError, match="The promotion of v2 was interrupted"):
            registry.begin("v3", plan("v1"), me)
        registry.begin("v2", plan("v1"), me)
        assert registry.steps("v2") == {"backfill": {"rows": 3}}
        registry.begin("v2", plan("v1", why="forced: other"), me)  # another plan: everything again
        assert registry.steps("v2") == {}
    assert registry.abandon("v2") == "abandoned"
    assert registry.served()[0] == Served("v1", ("v2",))
    assert registry.register("v2", MODEL | {"revision": "v2"}, WRITER, "ann").state == "candidate"


def test_what_cannot_be_abandoned(registry, tmp_path):
    registry.adopt("v1", "g1", "ann")
    registry.register("v2", MODEL, WRITER, "ann")
    promote(registry, "v2", tmp_path)
    with pytest.raises(ReleaseError, match="v2 is champion"):
        registry.abandon("v2")
    with pytest.raises(ReleaseError, match="v1 is what rollback returns to"):
        registry.abandon("v1")
    with promotion_lock(registry.database, tmp_path / "lock", "v1", "ann") as me:
        registry.begin("v1", plan("v2"), me)
    assert registry.abandon("v1") == "retired"  # it was champion: its services stay


def test_one_promotes_at_a_time_and_the_other_hears_who(registry, tmp_path):
    entered = []
    with promotion_lock(registry.database, tmp_path / "lock", "v2", "ann"):
        for lock in (tmp_path / "lock", tmp_path / "another host's"):
            with (
                pytest.raises(ReleaseError, match=r"Another promotion is under way: v2 by ann \(process \d+ on "),
                promotion_lock(registry.database, lock, "v3", "bob"),
            ):
                entered.append(lock)
    assert entered == []
    assert current_promoter(registry.database) is None
    with promotion_lock(registry.database, tmp_path / "lock", "v3", "bob"):
        assert current_promoter(registry.database).startswith("v3 by bob")


@pytest.mark.parametrize(
    ("signs_s", "said"), [(30.0, r"v2 by ann \(process \d+ on "), (0.05, "a process that started")]
)
def test_who_has_just_locked_the_file_is_waited_for_until_it_has_a_name(registry, tmp_path, monkeypatch, signs_s, said):
    monkeypatch.setattr(release_lock, "_SIGNS_S", signs_s)
    over = threading.Event()

    def sign() -> None:
        with promotion_lock(registry.database, tmp_path / "its row", "v2", "ann"):
            over.wait(60)

    signing = threading.Timer(0.5, sign)
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        signing.start()
        try:
            with (
                pytest.raises(ReleaseError, match=said),
                promotion_lock(registry.database, tmp_path / "lock", "v3", "b"),
            ):
                pass
        finally:
            over.set()
            signing.join()


def test_two_threads_at_once_one_wins(registry, tmp_path):
    start, won, lost = threading.Barrier(6), [], []

    def run(n: int) -> None:
        start.wait()
        try:
            with promotion_lock(registry.database, tmp_path / f"host-{n}", f"v{n}", "ann"):
                won.append(n)
                over.wait(20)
        except ReleaseError:
            lost.append(n)
            if len(lost) == 5:
                over.set()

    over = threading.Event()
    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)


def test_a_dead_holder_is_taken_over(registry, tmp_path):
    registry.register("v2", MODEL, WRITER, "ann")
    with promotion_lock(registry.database, tmp_path / "lock", "v2", "ann") as me:
        with registry.database.writing() as connection:  # as after kill -9 of an earlier one: its row stays
            connection.execute(sa.update(promoters).values(id="dead"))
        with pytest.raises(ReleaseError, match="silent for longer than its lease"):
            registry.begin("v2", plan(None), me)  # the one that stood still changes nothing more
    assert current_promoter(registry.database).startswith("v2 by ann")
    with promotion_lock(registry.database, tmp_path / "lock", "v3", "bob"):  # same host and file: dead for sure
        pass


def test_a_silent_holder_of_another_host_is_taken_over_after_its_lease(registry, tmp_path):
    with promotion_lock(registry.database, tmp_path / "lock", "v2", "ann"), registry.database.writing() as connection:
        long_ago = datetime.now(UTC).replace(year=2020)
        connection.execute(sa.update(promoters).values(id="far", host="elsewhere", heartbeat_at=long_ago))
    with promotion_lock(registry.database, tmp_path / "lock", "v3", "bob"):
        assert current_promoter(registry.database).startswith("v3 by bob")


def test_a_generator_does_not_change_under_one_name(registry):
    registry.register("v2", MODEL, WRITER, "ann")
    for _ in range(2):
        registry.know_generator("v2", "g" * 64)
    with pytest.raises(ReleaseError, match="written by generator gggggggggggggggg, now by hhhhhhhhhhhhhhhh"):
        registry.know_generator("v2", "h" * 64)


def test_the_file_that_the_feature_repository_reads(tmp_path):
    assert read_served(tmp_path) == Served("v1", ())
    write_served(tmp_path, Served("v2", ("v3",)))
    assert read_served(tmp_path) == Served("v2", ("v3",))
    assert [path.name for path in tmp_path.iterdir()] == ["serving.json"]
    served_path(tmp_path).write_text("{")
    with pytest.raises(ReleaseError, match="cannot be read"):
        read_served(tmp_path)
