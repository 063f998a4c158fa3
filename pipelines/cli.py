"""``lettingo``: one command line over the steps of this folder; each step's module is imported when it is asked for."""

from __future__ import annotations

import errno
import importlib
import os
import sys

import click

COMMANDS = {  # name -> module of this folder and its command, in run order
    "demo": "demo:demo",
    "world": "world:world",
    "ingest": "ingest:ingest",
    "behaviour": "behaviour:behaviour",
    "items": "items:items",
    "profiles": "profiles:profiles",
    "align": "align:align",
    "release": "release:release",
    "training-set": "training_set:training_set",
    "uplift": "uplift:uplift",
    "audit": "audit:audit",
    "doctor": "doctor:doctor",
}


class Steps(click.Group):
    """A group whose commands live in the modules of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        return getattr(importlib.import_module(f"pipelines.{module}"), attribute)


@click.group(cls=Steps)
@click.version_option(package_name="lettingo_features")
def lettingo() -> None:
    """LLM-written text about users and items as point-in-time correct Feast features."""


def main() -> None:
    """Run the command line; an error of ours is one paragraph on standard error and exit status 2."""
    from lettingo_features.errors import LettingoError

    for switch in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(switch, "1")
    try:
        lettingo.main(standalone_mode=False)
    except LettingoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except ValueError as error:
        from pydantic import ValidationError  # a ValueError; imported here because --help must stay cheap

        if not isinstance(error, ValidationError):
            raise
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        click.echo(f"Error: a setting of {error.title} is out of range: {wrong}. See --help.", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Stopped. Run the same command again to go on from here.", err=True)
        sys.exit(130)
    except Exception as error:
        if not _is_full_disk(error):
            raise
        cause = " ".join(str(error).split())[:300]
        click.echo(
            f"Error: A disk is full: {cause}. Free space there, then run the same command again: what was written is "
            "whole, and it goes on from there.",
            err=True,
        )
        sys.exit(2)


def _is_full_disk(error: Exception) -> bool:
    """Of Python and Arrow by number; DuckDB's errors, when it cannot spill, only quote the system."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return os.strerror(errno.ENOSPC) in str(error)


if __name__ == "__main__":
    main()
