"""`lockflame trace locks`: how long each lock of a process is waited for and held, exactly."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from typing import IO, TYPE_CHECKING

import click

from lockflame.cli.output import Output, OutputType, check_writable
from lockflame.cli.target import running_target
from lockflame.cli.terminal import say
from lockflame.errors import LockflameError
from sampler.attach import online_cpus
from sampler.recorder import RawRecording, Recorder
from sampler.signals import StopSignals
from sampler.trace.lock_probes import WHAT, LockFilter, LockPrograms, LockTracer, RawLockTrace

if TYPE_CHECKING:
    from lockflame.cli.trace.lock_places import LockChoice
    from lockflame.cli.trace.lock_profile import LockTrace
    from lockflame.cli.trace.lock_report import Shown
    from sampler.trace.lock_cost import CpuTimes

STACK_BYTES = 32768
FREQUENCY_HZ = 99
"""Of no meaning but for the size of the buffers: programs have stacks taken, at a rate of their own."""
EVENTS_MOST = 1_000_000
FIRST_LOOK_S = 1.0
PIPE_WIDTH = 80
DURATION_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)")


class DurationType(click.ParamType[int]):
    """A time such as `50us`, in nanoseconds."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The nanoseconds; a usage error for anything else."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail("give a number with its unit, such as 50us, 1.5ms or 1s", param, ctx)
        return round(float(match[1]) * DURATION_UNITS_NS[match[2].replace("µ", "u")])


@click.command("locks")
@click.option(
    "-p",
    "--pid",
    required=True,
    type=click.IntRange(min=1, max=2**31 - 1),
    help="The process to trace, without its children.",
)
@click.option(
    "-d",
    "--duration",
    type=click.FloatRange(min=0, min_open=True, max=10**7),
    metavar="SECONDS",
    help="How long to trace. [default: until Ctrl-C, or the process's end]",
)
@click.option("--wait", "only_waits", is_flag=True, help="Show waits alone.")
@click.option("--held", "only_holds", is_flag=True, help="Show holds alone.")
@click.option(
    "--lock",
    "lock",
    metavar="ADDRESS|NAME",
    help="One lock alone: by its address, or by a variable's name, others cost less; by part of a name as it is shown, "
    "all locks are traced.",
)
@click.option("--min-wait", type=DurationType(), default=0, help="Count only waits of at least so long, such as 50us.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="So many locks.")
@click.option(
    "--stack-depth", type=click.IntRange(min=1), default=6, show_default=True, help="So many functions of each stack."
)
@click.option("--full-names", is_flag=True, help="Whole function names.")
@click.option(
    "--max-events-per-second",
    type=click.IntRange(min=0),
    default=EVENTS_MOST,
    show_default=True,
    help="End by itself where there are more calls and returns than that; 0: never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, with all paths.")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OutputType(),
    multiple=True,
    help="Save it as well, to be read by flame, locks and diff (.pb.gz), or in another format. Repeatable.",
)
def locks_command(
    pid: int,
    duration: float | None,
    only_waits: bool,
    only_holds: bool,
    lock: str | None,
    min_wait: int,
    top: int,
    stack_depth: int,
    full_names: bool,
    max_events_per_second: int,
    as_json: bool,
    outputs: tuple[Output, ...],
) -> None:
    """Trace how long each lock of a process is waited for and held: every pthread mutex, rwlock and spin lock.

    By breakpoints (uprobes) in the functions of its libc, or in its own where it is linked statically. Counts and times
    are exact, by lock and by stack; waits have about a microsecond of the probes' own in them. Each call is made
    slower, by how much is measured and said first: where locks are taken very often, sample with `record --locks`.

    A wait is a call that takes a lock, free or not; trylock waits for nothing, and counts as a hold alone. A hold ends
    too where a condition variable gives the mutex up, and another one begins when it has it again.

    \b
    Examples:
      lockflame trace locks -p $(pidof mariadbd) -d 5
      lockflame trace locks -p $(pidof mariadbd) -d 5 --held --top 3
      lockflame trace locks -p 4711 --lock LOCK_open --min-wait 100us -o waits.pb.gz
    """
    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("-d/--duration is not a number of seconds", click.get_current_context())
    if only_waits and only_holds:
        raise click.UsageError("--wait and --held exclude each other", click.get_current_context())
    for output in outputs:
        check_writable(output.path)
    target = running_target(pid, WHAT)
    with StopSignals() as stop:
        session = _Session(pid, target.name, max_events_per_second)
        raw, choice = session.run(duration, stop, lock, min_wait)
    # Only now: numpy and all that computes would take memory and time from the trace.
    from lockflame.cli.output import write_profiles
    from lockflame.cli.trace.lock_notes import loss_notes
    from lockflame.cli.trace.lock_profile import lock_trace
    from lockflame.cli.trace.lock_report import Shown

    assert isinstance(raw.locks, RawLockTrace)
    try:
        trace = lock_trace(raw, raw.locks, pid, target.command_line)
    finally:
        raw.close()
    write_profiles(trace.profile, outputs)
    _show(
        trace, Shown(top, stack_depth, full_names, waits=not only_holds, holds=not only_waits), choice, as_json=as_json
    )
    for note in (*session.notes, *loss_notes(raw.locks, trace.profile.recording.lost), *raw.notes):
        say(f"lockflame: note: {note.rstrip('.')}")
    for output in outputs:
        say(f"lockflame: wrote {output.path}")


class _Session:
    """A trace while it is taken."""

    def __init__(self, pid: int, name: str, events_most: int) -> None:
        self._pid = pid
        self._name = name
        self._events_most = events_most
        self._programs: LockPrograms | None = None
        self._before: CpuTimes | None = None
        self._pair_ns: float | None = None
        self._looked_s = 0.0
        self._events = 0
        self.notes: list[str] = []

    def run(
        self, duration_s: float | None, stop: StopSignals, lock: str | None, least_wait_ns: int
    ) -> tuple[RawRecording, LockChoice]:
        """Traces until it is over; returns what was recorded, and which lock it is of."""
        from lockflame.cli.trace.lock_notes import start_line
        from lockflame.cli.trace.lock_places import lock_choice, mappings_of, probes_of
        from sampler.trace.lock_cost import CpuTimes, own_cost
        from symbolize.lock_functions import lock_functions

        mappings = mappings_of(self._pid)
        functions = lock_functions(self._pid, mappings)
        choice = lock_choice(lock, mappings)
        self.notes += functions.notes
        if choice.name:
            self.notes.append(
                f"no variable is called {choice.name}: all locks were traced, and those shown have it in their name"
            )
        self._programs = programs = LockPrograms(max(online_cpus()) + 1)
        try:
            probes = probes_of(functions)
            cost = own_cost(programs, probes)
            self._pair_ns = cost.pair_ns
            chosen = LockFilter(choice.address, least_wait_ns, functions.type_offset, cost.hold_floor_ns)
            recorder = Recorder(
                self._pid,
                FREQUENCY_HZ,
                STACK_BYTES,
                make_probes=lambda pid, events, rings: LockTracer(pid, programs, probes, chosen, events, rings),
            )
            try:
                stop.act_on_early()
                say(start_line(self._name, functions, cost.pair_ns))
                self._before = CpuTimes.now(self._pid)
                recorder.start()
                recorder.run(duration_s, stop, lambda _: True, self._look)
                return recorder.finish(), choice
            finally:
                recorder.close()
        finally:
            programs.close()

    def _look(self, elapsed_s: float, _: IO[bytes]) -> bool:
        """Says after a second what the trace costs; True where it costs too much."""
        from lockflame.cli.trace.lock_notes import first_second
        from sampler.trace.lock_cost import CpuTimes, target_cost

        assert self._programs is not None
        assert self._before is not None
        if elapsed_s < self._looked_s + FIRST_LOOK_S:
            return False
        events = self._programs.count("events")
        rate = (events - self._events) / (elapsed_s - self._looked_s)
        if not self._looked_s:
            say(first_second(rate, target_cost(events, self._pair_ns, self._before, CpuTimes.now(self._pid))))
        self._programs.forget_ended_threads(self._pid)
        self._events, self._looked_s = events, elapsed_s
        if not self._events_most or rate <= self._events_most:
            return False
        self.notes.append(
            f"ended after {elapsed_s:.1f} s: {rate:,.0f} calls and returns a second are more than "
            f"--max-events-per-second {self._events_most:,}. One lock alone (--lock) may be fewer"
        )
        return True


def _show(trace: LockTrace, shown: Shown, choice: LockChoice, *, as_json: bool) -> None:
    from lockflame.cli.trace.lock_report import detail_lines, lock_object, order, table_lines

    locks = trace.profile.locks
    rows = [row for row in order(locks, shown) if choice.name.lower() in locks[row].name.lower()]
    if choice.name and not rows:
        raise LockflameError(
            f"no lock is called {choice.name}", f"{len(locks):,} others were traced", "leave --lock out to see them"
        )
    if as_json:
        click.echo(json.dumps([lock_object(trace, row, shown) for row in rows], indent=2))
        return
    if not rows:
        say("lockflame: no lock was taken or given back meanwhile")
        return
    width = shutil.get_terminal_size((PIPE_WIDTH, 0)).columns if sys.stdout.isatty() else PIPE_WIDTH
    for line in table_lines(locks, rows[: shown.top], shown):
        click.echo(line)
    if len(rows) > shown.top:
        click.echo(f"and {len(rows) - shown.top:,} more locks")
    for row in rows[: shown.top]:
        for line in detail_lines(trace, row, shown, width):
            click.echo(line)
