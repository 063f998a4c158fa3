"""Promotion, rollback and abandonment with scripted steps: ``kill -9`` at every point, then the same command again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lettingo_features.champion import Served, read_served
from lettingo_features.errors import ReleaseError
from lettingo_features.home import Home
from lettingo_features.promotion import abandon, lock_file, promote, roll_back
from lettingo_features.release_lock import current_promoter, promotion_lock
from lettingo_features.release_records import Plan
from lettingo_features.releases import ReleaseRegistry

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = {"model": "m", "revision": "r", "prompt": "rows-2", "settings": {"encoder": "e"}}
PASSED = {"decision": "promote", "reasons": []}
STEPS = ("backfill", "live", "declare", "online")
POINTS = [  # of a promotion, in order
    "begun",
    *(f"{step} {where}" for step in STEPS for where in ("starts", "ends", "noted")),
    "flipped",
    "file written",
    "alias applied",
    "published",
]


def kill_at(point: str | None):
    def reached(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


class Registry(ReleaseRegistry):
    """The registry, which tells when it has written."""

    def __init__(self, url: str, reached) -> None:
        super().__init__(url)
        self.reached = reached

    def begin(self, *arguments):
        super().begin(*arguments)
        self.reached("begun")

    def finish_step(self, name, step, facts, promoter):
        super().finish_step(name, step, facts, promoter)
        self.reached(f"{step} noted")

    def flip(self, *arguments):
        made = super().flip(*arguments)
        self.reached("flipped")
        return made

    def roll_back(self, *arguments):
        made = super().roll_back(*arguments)
        self.reached("flipped")
        return made

    def abandon(self, name):
        made = super().abandon(name)
        self.reached("flipped")
        return made

    def note_published(self, flip):
        super().note_published(flip)
        self.reached("published")


def plan(champion, why: str) -> Plan:
    return Plan(champion=champion and champion.name, cutoffs=(NOW,), live=NOW, why=why)


def publisher(home: Home, reached):
    """What ``feast apply`` of the aliases does: repeats what the file says."""

    def publish() -> None:
        reached("file written")
        (home.root / "alias").write_text(read_served(home.root).champion)
        reached("alias applied")

    return publish


def run_promote(root: Path, name: str, point: str | None = None, forced: str | None = None):
    home, reached = Home(root), kill_at(point)
    registry = Registry(home.alignment_url, reached)

    def step(kind: str):
        def run(release, planned):
            reached(f"{kind} starts")
            with (home.root / f"{release.name}.{kind}").open("a") as stream:
                stream.write(f"{planned.live:%Y-%m-%d}\n")
            reached(f"{kind} ends")
            return {"rows": 1}

        return run

    steps = {kind: step(kind) for kind in STEPS}
    return promote(registry, home, name, plan, steps, publisher(home, reached), "ann", forced)


def run_rollback(root: Path, point: str | None = None):
    home, reached = Home(root), kill_at(point)
    return roll_back(Registry(home.alignment_url, reached), home, publisher(home, reached), "worse", "bob")


def run_abandon(root: Path, name: str, point: str | None = None):
    home, reached = Home(root), kill_at(point)
    return abandon(Registry(home.alignment_url, reached), home, name, publisher(home, reached), "ann")


def killed(function, *arguments) -> None:
    """Run it in a process of its own that ends by SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def state(root: Path) -> dict:
    home = Home(root)
    registry = ReleaseRegistry(home.alignment_url)
    return {
        "states": {release.name: (release.state, release.replaced) for release in registry.all()},
        "flips": [(f.kind, f.from_release, f.to_release, f.why, f.published_at is None) for f in registry.history()],
        "steps": sorted(registry.steps("v2")),
        "served": read_served(home.root),
        "alias": (home.root / "alias").read_text() if (home.root / "alias").exists() else None,
        "wrote": sorted(path.name for path in home.root.glob("v2.*")),
        "promoter": current_promoter(registry.database),
    }


@pytest.fixture
def root(tmp_path) -> Path:
    registry = ReleaseRegistry(Home(tmp_path).create().alignment_url)
    registry.adopt("v1", "g1", "ann")
    registry.register("v2", MODEL, {}, "ann", "v1", PASSED)
    registry.close()
    return tmp_path


PROMOTED = {
    "states": {"v1": ("retired", None), "v2": ("champion", "v1")},
    "flips": [
        ("adopt", None, "v1", "what the home served before its first promotion", False),
        ("promote", "v1", "v2", "gate: promote", False),
    ],
    "steps": sorted(STEPS),
    "served": Served("v2", ()),
    "alias": "v2",
    "wrote": [f"v2.{step}" for step in sorted(STEPS)],
    "promoter": None,
}


def test_a_promotion(root):
    done = run_promote(root, "v2")
    assert (done.flip.from_release, done.flip.to_release, list(done.steps)) == ("v1", "v2", list(STEPS))
    assert state(root) == PROMOTED
    assert run_promote(root, "v2").flip is None  # again: nothing but the alias services, once more
    assert state(root) == PROMOTED


@pytest.mark.parametrize("point", POINTS)
def test_a_promotion_killed_anywhere_is_finished_by_the_same_command(root, point):
    killed(run_promote, root, "v2", point)
    run_promote(root, "v2")
    assert state(root) == PROMOTED
    for step in STEPS:  # only the step that was under way is done twice
        again = 2 if point == f"{step} ends" else 1
        assert len((root / f"v2.{step}").read_text().splitlines()) == again, step


@pytest.mark.parametrize("point", POINTS[: POINTS.index("flipped")])
def test_a_promotion_killed_before_its_flip_can_be_undone(root, point):
    killed(run_promote, root, "v2", point)
    with pytest.raises(ReleaseError, match="The promotion of v2 was interrupted"):
        ReleaseRegistry(Home(root).alignment_url).register("v3", MODEL | {"revision": "s"}, {}, "ann", verdict=PASSED)
        run_promote(root, "v3")
    assert run_abandon(root, "v2") == "abandoned"
    found = state(root)
    assert found["states"]["v1"] == ("champion", None)
    assert (found["served"], found["alias"]) == (Served("v1", ("v2",)), "v1")
    run_promote(root, "v3")
    assert state(root)["alias"] == "v3"


@pytest.mark.parametrize("point", ["flipped", "file written", "alias applied", "published"])
def test_a_rollback_killed_anywhere_is_finished_by_the_same_command(root, point):
    run_promote(root, "v2")
    killed(run_rollback, root, point)
    if point == "published":  # it was over: the next one would be another rollback, and there is none
        with pytest.raises(ReleaseError, match="nothing to roll back to"):
            run_rollback(root)
    else:
        run_rollback(root)
    found = state(root)
    assert found["states"] == {"v1": ("champion", None), "v2": ("retired", "v1")}
    assert (found["served"], found["alias"]) == (Served("v1", ()), "v1")
    assert [flip[0] for flip in found["flips"]] == ["adopt", "promote", "rollback"]
    assert not any(flip[-1] for flip in found["flips"])  # all published


@pytest.mark.parametrize("point", ["flipped", "file written"])
def test_a_rollback_undoes_a_promotion_that_was_killed_after_its_flip(root, point):
    killed(run_promote, root, "v2", point)
    run_rollback(root)
    found = state(root)
    assert found["states"] == {"v1": ("champion", None), "v2": ("retired", "v1")}
    assert (found["served"], found["alias"]) == (Served("v1", ()), "v1")
    with pytest.raises(ReleaseError, match="was champion before"):
        run_promote(root, "v2")  # the same command again, as a scheduler repeats it, does not undo a rollback
    run_promote(root, "v2", forced="it was not the cause")
    assert state(root)["alias"] == "v2"


def test_a_verdict_over_another_generator_than_the_champion_promotes_nothing(root):
    registry = ReleaseRegistry(Home(root).alignment_url)
    against = PASSED | {"released_revision": "f" * 64}
    registry.register("v3", MODEL | {"revision": "3" * 64}, {}, "ann", "v1", against)
    registry.close()
    run_promote(root, "v2")
    with pytest.raises(ReleaseError, match="being better than the one says nothing of the other"):
        run_promote(root, "v3")


def test_a_verdict_against_a_model_that_nobody_can_name_promotes_nothing(root):
    registry = ReleaseRegistry(Home(root).alignment_url)
    registry.register("v3", MODEL, {}, "ann", "v1", PASSED | {"released_revision": "f" * 64})
    with pytest.raises(ReleaseError, match=r"nothing says which model the champion v1 is.*release register v1"):
        run_promote(root, "v3")
    registry.register("v1", MODEL | {"revision": "f" * 64}, {}, "ann")
    registry.close()
    run_promote(root, "v3")
    assert state(root)["states"]["v3"][0] == "champion"


@pytest.mark.parametrize("point", ["flipped", "file written", "alias applied"])
def test_an_abandonment_killed_anywhere_is_finished_by_the_same_command(root, point):
    killed(run_promote, root, "v2", "live ends")
    killed(run_abandon, root, "v2", point)
    assert run_abandon(root, "v2") == "abandoned"
    assert (state(root)["served"], state(root)["alias"]) == (Served("v1", ("v2",)), "v1")


def test_two_promotions_at_once_one_wins_and_the_other_says_who(root):
    home = Home(root)
    registry = ReleaseRegistry(home.alignment_url)
    registry.register("v3", MODEL | {"revision": "s"}, {}, "ann", "v1", PASSED)
    with promotion_lock(registry.database, lock_file(home), "v3", "bob"):
        with pytest.raises(ReleaseError, match=rf"under way: v3 by bob \(process {os.getpid()} on "):
            run_promote(root, "v2")
        with pytest.raises(ReleaseError, match="under way: v3 by bob"):
            run_abandon(root, "v2")
    assert state(root)["states"] == {
        "v1": ("champion", None),
        "v2": ("candidate", None),
        "v3": ("candidate", None),
    }


def test_a_rollback_waits_for_no_promotion(root):
    registry = ReleaseRegistry(Home(root).alignment_url)
    registry.register("v3", MODEL | {"revision": "s"}, {}, "ann", "v1", PASSED)
    run_promote(root, "v2")

    def rolls_back(release, planned):
        run_rollback(root)
        return {}

    home = Home(root)
    told = (registry, home, "v3", plan, {"backfill": rolls_back}, publisher(home, kill_at(None)), "ann")
    with pytest.raises(ReleaseError, match="The champion changed from v2 to v1 while v3 was being promoted"):
        promote(*told)
    assert state(root)["alias"] == "v1"
    run_promote(root, "v3")  # plans anew, against v1
    assert registry.get("v3").replaced == "v1"


REFUSED = [  # verdict                                                  says
    (None, "it passed no gate yet"),
    ({"decision": "hold", "reasons": ["too few users"]}, r"the gate said hold \(too few users\)"),
    ({"decision": "reject", "reasons": ["worse"]}, r"the gate said reject \(worse\)"),
]


@pytest.mark.parametrize(("verdict", "says"), REFUSED)
def test_without_the_gates_consent(root, verdict, says):
    registry = ReleaseRegistry(Home(root).alignment_url)
    registry.register("v3", MODEL | {"revision": "s"}, {}, "ann", "v1", verdict)
    with pytest.raises(ReleaseError, match=f"v3 is not promoted: {says}.*--force"):
        run_promote(root, "v3")
    killed(run_promote, root, "v3", "live ends", "the judge was down")
    run_promote(root, "v3")  # finishing it needs no second reason
    assert registry.history()[-1].why == "forced: the judge was down"


def test_a_step_that_fails_is_done_again_and_changes_no_champion(root):
    home, tries = Home(root), []

    def fails_once(release, planned):
        tries.append(release.name)
        if len(tries) == 1:
            raise ReleaseError("20 users got no text")
        return {}

    registry = ReleaseRegistry(home.alignment_url)
    told = (registry, home, "v2", plan, {"backfill": fails_once}, publisher(home, kill_at(None)), "ann")
    with pytest.raises(ReleaseError, match="20 users"):
        promote(*told)
    assert registry.champion().name == "v1"
    assert promote(*told).flip.to_release == "v2"


def test_an_alias_that_cannot_be_applied_is_applied_by_the_same_command(root):
    home = Home(root)
    registry = ReleaseRegistry(home.alignment_url)

    def unreachable():
        raise ReleaseError("the Feast registry does not answer")

    with pytest.raises(ReleaseError, match="does not answer"):
        promote(registry, home, "v2", plan, {}, unreachable, "ann")
    assert registry.history()[-1].published_at is None
    assert promote(registry, home, "v2", plan, {}, publisher(home, kill_at(None)), "ann").flip is None
    assert registry.history()[-1].published_at is not None
    assert state(root)["alias"] == "v2"
