"""`lockflame trace`: exact tracing, event by event."""

from __future__ import annotations

import click

from lockflame.cli.lazy_group import LazyGroup

COMMANDS = {
    "locks": "How long each lock is waited for and held, by pthread calls.",
    "signals": "Who sends which signal to whom.",
    "syscalls": "Sizes, results and times of system calls, as histograms.",
}


@click.group("trace", cls=LazyGroup, package=__name__, commands_help=COMMANDS)
def trace_command() -> None:
    """Follow every event of a kind, exactly, at a cost that is said first.

    \b
    Examples:
      lockflame trace locks -p $(pidof mariadbd) -d 5
      lockflame trace signals
      lockflame trace syscalls recvfrom --hist latency --by ret --comm mariadbd
    """
