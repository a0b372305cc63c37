"""What the size of the stack copies buys and costs: the measurements behind the default of `--stack-size`."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.loads import mariadb
from benchmarks.perf_output import perf_stacks
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import Usage, lockflame_tool, measure, perf_dwarf_tool
from lockflame.pprof import read
from tests.support.user_stacks import user_stacks, whole_share

SIZES_KB = (8, 16, 24, 32, 48, 64)
QUICK_SIZES_KB = (8, 16, 32, 64)
LARGEST = 65528

Measured = defaultdict[tuple[str, int], list[float]]
"""By figure and size: one value for each round."""


@benchmark("stack-sizes")
def stack_sizes(settings: Settings) -> Report:
    """Completeness, bytes and CPU by the size of the copies, on MariaDB under one load; without perf in quick mode."""
    is_quick = settings.rounds < 3
    seconds, rounds, sizes_kb = (2, 1, QUICK_SIZES_KB) if is_quick else (5, 2, SIZES_KB)
    ours: Measured = defaultdict(list)
    peers: Measured = defaultdict(list)
    order = random.Random(1)
    with mariadb() as pid:
        for size_kb in order.sample(sizes_kb * rounds, len(sizes_kb) * rounds):
            stack_bytes = min(size_kb * 1024, LARGEST)
            with tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
                folder = Path(name)
                usage = measure(lockflame_tool(pid, seconds, folder, "--stack-size", str(stack_bytes)), seconds)
                profile = read(str(folder / "ours.pb.gz"))
                keep(ours, size_kb, seconds, usage, profile.recording.samples, whole_share(user_stacks(profile)))
                if is_quick:
                    continue
                usage = measure(perf_dwarf_tool(pid, seconds, folder, stack_bytes), seconds)
                stacks = perf_stacks(folder / "perf.data")
                with_user = [stack for stack in stacks if stack.names]
                whole = sum(stack.is_whole for stack in with_user) / max(1, len(with_user))
                keep(peers, size_kb, seconds, usage, len(stacks), whole)
    units = {"whole stacks": "%", "written": "KB/sample", "own CPU while recording": "ms/s"}
    figures = [
        Figure(f"{size_kb} KB: {what}", unit, ours[what, size_kb], peers[what, size_kb])
        for what, unit in units.items()
        for size_kb in sizes_kb
    ]
    title = f"MariaDB under sysbench, 32 threads, 99 Hz, {seconds} s, copies of each size: medians of {rounds}"
    return Report(title, "perf record dwarf", figures)


def keep(measured: Measured, size_kb: int, seconds: int, usage: Usage, samples: int, whole: float) -> None:
    """Add the figures of one recording."""
    measured["whole stacks", size_kb].append(100 * whole)
    measured["written", size_kb].append(1000 * usage.written_recording / max(1, samples))
    measured["own CPU while recording", size_kb].append(1000 * usage.cpu_recording / seconds)
