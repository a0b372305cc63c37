"""Runs a recording tool and measures what it uses, while it records and until its files are there."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import lockflame_command
from tests.support.needs import find_program
from tests.support.paths import REPO
from tests.support.process import kill_group

POLL_SECONDS = 0.05
FINE_POLL_SECONDS = 0.005
CPUCLOCK_SCHED = 2
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Tool:
    """A recording tool: its command line, and the line on its stderr that says that the recording has ended.

    A recording has also ended when the tool closes its perf events, which is how ours is seen.
    """

    name: str
    command: Sequence[str]
    recorded_line: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one recording used. Times are in seconds, memory in MB; `start` and `recorded` on the monotonic clock."""

    start: float
    recorded: float
    end_seen: bool
    cpu_recording: float
    cpu_total: float
    peak_recording: float
    peak_total: float
    written_recording: float
    to_files: float


class ToolFailed(Exception):
    """A tool ended with an error; the message is what it said."""


def lockflame_tool(pid: int, seconds: int, folder: Path, *options: str) -> Tool:
    """`lockflame record` with both outputs, as a user runs it."""
    outputs = ["-o", str(folder / "ours.pb.gz"), "-o", str(folder / "ours.svg")]
    command = lockflame_command("record", "-p", str(pid), "-d", str(seconds), *options, *outputs)
    return Tool("lockflame", command, "lockflame: recorded")


def perf_dwarf_tool(pid: int, seconds: int, folder: Path, stack_bytes: int = 16384) -> Tool:
    """`perf record` with copies of 16 KB of the stack."""
    options = ["-F", "99", "--call-graph", f"dwarf,{stack_bytes}", "-o", str(folder / "perf.data"), "-p", str(pid)]
    command = [str(find_program("perf")), "record", *options, "--", "sleep", str(seconds)]
    return Tool("perf record", command, "[ perf record: Woken up")


def measure(tool: Tool, seconds: int, on_recorded: Callable[[], None] = lambda: None) -> Usage:
    """Run `tool` to its end. `on_recorded` is called once, as soon as the recording (not yet the files) is over."""
    with tempfile.TemporaryFile() as stdout:
        start = time.monotonic()
        process = subprocess.Popen(
            tool.command,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        watch = _Watch(process, tool.recorded_line, start + seconds, on_recorded)
        try:
            watch.follow()
            _, status, used = os.wait4(process.pid, 0)
            end = time.monotonic()
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            watch.close()
    if process.returncode != 0:
        raise ToolFailed(f"{tool.name} ended with status {process.returncode}: {' '.join(watch.stderr)[-1000:]}")
    return _usage(watch, start, end, used)


def _usage(watch: _Watch, start: float, end: float, used: resource.struct_rusage) -> Usage:
    return Usage(
        start=start,
        recorded=watch.recorded,
        end_seen=watch.end_seen,
        cpu_recording=watch.cpu,
        cpu_total=used.ru_utime + used.ru_stime,
        peak_recording=watch.peak_mb,
        peak_total=watch.peak_total_mb,
        written_recording=watch.written_mb,
        to_files=end - watch.recorded,
    )


class _Watch:
    """Looks at a process and its children again and again until its recording ends, then only waits.

    `earliest_end` is when a tool that starts at once would be done; it stands for the end where none is seen.
    """

    def __init__(
        self, process: subprocess.Popen[str], recorded_line: str, earliest_end: float, on_recorded: Callable[[], None]
    ) -> None:
        self._process = process
        self._recorded_line = recorded_line
        self._earliest_end = earliest_end
        self._on_recorded = on_recorded
        self._said = threading.Event()
        self._said_at = 0.0
        self._most_events = 0
        self.stderr: list[str] = []
        self.recorded = earliest_end
        self.end_seen = False
        self.cpu = 0.0
        self.peak_mb = 0.0
        self.peak_total_mb = 0.0
        self.written_mb = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def follow(self) -> None:
        """Return when the process has ended; it is left for its parent to wait for."""
        while not self._is_over() and not has_ended(self._process.pid):
            if time.monotonic() <= self._earliest_end:
                self._look()
        if self.end_seen:
            self._look()
        self._on_recorded()
        self.peak_total_mb = self.peak_mb
        while not ends_within(self._process.pid, POLL_SECONDS):
            # Not ru_maxrss: that of a started process counts what its parent had when it was forked.
            self.peak_total_mb = max(self.peak_total_mb, used_by_tree(self._process.pid)[1])

    def close(self) -> None:
        """Kill what is left."""
        if self._process.returncode is None:
            kill_group(self._process)
        self._reader.join(10)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _is_over(self) -> bool:
        near_end = time.monotonic() > self._earliest_end
        if self._said.wait(POLL_SECONDS if not near_end else FINE_POLL_SECONDS):
            self.end_seen, self.recorded = True, self._said_at
            return True
        events = _open_perf_events(self._process.pid)
        if near_end and events < self._most_events:
            self.end_seen, self.recorded = True, time.monotonic()
            return True
        self._most_events = max(self._most_events, events)
        return False

    def _look(self) -> None:
        cpu, peak_mb = used_by_tree(self._process.pid)
        self.cpu = max(self.cpu, cpu)
        self.peak_mb = max(self.peak_mb, peak_mb)
        self.written_mb = max(self.written_mb, written_mb(self._process.pid))

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.stderr.append(line)
            if self._recorded_line in line and not self._said.is_set():
                self._said_at = time.monotonic()
                self._said.set()


def has_ended(pid: int) -> bool:
    """Whether a child of ours has ended; it is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def ends_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a process, but not longer than that; tells whether it came."""
    ending = os.pidfd_open(pid)
    try:
        return bool(select.select([ending], [], [], seconds)[0])
    finally:
        os.close(ending)


def _open_perf_events(pid: int) -> int:
    count = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            count += os.readlink(entry.path) == "anon_inode:[perf_event]"
    return count


def used_by_tree(pid: int) -> tuple[float, float]:
    """CPU seconds so far, and the sum of the peaks of resident memory in MB, of a process and its descendants.

    The CPU seconds are with those of children that have ended.
    """
    cpu = peak_kb = 0.0
    for member in process_tree(pid):
        with contextlib.suppress(OSError, ValueError):
            # The kernel's id of another process's CPU clock (linux/include/linux/posix-timers.h).
            cpu += time.clock_gettime((~member << 3) | CPUCLOCK_SCHED) + _cpu_of_ended_children(member)
            status = Path(f"/proc/{member}/status").read_text()
            peak_kb += next((float(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)
    return cpu, peak_kb / 1024


def _cpu_of_ended_children(pid: int) -> float:
    """`cutime` and `cstime` of proc_pid_stat(5), in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND


def written_mb(pid: int) -> float:
    """What a process has written so far, to files and pipes, with its ended children; also of one that has ended
    itself, as long as nobody has waited for it."""
    with contextlib.suppress(OSError):
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(fields["wchar"]) / 1e6
    return 0.0


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found.extend(process_tree(int(child)))
    return found
