"""Runs `perf record` and reads the user frames that `perf script` prints."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tools import ToolFailed, process_tree
from tests.support.needs import find_program

START_NAMES = frozenset(
    {"clone3", "__clone3", "clone", "__clone", "thread_start", "start_thread", "_start", "_dl_start_user"}
    | {"__libc_start_main", "__libc_start_call_main"}
)
"""Where threads and processes begin. A walk by frame pointers ends one frame before; that counts as whole too."""
_KERNEL_HALF = 1 << 63
_LOST_SAMPLES = re.compile(r"^ *LOST_SAMPLES events: +(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PerfStack:
    """The user frames of a sample, leaf first: places in their files, and the names that perf gives them."""

    places: list[int]
    names: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether the outermost frame is where a thread or process begins."""
        return bool(self.names) and is_start(self.names[-1])


def is_start(name: str) -> bool:
    """Whether a function of this name is where threads or processes begin."""
    return name.split("@")[0] in START_NAMES


def perf_record(pid: int, seconds: float, data: Path, call_graph: str, frequency: int = 99) -> None:
    """Record a process with `perf record`; `call_graph` is `fp` or `dwarf,BYTES`.

    Its children are named one by one: perf follows those that are yet to come only.
    """
    pids = ",".join(map(str, process_tree(pid)))
    options = ["-F", str(frequency), "--call-graph", call_graph, "-p", pids, "-o", str(data), "--mmap-pages=4096"]
    run_perf("record", "--quiet", "--no-buildid", "--no-buildid-cache", *options, "--", "sleep", str(seconds))


def perf_script_command(data: Path, fields: str = "time,ip,sym") -> list[str]:
    """Prints all samples without looking for inlined functions."""
    return [str(find_program("perf")), "script", "--no-inline", "-F", fields, "-i", str(data)]


def perf_stacks(data: Path) -> list[PerfStack]:
    """The user stack of each sample in the order of time; samples without user frames have an empty one."""
    return stacks_in_script(_printed(*perf_script_command(data)[1:]))


def stacks_in_script(text: str) -> list[PerfStack]:
    """The same, from what that command prints."""
    return list(_stacks(text.splitlines()))


def perf_lost(data: Path) -> int:
    """How many samples found no room in perf's buffers, by the kernel's own count."""
    return lost_in_stats(_printed("report", "--stats", "-i", str(data)))


def lost_in_stats(text: str) -> int:
    """The same, from what `perf report --stats` prints: the numbers of records have a share behind them, those of
    events, which are told later and by event, have none."""
    return sum(map(int, _LOST_SAMPLES.findall(text)))


def perf_first_sample_s(data: Path) -> float | None:
    """When the first sample was taken, by the clock of the recording (monotonic with `-k CLOCK_MONOTONIC`), in s."""
    times = [float(line.rstrip(":")) for line in _printed("script", "-F", "time", "-i", str(data)).split()]
    return min(times, default=None)


def _printed(*arguments: str) -> str:
    done = subprocess.run(
        [find_program("perf"), *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise ToolFailed(f"perf {arguments[0]}: {done.stderr[-500:]}")
    return done.stdout


def run_perf(*arguments: str) -> None:
    """Run perf to its end."""
    _printed(*arguments)


def _stacks(lines: Sequence[str]) -> Iterator[PerfStack]:
    """A sample is a line with its time, then one indented line for each frame, then an empty line."""
    stack: PerfStack | None = None
    for line in lines:
        if not line.strip():
            continue
        if not line.startswith("\t"):
            if stack is not None:
                yield stack
            stack = PerfStack([], [])
            continue
        address, _, name = line.strip().partition(" ")
        if stack is not None and int(address, 16) < _KERNEL_HALF:
            stack.places.append(int(address, 16))
            stack.names.append(name.strip())
    if stack is not None:
        yield stack
