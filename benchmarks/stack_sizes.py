"""What the size of the stack copies buys and costs: the measurements behind the default of `--stack-size`."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.completeness import perf_whole_percent
from benchmarks.loads import mariadb
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import Tool, lockflame_tool, measure, perf_dwarf_tool
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
                _run(lockflame_tool(pid, seconds, folder, "--stack-size", str(stack_bytes)), seconds, size_kb, ours)
                stacks = user_stacks(read(str(folder / "ours.pb.gz")))
                ours["whole stacks", size_kb].append(100 * whole_share(stacks))
                if is_quick:
                    continue
                _run(perf_dwarf_tool(pid, seconds, folder, stack_bytes), seconds, size_kb, peers)
                peers["whole stacks", size_kb].extend(perf_whole_percent(folder / "perf.data"))
    units = {"whole stacks": "%", "written": "MB/s", "own CPU while recording": "ms/s"}
    figures = [
        Figure(f"{size_kb} KB: {what}", unit, ours[what, size_kb], peers[what, size_kb])
        for what, unit in units.items()
        for size_kb in sizes_kb
    ]
    title = f"MariaDB under sysbench, 32 threads, 99 Hz, {seconds} s, copies of each size: medians of {rounds}"
    return Report(title, "perf record dwarf", figures)


def _run(tool: Tool, seconds: int, size_kb: int, measured: Measured) -> None:
    usage = measure(tool, seconds)
    measured["written", size_kb].append(usage.written_recording / seconds)
    measured["own CPU while recording", size_kb].append(1000 * usage.cpu_recording / seconds)
