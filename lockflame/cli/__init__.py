"""The command line. Commands are imported when they are called: `--help` needs none of their parts."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from lockflame import __version__
from lockflame.errors import LockflameError

COMMANDS = {
    "record": "Profile a running process, or a command from its start.",
    "flame": "Draw a flame graph of a profile.",
    "doctor": "Tell what this kernel and user allow, and mend what is missing.",
}


class LazyGroup(click.Group):
    """Loads `lockflame.cli.NAME` for the command NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"lockflame.cli.{cmd_name}"), f"{cmd_name}_command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lockflame", message="%(prog)s %(version)s")
def cli() -> None:
    """Find the lock path that holds a multi-threaded server up, without hurting it.

    \b
    Example:
      lockflame record -p $(pidof mariadbd) -d 10 -o before.pb.gz -o before.svg
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0 done, 1 failed with one line of reason, 2 wrong usage."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status. The one place where errors become lines."""
    try:
        result: Any = cli.main(arguments, prog_name="lockflame", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2
    except click.UsageError as error:
        return _fail(2, f"{error.format_message().rstrip('.')}. {_usage_hint(error)}")
    except LockflameError as error:
        return _fail(1, str(error))
    except (click.Abort, KeyboardInterrupt):
        return _fail(130, "interrupted. Nothing was written.")
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is wrong, and nothing may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _usage_hint(error: click.UsageError) -> str:
    return f"See: {error.ctx.command_path} --help" if error.ctx else ""


def _fail(status: int, message: str) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"lockflame: error: {line}\n".encode("utf-8", "backslashreplace").decode())
    return status
