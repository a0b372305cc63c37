"""`lockflame trace signals`: a line for each signal, as it is sent."""

from __future__ import annotations

from contextlib import closing

import click

from lockflame.cli.terminal import say
from lockflame.cli.trace.options import chosen_filters, filter_options
from lockflame.cli.trace.signal_names import close_names, signal_number
from lockflame.cli.trace.signal_session import SignalSession
from sampler import procfs
from sampler.signals import StopSignals
from sampler.trace.call_cost import call_ns
from sampler.trace.signal_layout import SIDE_SENDER, SIDE_TARGET
from sampler.trace.signals import WHAT, SignalChoice, SignalTrace

SIDES = {"sender": SIDE_SENDER, "target": SIDE_TARGET}
SIGCHLD = 17
TELLING_NS = 5
"""Less than this is noise; so it is where others trace system calls already."""


class SignalType(click.ParamType[int]):
    """A signal by its name or its number."""

    name = "signal"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Its number; fails with names that look like it."""
        if isinstance(value, int):
            return value
        number = signal_number(str(value))
        if number is None:
            close = close_names(str(value))
            hint = f": did you mean {' or '.join(close)}?" if close else ": kill -l lists them; 0 only asks"
            self.fail(f"no signal is called {value!r}{hint}", param, ctx)
        return number


@click.command("signals")
@filter_options
@click.option(
    "--as",
    "side",
    type=click.Choice([*SIDES]),
    help="Whether -p and --comm are of those who send or of those who are sent to. [default: either]",
)
@click.option(
    "--signal",
    "numbers",
    type=SignalType(),
    multiple=True,
    metavar="NAME|NUMBER",
    help="Only this signal: TERM, SIGTERM, 15, RTMIN+3; 0 asks whether a process exists. Repeatable.",
)
@click.option("--failed", is_flag=True, help="Only those that failed, such as with EPERM or ESRCH.")
@click.option(
    "--all",
    "with_children",
    is_flag=True,
    help="SIGCHLD of the kernel's too, which comes with each end of a process. [default: only with --signal CHLD]",
)
@click.option("--stack", "with_stacks", is_flag=True, help="The sender's stack with each signal.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on each line.")
def signals_command(
    pids: tuple[int, ...],
    comm: str | None,
    cgroup: str | None,
    duration: float | None,
    side: str | None,
    numbers: tuple[int, ...],
    failed: bool,
    with_children: bool,
    with_stacks: bool,
    as_json: bool,
) -> None:
    """Show who sends which signal to whom, and what becomes of it.

    Signals that the kernel sends have the sender "kernel", and their cause where it is known. Signal 0 only asks
    whether a process exists. With -p and --comm, signals from such a process and signals to it are shown, unless --as
    chooses; --cgroup is of who sends. Ctrl-C ends it.

    \b
    Examples:
      lockflame trace signals
      lockflame trace signals -p $(pidof mariadbd) --as target --stack
      lockflame trace signals --failed --json
    """
    filters = chosen_filters(pids, comm, cgroup, duration, WHAT)
    if side and not (filters.pids or filters.comm is not None):
        raise click.UsageError("--as goes with -p or --comm", click.get_current_context())
    choice = SignalChoice(
        filters=filters,
        sides=SIDES[side] if side else SIDE_SENDER | SIDE_TARGET,
        numbers=frozenset(numbers),
        only_failed=failed,
        with_children=with_children or SIGCHLD in numbers,
        with_stacks=with_stacks,
    )
    before_ns = call_ns()
    with StopSignals() as stop, closing(SignalTrace(choice)) as trace:
        stop.act_on_early()  # while the programs were compiled: there is nothing yet to be shown
        with closing(SignalSession(choice, trace, stop, as_json=as_json)) as session:
            _say_start(choice, trace, call_ns() - before_ns)
            session.run(duration)


def _say_start(choice: SignalChoice, trace: SignalTrace, cost_ns: float) -> None:
    whom = choice.filters.described()
    if choice.sides == SIDE_TARGET:
        whom = f"to {whom}"
    elif choice.sides == SIDE_SENDER:
        whom = f"from {whom}"
    elif choice.filters.are_any:
        whom = f"from and to {whom}"
    else:
        whom = f"of {whom}"
    cost = f"{cost_ns:.0f} ns more" if cost_ns >= TELLING_NS else "no time to speak of more"
    say(
        f"lockflame: tracing signals {whom} by {len(trace.attached)} tracepoints (signal_generate, kill and its like); "
        f"each system call of this machine takes {cost} meanwhile, as measured now. Ctrl-C ends it"
    )
    if procfs.is_in_pid_namespace():
        say(
            "lockflame: note: within a pid namespace, processes outside of it have the machine's numbers, and so have "
            "those that the kernel sends signals to"
        )
