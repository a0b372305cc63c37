"""`lockflame trace syscalls`: sizes, results and times of system calls, counted in the kernel."""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from flame.histograms.text import PIPE_WIDTH, histogram_lines
from lockflame.cli.output import Output, OutputType, check_writable, write_file
from lockflame.cli.terminal import say
from lockflame.cli.trace.options import chosen_filters, filter_options
from lockflame.cli.trace.syscall_keys import KeyNames, descriptors_in
from lockflame.cli.trace.syscall_notes import counted_notes, start_line
from lockflame.cli.trace.syscall_question import Asked, asked
from lockflame.cli.trace.syscall_results import Group, grouped, histograms, limited
from lockflame.cli.trace.syscall_table import row_object, table_lines, table_rows
from sampler.bpf.refusals import open_tracefs, refusal
from sampler.bpf.tracefs import TraceFs
from sampler.signals import StopSignals
from sampler.trace import syscall_layout as layout
from sampler.trace.descriptors import DescriptorNames
from sampler.trace.filters import Filters, all_have_ended
from sampler.trace.syscall_cost import measure_syscall_cost
from sampler.trace.syscall_layout import By
from sampler.trace.syscalls import WHAT, SyscallTrace

if TYPE_CHECKING:
    from flame.histograms.histogram import Histogram
    from lockflame.cli.trace.call_stacks import CallStacks

STDOUT = 1
TICK_S = 0.2
"""How often the end of -d and of the processes of -p is looked for, and stacks are taken over."""
LOOK_S = 1.0
"""How often descriptors are looked at that are new."""
KEYS = ("ret", "comm", "pid", "tid", "ustack", "fd", "error")


@dataclass(frozen=True, slots=True)
class Results:
    """What a trace found, in so many seconds; `notes` are what its reader has to know."""

    groups: list[Group]
    names: KeyNames
    seconds: float
    notes: list[str]


@click.command("syscalls")
@click.argument("calls", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--hist",
    "hists",
    multiple=True,
    metavar="ARGUMENT|ret|latency",
    help="A histogram of an argument by its name, of the result, or of the time that calls take. Repeatable.",
)
@click.option(
    "--linear",
    metavar="MIN:MAX:STEP",
    help="Buckets of one width, such as 0:4K:256 or 0:1ms:100us. [default: powers of two]",
)
@click.option(
    "--by",
    type=click.Choice(KEYS),
    help="One for each result, thread's name, process, thread, user stack (needs -p), file descriptor or error.",
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="With --by, so many each.")
@filter_options
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.option(
    "-o", "--output", "output", type=OutputType((".svg",)), help="Draw the histograms into this .svg file as well."
)
def syscalls_command(
    calls: tuple[str, ...],
    hists: tuple[str, ...],
    linear: str | None,
    by: str | None,
    top: int,
    pids: tuple[int, ...],
    comm: str | None,
    cgroup: str | None,
    duration: float | None,
    as_json: bool,
    output: Output | None,
) -> None:
    """Count system calls: how many, how many failed and why, and how long they took; or histograms of them.

    Every call is counted, in the kernel. Calls count when they end; those of --hist ARGUMENT alone when they begin.
    A call that fails has no result: errors have rows of their own. Ctrl-C ends it and shows what there is.

    \b
    Examples:
      lockflame trace syscalls recvfrom sendto -d 5 --comm mariadbd
      lockflame trace syscalls recvfrom --hist size --hist ret -p $(pidof mariadbd)
      lockflame trace syscalls recvfrom --hist latency --by ret
      lockflame trace syscalls fsync --hist latency --by ustack -p $(pidof mariadbd)
    """
    if not hists and (linear is not None or output is not None):
        option = "--linear" if linear is not None else "-o/--output"
        raise click.UsageError(f"{option} goes with --hist", click.get_current_context())
    if by == "ustack" and not pids:
        raise click.UsageError(
            "--by ustack needs -p: stacks are told apart by where a program's code lies", click.get_current_context()
        )
    filters = chosen_filters(pids, comm, cgroup, duration, WHAT)
    if output is not None:
        check_writable(output.path)
    with open_tracefs(WHAT) as tracefs:
        try:
            question = asked(tracefs, calls, hists, by, linear)
            results = _traced(tracefs, question, filters, duration)
        except OSError as error:
            raise refusal(error, WHAT) from error
    _show(question, results, top, as_json=as_json, output=output, title=f"System calls of {filters.described()}")


def _traced(tracefs: TraceFs, question: Asked, filters: Filters, duration_s: float | None) -> Results:
    with ExitStack() as stack:
        # A signal may end us here: there is nothing yet to be shown.
        cost = measure_syscall_cost(tracefs)
        trace = SyscallTrace(question.question, filters, tracefs)
        stack.callback(trace.close)
        stacks = _call_stacks(trace) if question.question.by is By.USTACK else None
        if stacks is not None:
            stack.callback(stacks.close)
        stop = stack.enter_context(StopSignals())
        say(start_line(question.question, filters, cost))
        return _Session(question, trace, filters, stacks, stop).run(duration_s)


def _call_stacks(trace: SyscallTrace) -> CallStacks:
    # Late: names need numpy and more.
    from lockflame.cli.trace.call_stacks import CallStacks

    def path_of(raw: bytes) -> tuple[int, int]:
        pid, path = layout.STACK_SAMPLE.unpack_from(raw)
        return pid, path

    return CallStacks(trace.maps["samples"], path_of)


class _Session:
    """A trace that runs, until something ends it."""

    def __init__(
        self, question: Asked, trace: SyscallTrace, filters: Filters, stacks: CallStacks | None, stop: StopSignals
    ) -> None:
        self._question = question
        self._trace = trace
        self._filters = filters
        self._stacks = stacks
        self._stop = stop
        self._descriptors = DescriptorNames()

    def run(self, duration_s: float | None) -> Results:
        """Counts until a stop signal, the end of the time or of all processes of -p."""
        if self._stacks is not None:
            self._stacks.start()
        started_s = time.monotonic()
        self._trace.start()
        self._wait(started_s, duration_s)
        self._trace.stop()
        seconds = time.monotonic() - started_s
        self._trace.detach()
        self._stop.release()
        return self._results(seconds)

    def _wait(self, started_s: float, duration_s: float | None) -> None:
        poll = select.poll()
        poll.register(self._stop.descriptor, select.POLLIN)
        looked_s = started_s
        while not self._stop.take():
            now_s = time.monotonic()
            left_s = (duration_s or float("inf")) - (now_s - started_s)
            if left_s <= 0 or all_have_ended(self._filters, self._trace.maps):
                return
            if self._stacks is not None:
                self._trace.refresh_code_ranges()
                self._stacks.read()
            if self._question.question.by is By.FD and now_s - looked_s >= LOOK_S:
                self._look_at_descriptors()
                looked_s = now_s
            poll.poll(min(left_s, TICK_S) * 1000)

    def _look_at_descriptors(self) -> None:
        self._descriptors.look(descriptors_in({cell.by for cell in self._trace.cells()}))

    def _results(self, seconds: float) -> Results:
        by = self._question.question.by
        if by is By.FD:
            self._look_at_descriptors()
        stacks: dict[tuple[int, int], tuple[str, ...]] = {}
        lost_stacks = 0
        if self._stacks is not None:
            self._stacks.read()
            stacks, lost_stacks = self._stacks.named(), self._stacks.lost
        names = KeyNames(by, self._descriptors, stacks)
        groups = grouped(self._trace.cells(), names)
        counted = sum(group.calls for group in groups)
        return Results(groups, names, seconds, counted_notes(self._trace, self._filters, counted, lost_stacks))


def _show(asked: Asked, results: Results, top: int, *, as_json: bool, output: Output | None, title: str) -> None:
    groups, left_out, left_calls = limited(results.groups, top)
    if output is not None:
        _draw(histograms(asked, groups, results.names), results, title, output.path)
    for note in results.notes:
        say(f"lockflame: note: {note}")
    shown = groups if not as_json else results.groups
    text = _json(asked, results) if as_json else "".join(f"{line}\n" for line in _lines(asked, results, shown))
    if left_out and not as_json:
        text += f"\n{left_out:,} more, with {left_calls:,} calls, are not shown: --top shows more\n"
    _write(text)


def _write(text: str) -> None:
    """Writes to the standard output. That nobody reads it is no error: `| head` does it. Raises other `OSError`."""
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    with suppress(BrokenPipeError):
        while data:
            data = data[os.write(STDOUT, data) :]


def _lines(asked: Asked, results: Results, groups: list[Group]) -> Iterator[str]:
    if not asked.names:
        yield from table_lines(table_rows(asked, groups, results.names), results.seconds)
        return
    width = shutil.get_terminal_size((PIPE_WIDTH, 0)).columns if sys.stdout.isatty() else PIPE_WIDTH
    for number, histogram in enumerate(histograms(asked, groups, results.names)):
        if number:
            yield ""
        yield from histogram_lines(histogram, width)


def _json(asked: Asked, results: Results) -> str:
    from flame.histograms.as_json import histogram_object

    objects = (
        [histogram_object(histogram) for histogram in histograms(asked, results.groups, results.names)]
        if asked.names
        else [row_object(row, results.seconds) for row in table_rows(asked, results.groups, results.names)]
    )
    return json.dumps(objects, indent=2) + "\n"


def _draw(found: list[Histogram], results: Results, title: str, path: str) -> None:
    from flame.histograms.picture import histograms_svg

    notes = [f"traced for {results.seconds:.1f} s", *results.notes]
    write_file(path, histograms_svg(title, notes, found).encode("utf-8"))
