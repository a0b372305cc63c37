"""What a recording of a busy MariaDB costs, beside `perf record` with copies of the stack."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import shared_mariadb
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import Tool, ToolFailed, Usage, lockflame_tool, measure, perf_dwarf_tool
from tests.support.mariadb import MariaDb

THREADS = 32
SCRIPT = "oltp_read_write"

MakeTool = Callable[[int, int, Path], Tool]


@dataclass(frozen=True, slots=True)
class Round:
    """One recording: what the tool used, and what the target did meanwhile and just before."""

    usage: Usage
    rate_before: float
    rate_recording: float

    @property
    def loss_percent(self) -> float:
        """How much slower the target was while it was recorded."""
        return 100 * (1 - self.rate_recording / self.rate_before)


@benchmark("recording")
def recording(settings: Settings) -> Report:
    """Own CPU time, memory, the way to both files, and the target's loss, in interleaved rounds."""
    tools: list[MakeTool] = [lockflame_tool, perf_dwarf_tool]
    rounds: dict[MakeTool, list[Round]] = {tool: [] for tool in tools}
    failures: list[str] = []
    order = random.Random(1)
    database = shared_mariadb()
    run_round(database, perf_dwarf_tool, Settings(1, 2))  # a warm-up, of the server above all
    for _ in range(settings.rounds):
        for make_tool in order.sample(tools, len(tools)):
            try:
                rounds[make_tool].append(run_round(database, make_tool, settings))
            except ToolFailed as failure:
                failures.append(str(failure))
    ours, peers = rounds[lockflame_tool], rounds[perf_dwarf_tool]
    return Report(
        f"MariaDB under sysbench {SCRIPT}, {THREADS} threads, 99 Hz, {settings.seconds} s: "
        f"medians of {settings.rounds}",
        "perf record dwarf,16384",
        figures_of(ours, peers),
        [*dict.fromkeys(failures), *remarks_on(ours)],
    )


def run_round(database: MariaDb, make_tool: MakeTool, settings: Settings) -> Round:
    """Record once under a fresh load. The load ends with the recording: the way to the files is on an idle machine."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder, database.sysbench(SCRIPT, THREADS) as load:
        load_start = time.monotonic()
        time.sleep(settings.seconds / 2)
        tool = make_tool(database.pid, settings.seconds, Path(folder))
        usage = measure(tool, settings.seconds, on_recorded=load.stop)
        before = load.rate_between(load_start, usage.start)
        return Round(usage, before, load.rate_between(usage.start, usage.recorded))


def figures_of(ours: Sequence[Round], peers: Sequence[Round]) -> list[Figure]:
    """The lines of the table."""

    def both(take: Callable[[Round], float]) -> tuple[list[float], list[float]]:
        return [take(one) for one in ours], [take(one) for one in peers]

    to_files = [one.usage.to_files for one in ours]
    return [
        Figure("own CPU while recording", "s", *both(lambda one: one.usage.cpu_recording), 1.0, limit_is_ratio=True),
        Figure("own CPU in all", "s", *both(lambda one: one.usage.cpu_total)),
        Figure("peak memory while recording", "MB", *both(lambda one: one.usage.peak_recording), 60),
        Figure("peak memory in all", "MB", *both(lambda one: one.usage.peak_total)),
        Figure("from end of recording to both files", "s", to_files, limit=1.5),
        Figure("target's rate while recorded", "tps", *both(lambda one: one.rate_recording)),
        Figure("target's loss", "%", *both(lambda one: one.loss_percent)),
    ]


def remarks_on(ours: Sequence[Round]) -> list[str]:
    """What makes a figure less than exact."""
    if not all(one.usage.end_seen for one in ours):
        return ["the end of a recording of ours was not seen: start and attaching count towards the files"]
    return []
