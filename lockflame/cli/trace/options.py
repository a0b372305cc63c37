"""The options that say which processes a trace is of, and how long it takes: the same for all of its commands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sampler.trace.filters import Filters, checked

_F = TypeVar("_F", bound=Callable[..., Any])


def filter_options(function: _F) -> _F:
    """Adds `pids`, `comm`, `cgroup` and `duration` to a command's parameters."""
    options = (
        click.option(
            "-p",
            "--pid",
            "pids",
            type=click.IntRange(min=1, max=2**31 - 1),
            multiple=True,
            help="Only this process, with all its threads, and the children that it has and will have. Repeatable.",
        ),
        click.option("--comm", metavar="NAME", help="Only threads of this name (its first 15 bytes), as ps shows it."),
        click.option("--cgroup", metavar="PATH", help="Only processes in this cgroup (version 2) and those below it."),
        click.option(
            "-d",
            "--duration",
            type=click.FloatRange(min=0, min_open=True, max=10**7),
            metavar="SECONDS",
            help="How long to trace. [default: until Ctrl-C, or the end of all processes of -p]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def chosen_filters(
    pids: tuple[int, ...], comm: str | None, cgroup: str | None, duration: float | None, what: str
) -> Filters:
    """What the user asked for. Raises `LockflameError`, in which `what` is said to fail; for wrong usage, click's."""
    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("-d/--duration is not a number of seconds", click.get_current_context())
    for name, value in (("--comm", comm), ("--cgroup", cgroup)):
        if value is not None and (not value or "\0" in value):
            raise click.UsageError(f"{name} is empty", click.get_current_context())
    return checked(pids, comm, cgroup, what)
