"""Versions of the generator:  lettingo release list | register NAME | promote NAME | rollback | abandon NAME"""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pipelines.behaviour import cutoffs_from
from pipelines.console import Instant, home_option, json_option, open_home, show
from pipelines.writers import WriterOptions, writer_options

_OF_A_RUN = ("ledger", "budget", "cluster_address")  # options of a host or a day: never kept
_SHAPING = ("engine", "text_style", "temperature", "seed", "max_new_tokens", "structured", "mask", "dtype")
_SERVED_ADAPTER = re.compile(r"adapter-[0-9a-f]{16}")


def alignment_url(home, database: str | None = None) -> str:
    """Database of pairs and releases: ``database``, LETTINGO_ALIGNMENT, or ``alignment.db`` in the home."""
    return database or os.environ.get("LETTINGO_ALIGNMENT") or home.alignment_url


@contextmanager
def open_registry(home, database: str | None = None) -> Iterator[Any]:
    """The registry of releases at `alignment_url`."""
    from lettingo_features.releases import ReleaseRegistry

    registry = ReleaseRegistry(alignment_url(home, database))
    try:
        yield registry
    finally:
        registry.close()


def model_identity(writer: WriterOptions) -> dict[str, str | None]:
    """``model``, ``revision`` (content hash) and ``adapter`` (its content-hash name) of what ``writer`` names."""
    from lettingo_features.generation.engine import content_id
    from lettingo_features.generation.model_files import adapter_name, model_hash
    from lettingo_features.profiles.local_model import embedded_model

    if writer.engine == "openai":  # the server knows the files; a name that vLLM serves an adapter under says which
        adapter = writer.model if _SERVED_ADAPTER.fullmatch(writer.model or "") else None
        return {"model": writer.model, "revision": content_id(writer.model or "", writer.revision), "adapter": adapter}
    return {
        "model": writer.model,
        "revision": model_hash(writer.model or str(embedded_model())),
        "adapter": adapter_name(writer.adapter) if writer.adapter else None,
    }


def run_register(
    home,
    registry,
    name: str,
    writer: WriterOptions,
    parent: str | None = None,
    verdict: dict[str, Any] | None = None,
    encoder: str = "minilm_l6_v2",
    precision: str = "fp32",
    built: dict[str, Any] | None = None,
    merged: dict[str, str] | None = None,
):
    """Register what ``writer`` says as release ``name``, with the windows and style of its parent (the champion when
    None), or with those of ``built`` (fields of ProfileBuildConfig) where it says others; returns its row.

    ``merged`` names the directories of a LoRA ``adapter`` that the model holds already and of its ``base``: the release
    carries the contents of both, and where they lie, so that a server of the base can serve the adapter.
    """
    from lettingo_features.errors import ReleaseError
    from lettingo_features.profiles.build import ProfileBuildConfig
    from lettingo_features.profiles.release import Release
    from lettingo_features.releases import FILES

    champion = _adopt(home, registry)
    if champion != name:
        parent = parent or champion
    own, inherited = Release(home, name).facts, Release(home, parent).facts if parent else {}
    if "imported" in own:
        raise ReleaseError(
            f"The texts of {name} were written elsewhere: no generator here can write them at other cutoffs. Its "
            f"services ranker_profile_{name} and profile_text_{name} answer without promotion."
        )
    config = ProfileBuildConfig(**((own or inherited).get("config") or {}) | (built or {}) | {"release": name})
    options = {key: value for key, value in asdict(_with_full_paths(writer)).items() if key not in _OF_A_RUN}
    settings = {
        "config": config.model_dump(mode="json", exclude={"chunk_size", "memory_limit", "refresh"}),
        "encoder": encoder,
        "precision": precision,
        "writing": {key: options[key] for key in _SHAPING},
    }
    identity = model_identity(WriterOptions(**options)) | {"prompt": writer.prompt, "settings": settings}
    if merged is not None:
        from lettingo_features.generation.model_files import adapter_name, model_hash

        settings["adapter"] = {"base": model_hash(merged["base"])}
        settings[FILES] = {name: str(Path(path).resolve()) for name, path in merged.items()}
        identity["adapter"] = adapter_name(merged["adapter"])
    return registry.register(name, identity, options, _who(), parent, verdict)


def _with_full_paths(writer: WriterOptions) -> WriterOptions:
    """A directory of the model or adapter as seen from any working directory."""
    paths = {key: getattr(writer, key) for key in ("model", "adapter", "tokenizer")}
    return replace(
        writer, **{key: str(Path(path).resolve()) for key, path in paths.items() if path and Path(path).is_dir()}
    )


def run_promote(
    home,
    registry,
    name: str,
    cutoffs: Sequence[datetime] | None = None,
    live: datetime | None = None,
    forced: str | None = None,
):
    """Promote ``name`` under a run record; ``cutoffs`` and ``live`` replace those of `release_steps.make_plan`."""
    from lettingo_features.errors import ReleaseError
    from lettingo_features.promotion import promote
    from lettingo_features.runs import run_record
    from pipelines.release_steps import make_plan, promotion_steps, publish_aliases

    _adopt(home, registry)
    if registry.get(name).writer is None:
        raise ReleaseError(
            f"The release {name} was built before it was registered, so nothing says how to write more of it. Say it: "
            f"lettingo release register {name} with the options it was built with."
        )
    with run_record(home, f"release promote {name}", {"cutoffs": cutoffs, "live": live, "forced": forced}) as run:
        done = promote(
            registry,
            home,
            name,
            lambda champion, why: make_plan(home, champion, why, cutoffs, live),
            promotion_steps(home, registry),
            lambda: publish_aliases(home),
            _who(),
            forced,
            replan=cutoffs is not None or live is not None,
        )
        run.record(flip=done.flip and asdict(done.flip), steps=done.steps)
    return done


def run_rollback(home, registry, why: str = "") -> dict[str, Any]:
    """Roll back under a run record; returns the flip, and how new the profiles of both releases are online."""
    from lettingo_features.promotion import roll_back
    from lettingo_features.runs import run_record
    from pipelines.release_steps import newest_online, publish_aliases

    with run_record(home, "release rollback", {"why": why}) as run:
        flip = roll_back(registry, home, lambda: publish_aliases(home), why, _who())
        newest = {name: newest_online(home, name) for name in (flip.from_release, flip.to_release)}
        facts = {"flip": asdict(flip), "newest_cutoff_online": newest}
        run.record(**facts)
    return facts


def _adopt(home, registry) -> str | None:
    """The champion's name. The first champion is the release that a new home serves: v1, once it was built."""
    from lettingo_features.champion import FIRST_CHAMPION
    from lettingo_features.profiles.local_model import EMBEDDED_NAME
    from lettingo_features.profiles.release import Release

    champion = registry.champion()
    if champion is not None:
        return champion.name
    facts = Release(home, FIRST_CHAMPION).facts
    if not facts:
        return None
    registry.adopt(FIRST_CHAMPION, facts.get("warm"), _who())
    if (facts.get("warm_name"), facts["encoder"]) == (EMBEDDED_NAME, "minilm_l6_v2"):  # as the quick start builds it
        run_register(home, registry, FIRST_CHAMPION, WriterOptions())
    return FIRST_CHAMPION


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"


@click.group()
def release() -> None:
    """Versions of the generator: one is champion, the former ones answer beside it."""


def _database_option(command):
    return click.option("--database", help="Registry's URL; LETTINGO_ALIGNMENT, else alignment.db in the home.")(
        command
    )


@release.command("list")
@_database_option
@home_option
@json_option
def list_(database, home_dir, as_json) -> None:
    """Print releases, who promotes now, and who was champion when."""
    from lettingo_features.champion import read_served
    from lettingo_features.release_lock import current_promoter

    home = open_home(home_dir)
    with open_registry(home, database) as registry:
        rows, flips, (decided, _) = registry.all(), registry.history(), registry.served()
        promoter = current_promoter(registry.database)
    known = {row.name for row in rows}
    built = sorted(path.stem for path in (home.root / "releases").glob("*.json"))
    facts = {
        "champion": decided.champion,
        "alias_services": read_served(home.root).champion,
        "promoter": promoter,
        "releases": [asdict(row) | {"plan": row.plan and row.plan.model_dump(mode="json")} for row in rows],
        "unregistered": [name for name in built if name not in known],
        "history": [asdict(flip) for flip in flips],
    }
    show(as_json, facts, _list_text(facts, rows, flips))


def _list_text(facts: dict[str, Any], rows, flips) -> str:
    lines = [f"{'release':<12} {'state':<10} {'gate':<8} {'revision':<12} {'adapter':<24} model"]
    for row in rows:
        line = f"{row.name:<12} {row.state:<10} {row.decision or '-':<8} {(row.revision or '-')[:12]:<12} "
        lines.append(f"{line}{row.adapter or '-':<24} {row.model or '-'}")
    for name in facts["unregistered"]:
        state = "champion" if not rows and name == facts["champion"] else "built"
        lines.append(f"{name:<12} {state:<10} not registered")
    if facts["promoter"]:
        lines.append(f"being promoted: {facts['promoter']}")
    if facts["alias_services"] != facts["champion"] or any(flip.published_at is None for flip in flips):
        lines.append(
            f"the alias services may not answer as {facts['champion']} yet: 'lettingo release promote "
            f"{facts['champion']}' makes them"
        )
    lines += [
        f"{flip.flipped_at:%Y-%m-%d %H:%M:%S}  {flip.kind:<8} {flip.from_release or '-'} -> {flip.to_release}  "
        f"by {flip.who}{f'  ({flip.why})' if flip.why else ''}"
        for flip in flips
    ]
    return "\n".join(lines)


@release.command()
@click.argument("name")
@click.option("--gate", type=click.Path(), help="The gate's verdict, a JSON file.")
@click.option("--parent", help="Release whose generator it comes from; the champion when left out.")
@click.option("--encoder", default="minilm_l6_v2", show_default=True, help="Shipped one, or a directory or id.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@writer_options
@_database_option
@home_option
@json_option
def register(name, gate, parent, encoder, precision, writer, database, home_dir, as_json) -> None:
    """Add a generator as a candidate, or its verdict later; windows and style are its parent's."""
    home = open_home(home_dir)
    verdict = None if gate is None else _verdict(Path(gate))
    with open_registry(home, database) as registry:
        known = {row.name: row for row in registry.all()}.get(name)
        if known is not None and known.writer is not None and writer == WriterOptions():
            writer = WriterOptions(**known.writer)  # only the verdict is new
            encoder, precision = known.settings["encoder"], known.settings["precision"]
        row = run_register(home, registry, name, writer, parent, verdict, encoder, precision)
    said = "no verdict yet" if row.decision is None else f"gate: {row.decision}"
    text = f"release {row.name}: {row.state}, revision {(row.revision or '')[:12]}, {said}"
    show(as_json, asdict(row) | {"plan": row.plan and row.plan.model_dump(mode="json")}, text)


def _verdict(path: Path) -> dict[str, Any]:
    from lettingo_features.errors import ReleaseError

    try:
        verdict = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"The verdict {path} cannot be read ({error}): give the JSON that the gate wrote."
        ) from error
    if not isinstance(verdict, dict):
        raise ReleaseError(f"The verdict {path} is no JSON object: give the file that the gate wrote.")
    return verdict


@release.command("promote")
@click.argument("name")
@click.option("--start", type=Instant(), help="First cutoff of the backfill; the champion's cutoffs when left out.")
@click.option("--end", type=Instant(), help="Last instant of the backfill, inclusive.")
@click.option("--every", help="Interval of the backfill, such as 30d.")
@click.option("--as-of", type=Instant(), help="Cutoff of the live snapshot; just after the newest interaction.")
@click.option("--force", metavar="REASON", help="Promote without the gate's consent; the reason is kept.")
@_database_option
@home_option
@json_option
def promote_(name, start, end, every, as_of, force, database, home_dir, as_json) -> None:
    """Backfill, embed, declare, materialise and check NAME, then make it champion; again: go on where it stopped."""
    home = open_home(home_dir)
    cutoffs = cutoffs_from(None, start, end, every) if (start, end, every) != (None, None, None) else None
    with open_registry(home, database) as registry:
        done = run_promote(home, registry, name, cutoffs, as_of, force)
    facts = {"flip": done.flip and asdict(done.flip), "steps": done.steps}
    if done.flip is None:
        show(as_json, facts, f"release {name} is the champion; its alias services were published again")
        return
    lines = [f"{step:<10} {json.dumps(told, default=str)}" for step, told in done.steps.items()]
    lines.append(
        f"champion: {done.flip.from_release or 'none'} -> {name} ({done.flip.why}). Feature servers follow when they "
        "read the registry again (--registry_ttl_sec, 60 s by default)"
    )
    show(as_json, facts, "\n".join(lines))


@release.command()
@click.option("--why", default="", help="Reason, kept in the history.")
@_database_option
@home_option
@json_option
def rollback(why, database, home_dir, as_json) -> None:
    """Make the former champion champion again; nothing is generated."""
    home = open_home(home_dir)
    with open_registry(home, database) as registry:
        facts = run_rollback(home, registry, why)
    flip, newest = facts["flip"], facts["newest_cutoff_online"]
    show(as_json, facts, f"champion: {flip['from_release']} -> {flip['to_release']}\n{_age(flip, newest)}")


def _age(flip: dict[str, Any], newest: dict[str, datetime | None]) -> str:
    old, new = newest[flip["from_release"]], newest[flip["to_release"]]
    name = flip["to_release"]
    refresh = f"'lettingo profiles generate --release {name} --as-of T', then 'feast materialize-incremental'"
    if new is None:
        return f"WARNING: no profile of {name} is online. Refresh: {refresh}"
    if old is not None and new < old:
        days = (old - new).total_seconds() / 86_400
        return f"WARNING: its profiles online end at {new}, {days:.1f} days before the former's. Refresh: {refresh}"
    return f"its profiles online are as fresh as the former's: newest cutoff {new}"


@release.command()
@click.argument("name")
@_database_option
@home_option
@json_option
def abandon(name, database, home_dir, as_json) -> None:
    """Undo an interrupted promotion of NAME, or give it up; what it wrote offline stays."""
    from lettingo_features.promotion import abandon as give_up
    from lettingo_features.releases import ABANDONED
    from pipelines.release_steps import apply_repository

    home = open_home(home_dir)
    with open_registry(home, database) as registry:
        state = give_up(registry, home, name, lambda: apply_repository(home), _who())
    left = "its rows in offline/ stay, as tables are append-only"
    gone = "its services and online rows are gone" if state == ABANDONED else "its services stay, as it was champion"
    show(as_json, {"release": name, "state": state}, f"release {name}: {state}; {gone}; {left}")
