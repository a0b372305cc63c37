"""What is watched: programs of ours, whose truth is known, and stock servers."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.side_by_side import servers
from benchmarks.side_by_side.at_work import at_work
from benchmarks.side_by_side.counters import FileCounter
from benchmarks.side_by_side.model import Running, Workload
from tests.support.cli import SYSTEM_PYTHON
from tests.support.needs import find_program
from tests.support.paths import TARGETS
from tests.support.process import running
from tests.support.targets import build_target

CONTENDING_THREADS = 4
IDLE_THREADS = 1000
CHILDREN_FOR_EACH_CPU = 2
"""So that no CPU is idle while the parent reaps."""
CHILD_TURNS = 100_000
"""A tenth of a millisecond at most: the children's starts and ends are most of the work."""


@contextlib.contextmanager
def contended_cpp() -> Iterator[Running]:
    """lock_progress on one CPU: else its rate varies by half, with the CPUs that its threads are on."""
    on_one_cpu = [find_program("taskset"), "--cpu-list", str(min(os.sched_getaffinity(0)))]
    program = [*on_one_cpu, build_target("lock_progress.cpp"), "--threads", str(CONTENDING_THREADS)]
    with _counting(program) as workload:
        yield workload


@contextlib.contextmanager
def one_thread() -> Iterator[Running]:
    """split_70_30."""
    with _counting([build_target("split_70_30.c")]) as workload:
        yield workload


@contextlib.contextmanager
def idle_threads() -> Iterator[Running]:
    """many_threads, one of which works."""
    options = ["--threads", str(IDLE_THREADS + 1), "--working", "1"]
    with _counting([build_target("many_threads.c"), *options]) as workload:
        yield workload


@contextlib.contextmanager
def fork_storm() -> Iterator[Running]:
    """fork_storm, as fast as it can."""
    at_once = CHILDREN_FOR_EACH_CPU * len(os.sched_getaffinity(0))
    options = ["--rate", "0", "--at-once", str(at_once), "--turns", str(CHILD_TURNS)]
    with _counting([build_target("fork_storm.c"), *options]) as workload:
        yield workload


@contextlib.contextmanager
def python() -> Iterator[Running]:
    """py_work under Debian's Python."""
    with _counting([SYSTEM_PYTHON, TARGETS / "py_work.py"]) as workload:
        yield workload


_LIST = (
    Workload(
        "contended C++",
        "commands",
        f"{CONTENDING_THREADS} threads of a C++ program fight for one mutex, on one CPU",
        contended_cpp,
    ),
    *servers.mariadb_workloads(),
    Workload("Redis", "commands", "redis-server under redis-benchmark, SET and GET", servers.redis),
    Workload(
        "one CPU-bound thread",
        "turns",
        "one thread of a C program, 70 % of its CPU time in one function and 30 % in another",
        one_thread,
        {"work_seventy": 70, "work_thirty": 30},
    ),
    Workload(
        "1,000 idle threads", "turns", f"one thread of a C program works, {IDLE_THREADS:,} others sleep", idle_threads
    ),
    Workload(
        "fork storm",
        "children",
        f"a C program forks children that work briefly, {CHILDREN_FOR_EACH_CPU} at a time for each CPU, without end",
        fork_storm,
    ),
    Workload("Python", "turns", "one thread of Debian's Python computes", python),
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _LIST}
"""Workloads by name, in the order in which they are shown."""


@contextlib.contextmanager
def _counting(command: Sequence[str | Path]) -> Iterator[Running]:
    """A program that takes `--counters FILE`, as tests/targets/target.h has it."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
        file = Path(folder, "counters")
        with (
            running([*command, "--counters", file]) as target,
            at_work(target.pid, FileCounter(file)) as workload,
        ):
            yield workload
