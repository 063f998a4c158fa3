"""Promotion, rollback and abandonment of a release: what is done in which order, and what a kill leaves behind.

Every step of a promotion can be done twice with the effect of once, and is noted when done, so that the same command
finishes what a kill interrupted. The flip is one transaction of the registry. What follows it, the file that the
feature repository reads and the alias services, repeats the registry's decision and can be repeated itself.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lettingo_features.champion import write_served
from lettingo_features.errors import ReleaseError
from lettingo_features.home import Home
from lettingo_features.release_lock import promotion_lock
from lettingo_features.release_records import PROMOTE, Flip, GeneratorRelease, Plan
from lettingo_features.releases import CHAMPION, PROMOTING, RETIRED, ReleaseRegistry

Step = Callable[[GeneratorRelease, Plan], dict[str, Any]]
"""One step of a promotion; returns facts about what it did."""


class Promotion(NamedTuple):
    """What `promote` did."""

    flip: Flip | None
    "None where the release was the champion already."
    steps: dict[str, dict[str, Any]]


def promote(
    registry: ReleaseRegistry,
    home: Home,
    name: str,
    plan: Callable[[GeneratorRelease | None, str], Plan],
    steps: Mapping[str, Step],
    publish: Callable[[], None],
    who: str,
    forced: str | None = None,
    replan: bool = False,
) -> Promotion:
    """Take ``name`` through ``steps`` to champion; finishes an interrupted promotion of it.

    Parameters
    ----------
    plan
        Makes the plan against the champion, given what admitted the release.
    steps
        By name, in order; a step that is done already is left out.
    publish
        Makes the alias services say what the home's file says.
    forced
        Reason to promote without the gate's consent; kept in the history.
    replan
        Plan an interrupted promotion anew.

    Raises
    ------
    ReleaseError
        The gate did not say promote, another promotion is under way, or the champion changed meanwhile.
    """
    _why(registry.get(name), registry.champion(), forced)  # a clear refusal before anything is locked
    with promotion_lock(registry.database, lock_file(home), name, who) as promoter:
        record, champion = registry.get(name), registry.champion()
        if record.state == CHAMPION:
            publish_served(registry, home, publish)
            return Promotion(None, _in_order(registry.steps(name), steps))
        why = _why(record, champion, forced)
        goes_on = record.state == PROMOTING and record.plan.champion == (champion and champion.name)
        registry.begin(name, record.plan if goes_on and not replan else plan(champion, why), promoter)
        record, done = registry.get(name), registry.steps(name)
        for step, run in steps.items():
            if step not in done:
                registry.finish_step(name, step, run(record, record.plan), promoter)
        flip = registry.flip(name, promoter, who)
    publish_served(registry, home, publish)
    return Promotion(flip, _in_order(registry.steps(name), steps))


def roll_back(registry: ReleaseRegistry, home: Home, publish: Callable[[], None], why: str, who: str) -> Flip:
    """Make the former champion champion again. Waits for no promotion: one under way notices at its flip.

    Raises
    ------
    ReleaseError
        There is nothing to return to.
    """
    flip = registry.roll_back(why, who)
    publish_served(registry, home, publish)
    return flip


def abandon(registry: ReleaseRegistry, home: Home, name: str, publish: Callable[[], None], who: str) -> str:
    """Undo an interrupted promotion, or give a release up; return its new state.

    Raises
    ------
    ReleaseError
        It is being promoted now, or champion, or what a rollback returns to.
    """
    registry.get(name)
    with promotion_lock(registry.database, lock_file(home), name, who):
        state = registry.abandon(name)
    publish_served(registry, home, publish)
    return state


def publish_served(registry: ReleaseRegistry, home: Home, publish: Callable[[], None]) -> None:
    """Repeat the registry's decision in the home's file and in the alias services.

    One publisher of a host at a time. A decision of another host meanwhile is seen after, and repeated too: whoever is
    last leaves what the registry says.
    """
    with _publishing(home):
        decided = None
        while decided != registry.served():
            decided = registry.served()
            write_served(home.root, decided[0])
            publish()
    if decided[1] is not None:
        registry.note_published(decided[1])


def _in_order(done: dict[str, Any], steps: Mapping[str, Step]) -> dict[str, Any]:
    return {step: done[step] for step in steps if step in done}


def lock_file(home: Home):
    """Locked while a promotion of this home runs."""
    return home.root / "releases" / ".promotion.lock"


@contextmanager
def _publishing(home: Home):
    path = home.root / "releases" / ".publish.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _why(record: GeneratorRelease, champion: GeneratorRelease | None, forced: str | None) -> str:
    """What admits ``record`` to promotion; raises ReleaseError where nothing does."""
    if record.state == PROMOTING:
        return record.plan.why
    if record.state == CHAMPION:
        return "it is champion"
    if forced:
        return f"forced: {forced}"
    if record.state == RETIRED:  # a scheduled command that is repeated must not undo a rollback or a newer promotion
        raise ReleaseError(
            f"The release {record.name} was champion before and was replaced or rolled back. To bring it back, state "
            f"why: lettingo release promote {record.name} --force 'REASON'."
        )
    if record.decision != PROMOTE:
        said = "it passed no gate yet" if record.decision is None else f"the gate said {record.decision}"
        reasons = "; ".join((record.verdict or {}).get("reasons", []))
        raise ReleaseError(
            f"The release {record.name} is not promoted: {said}{f' ({reasons})' if reasons else ''}. Register it with "
            f"a verdict that says promote: lettingo release register {record.name} --gate FILE; or state why it is to "
            "be promoted all the same: --force 'REASON'."
        )
    compared = record.verdict.get("released_revision")
    if compared and champion and champion.revision is None:
        raise ReleaseError(
            f"The gate compared {record.name} with model {compared[:12]}, and nothing says which model the champion "
            f"{champion.name} is: it was built before it was registered. Say it: lettingo release register "
            f"{champion.name} with the options it was built with; or state a reason: --force 'REASON'."
        )
    if compared and champion and compared != champion.revision:
        raise ReleaseError(
            f"The gate compared {record.name} with model {compared[:12]}, and the champion {champion.name} is model "
            f"{champion.revision[:12]}: being better than the one says nothing of the other. Run the gate against the "
            f"champion, or state a reason: --force 'REASON'."
        )
    return f"gate: {record.decision}"
