"""How long threads could have run but had no CPU: what tells a slow program from one that gets too little machine."""

from __future__ import annotations

from contextlib import suppress

from sampler import procfs


def run_delays_ns(pid: int) -> dict[int, int]:
    """Of each thread of a process and its children, by tid, since it began; empty where the kernel doesn't count it.

    It is the second number of /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst), which kernels
    with CONFIG_SCHED_INFO have.
    """
    delays: dict[int, int] = {}
    for process in procfs.family(pid):
        for tid in procfs.threads(process):
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{process}/task/{tid}/schedstat", "rb") as file:
                delays[tid] = int(file.read().split()[1])
    return delays


def run_delay_ns(before: dict[int, int], after: dict[int, int]) -> int:
    """What was added from one look to the next, of the threads that lived to the second."""
    return sum(max(delay - before.get(tid, 0), 0) for tid, delay in after.items())
