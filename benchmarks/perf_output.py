"""Runs `perf record` and reads the user frames that `perf script` prints."""

from __future__ import annotations

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
    done = subprocess.run(perf_script_command(data), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise ToolFailed(f"perf script: {done.stderr[-500:]}")
    return list(_stacks(done.stdout.splitlines()))


def run_perf(*arguments: str) -> None:
    """Run perf to its end."""
    done = subprocess.run([find_program("perf"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolFailed(f"perf {arguments[0]}: {done.stderr[-500:]}")


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
