"""What a program whose threads fight for a mutex loses while it is recorded, beside what bpftrace's scripts cost it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import CPUCLOCK_SCHED, ToolFailed
from lockflame.pprof import read
from tests.support.needs import find_program
from tests.support.process import Target, running
from tests.support.recording import lockflame_session
from tests.support.targets import build_target
from tests.support.tracefs import WITH_TRACEFS

THREADS = 4
ROW_BYTES = 64
WINDOW_SHARE = 0.3
"""A window is so much of a recording's usual time: 3 s."""
SETTLE_S = 0.5
RECORDING_S = 300
"""Longer than any window: the recording is ended by a signal."""
FUTEX_CALLS_LEAST = 100_000
SCRIPTS = Path(__file__).parent
FOUND = re.compile(r"^@\w+_ns\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a target is: at a time of the monotonic clock, its commands and its CPU seconds."""

    time_s: float
    commands: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """The target's commands per second, and per second of its own CPU time; the tool's CPU in percent of one core."""

    rate: float
    rate_by_cpu: float
    tool_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """The same target before, during and after a recording."""

    before: Window
    during: Window
    after: Window

    @property
    def kept_percent(self) -> float:
        """What is left of the target's rate beside that before and after: the machine may change its pace."""
        return 200 * self.during.rate / (self.before.rate + self.after.rate)

    @property
    def kept_by_cpu_percent(self) -> float:
        """What is left of what it does with a second of CPU."""
        return 200 * self.during.rate_by_cpu / (self.before.rate_by_cpu + self.after.rate_by_cpu)


class Program:
    """A running lock_progress."""

    def __init__(self, target: Target, counters: Path) -> None:
        self.pid = target.pid
        self._counters = counters

    def progress(self) -> Progress:
        """How far it is now."""
        rows = self._counters.read_bytes()
        commands = sum(struct.unpack_from("<Q", rows, number * ROW_BYTES)[0] for number in range(THREADS))
        return Progress(time.monotonic(), commands, cpu_seconds(self.pid))

    def watch(self, seconds: float, tool_pid: int | None = None) -> Window:
        """What it does in a time from now on."""
        start, tool_start = self.progress(), cpu_seconds(tool_pid) if tool_pid else 0.0
        time.sleep(seconds)
        end, tool_end = self.progress(), cpu_seconds(tool_pid) if tool_pid else 0.0
        commands, elapsed_s = end.commands - start.commands, end.time_s - start.time_s
        tool_percent = 100 * (tool_end - tool_start) / elapsed_s
        return Window(commands / elapsed_s, commands / (end.cpu_s - start.cpu_s), tool_percent)


Trace = Callable[[Program], contextlib.AbstractContextManager[int | None]]
"""Yields the tool's process id when it records."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, to the nanosecond, by the kernel's id of its CPU clock."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


@contextlib.contextmanager
def nothing(_: Program) -> Iterator[None]:
    """No tool: tells how much the figures vary by themselves."""
    yield None


@contextlib.contextmanager
def lockflame_cpu(program: Program) -> Iterator[int]:
    """`lockflame record`."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder, _lockflame(program, Path(folder, "p.pb.gz")) as pid:
        yield pid


@contextlib.contextmanager
def lockflame_locks(program: Program) -> Iterator[int]:
    """`lockflame record --locks`, which must have seen waits."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
        output = Path(folder, "ours.pb.gz")
        with _lockflame(program, output, "--locks") as pid:
            yield pid
        if not sum(lock.ends.total for lock in read(str(output)).locks):
            raise ToolFailed("lockflame saw no waits")


@contextlib.contextmanager
def _lockflame(program: Program, output: Path, *options: str) -> Iterator[int]:
    with lockflame_session("record", "-p", program.pid, "-d", RECORDING_S, *options, "-o", output) as session:
        session.wait_until_recording()
        yield session.pid
        session.process.send_signal(signal.SIGINT)
        result = session.finish()
    if result.status != 0:
        raise ToolFailed(f"lockflame ended with status {result.status}: {result.stderr[-1000:]}")


@contextlib.contextmanager
def trace_locks(program: Program) -> Iterator[int]:
    """`lockflame trace locks`, waits and holds, which must have seen both."""
    arguments = ("trace", "locks", "-p", program.pid, "--max-events-per-second", 0, "--json")
    with lockflame_session(*arguments) as session:
        session.wait_until_recording()
        yield session.pid
        session.process.send_signal(signal.SIGINT)
        result = session.finish()
    if result.status != 0:
        raise ToolFailed(f"lockflame ended with status {result.status}: {result.stderr[-1000:]}")
    rows = json.loads(result.stdout)
    if not rows or not rows[0]["waits"] or not rows[0]["holds"]:
        raise ToolFailed("lockflame trace saw no waits or no holds")


@contextlib.contextmanager
def bpftrace_futex(program: Program) -> Iterator[int]:
    """bpftrace's histograms of futex calls by stack."""
    with _bpftrace("futex_waits.bt", program) as pid:
        yield pid


@contextlib.contextmanager
def pmlock(program: Program) -> Iterator[int]:
    """pmlock for the current libc."""
    with _bpftrace("pmlock.bt", program) as pid:
        yield pid


@contextlib.contextmanager
def _bpftrace(script: str, program: Program) -> Iterator[int]:
    command = [*WITH_TRACEFS, find_program("bpftrace"), "-B", "line", SCRIPTS / script, program.pid]
    with running(command, wait_ready=False, stderr=subprocess.STDOUT) as tracer:
        tracer.wait_for_line(lambda line: line == "recording", 60)
        yield tracer.pid
        tracer.interrupt()
        if not FOUND.search("\n".join(tracer.lines)):
            raise ToolFailed(f"bpftrace {script} saw nothing: {tracer.lines[:5]}")


TOOLS: dict[str, Trace] = {
    "nothing": nothing,
    "record": lockflame_cpu,
    "record --locks": lockflame_locks,
    "trace locks": trace_locks,
    "bpftrace": bpftrace_futex,
    "pmlock": pmlock,
}


@contextlib.contextmanager
def program_running() -> Iterator[Program]:
    """lock_progress at work."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
        counters = Path(folder, "counters")
        program = [build_target("lock_progress.cpp"), "--threads", str(THREADS), "--counters", counters]
        # On one CPU: else its rate varies by half from one moment to the next, with the CPUs that its threads are on.
        on_one_cpu = [find_program("taskset"), "--cpu-list", str(min(os.sched_getaffinity(0)))]
        with running([*on_one_cpu, *program]) as target:
            yield Program(target, counters)


@benchmark("lock-cost")
def lock_cost(settings: Settings) -> Report:
    """A target's loss under each tool, in interleaved rounds: before, while and after it is recorded."""
    window_s = settings.seconds * WINDOW_SHARE
    costs: dict[str, list[Cost]] = {name: [] for name in TOOLS}
    futex_rates: list[float] = []
    order = random.Random(1)
    for _ in range(settings.rounds):
        with program_running() as program:
            futex_rates.append(futex_calls_a_second(program))
        for name in order.sample([*TOOLS], len(TOOLS)):
            costs[name].append(cost_of(TOOLS[name], window_s))
    return Report(
        f"{THREADS} threads on one mutex and one CPU, windows of {window_s:g} s: medians of {settings.rounds}",
        "the other",
        figures_of(costs, futex_rates),
        [remark_on(name, costs[name]) for name in TOOLS],
    )


def cost_of(trace: Trace, window_s: float) -> Cost:
    """What one tool costs a fresh target."""
    with program_running() as program:
        time.sleep(SETTLE_S)
        before = program.watch(window_s / 2)
        with trace(program) as tool_pid:
            time.sleep(SETTLE_S)
            during = program.watch(window_s, tool_pid)
        time.sleep(SETTLE_S)
        return Cost(before, during, program.watch(window_s / 2))


def futex_calls_a_second(program: Program) -> float:
    """As perf counts them."""
    event = ["-e", "syscalls:sys_enter_futex", "-x,", "-p", str(program.pid)]
    command = [*WITH_TRACEFS, str(find_program("perf")), "stat", *event, "--", "sleep", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    count = done.stderr.partition(",")[0].strip()
    if done.returncode != 0 or not count.isdigit():
        raise ToolFailed(f"perf stat: {done.stderr[-1000:]}")
    return float(count)


def figures_of(costs: dict[str, list[Cost]], futex_rates: Sequence[float]) -> list[Figure]:
    """The lines of the table."""
    lost = {name: [100 - cost.kept_percent for cost in of_tool] for name, of_tool in costs.items()}
    kept = {name: [cost.kept_percent for cost in of_tool] for name, of_tool in costs.items()}
    slower = {name: [100 / max(cost.kept_percent, 0.01) - 1 for cost in of_tool] for name, of_tool in costs.items()}
    own = [cost.during.tool_percent for cost in costs["record --locks"]]
    return [
        Figure("target's futex calls", "1/s", futex_rates, limit=FUTEX_CALLS_LEAST, limit_is_least=True),
        Figure("loss under record --locks; pmlock", "%", lost["record --locks"], lost["pmlock"], 0.1, True),
        # Not the losses' ratio: both may be close to none, and then it says nothing.
        Figure("kept under record --locks; bpftrace", "%", kept["record --locks"], kept["bpftrace"], 1.0, True, True),
        Figure("loss under record --locks; bpftrace", "%", lost["record --locks"], lost["bpftrace"]),
        Figure("longer under trace locks; pmlock", "x", slower["trace locks"], slower["pmlock"], 0.7, True),
        Figure("loss under record; nothing", "%", lost["record"], lost["nothing"]),
        Figure("own CPU with --locks", "% of a core", own, limit=2.0),
    ]


def remark_on(name: str, costs: Sequence[Cost]) -> str:
    """What a tool cost in each round, by time and by the target's CPU time."""
    lost = ", ".join(f"{100 - cost.kept_percent:.1f}" for cost in costs)
    by_cpu = statistics.median(100 - cost.kept_by_cpu_percent for cost in costs)
    own = statistics.median(cost.during.tool_percent for cost in costs)
    return f"{name}: loss {lost} %; of work by CPU time {by_cpu:.1f} %; its own CPU {own:.2f} % of a core"
