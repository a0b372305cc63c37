"""The command line. Commands are imported when they are called: `--help` needs none of their parts."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import click

from lockflame import __version__
from lockflame.cli.lazy_group import LazyGroup
from lockflame.cli.terminal import open_missing_streams, printable, say
from lockflame.errors import LockflameError, reason_of

COMMANDS = {
    "record": "Profile a running process, or a command from its start.",
    "flame": "Draw a flame graph of a profile.",
    "locks": "Show the locks of a profile: who waits, who holds, and the CPU time that they take.",
    "diff": "Show what changed from one recording to another, by lock and by function.",
    "merge": "Make one profile of many.",
    "view": "Look at a profile in the terminal.",
    "trace": "Follow every lock, signal or system call, exactly.",
    "doctor": "Tell what this kernel and user allow, and mend what is missing.",
}


@click.group(
    cls=LazyGroup, package=__name__, commands_help=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="lockflame", message="%(prog)s %(version)s")
def cli() -> None:
    """Find out why a multi-threaded server is slow, without hurting it.

    \b
    Example:
      lockflame record -p $(pidof mariadbd) -d 10 -o before.pb.gz -o before.svg
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0 done, 1 failed with one line of reason, 2 wrong usage."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status. The one place where errors become lines."""
    open_missing_streams()
    _make_signals_exceptions()
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
        return _fail(130, "interrupted. A file is written whole or not at all.")
    except _EndedBySignalError as ending:
        # Cleaned up by now; whoever started us shall see what ended us.
        signal.signal(ending.number, signal.SIG_DFL)
        signal.raise_signal(ending.number)
        return 128 + ending.number
    except OSError as error:
        # Files that we write have errors of their own; this is the standard output, or unforeseen.
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(1, f"cannot go on. {where}{reason_of(error)}. See that the standard output can be written to.")


def _make_signals_exceptions() -> None:
    """Lets SIGTERM and SIGHUP unwind as Ctrl-C does, so that nothing half-done stays behind."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where it is ignored, no status of a command that we start can be had (wait(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end_by_signal)


class _EndedBySignalError(BaseException):
    """A signal asked us to end; no part of the program catches it but to clean up."""

    def __init__(self, number: int) -> None:
        self.number = number


def _end_by_signal(number: int, _: object) -> NoReturn:
    raise _EndedBySignalError(number)


def _drop_output() -> None:
    """Sends what is still buffered nowhere; it would fail again at exit."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)


def _usage_hint(error: click.UsageError) -> str:
    return f"See: {error.ctx.command_path} --help" if error.ctx else ""


def _fail(status: int, message: str) -> int:
    say(f"lockflame: error: {printable(' '.join(message.split()))}")
    return status
