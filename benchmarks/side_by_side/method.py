"""How the comparison goes: on each workload all its tools, in each round in another order.

Each tool's window is between two without any; the one after it is the one before the next. The first round warms up
and doesn't count.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.side_by_side import ours, peers
from benchmarks.side_by_side.claims import NONE, OURS, OURS_FP, OURS_LOCKS, PERF_DWARF, PERF_FP, PMLOCK
from benchmarks.side_by_side.model import Answer, Round, Running, Tool, Usage
from benchmarks.side_by_side.rounds_file import Failure
from benchmarks.side_by_side.watching import watch
from benchmarks.side_by_side.workloads import WORKLOADS
from benchmarks.tools import ToolFailed
from tests.support.needs import CannotTest

SETTLE_S = 0.1
"""Between a pause and a window: what was stopped gets its pace again."""
WARM_UP_S = 0.3
"""A window of the round that doesn't count."""
TOOLS: Mapping[str, Tool] = {**ours.TOOLS, **peers.TOOLS}

CPU_PROFILERS = (OURS, PERF_DWARF)
BY_FRAME_POINTER = (OURS_FP, PERF_FP)
PLAN: Mapping[str, Sequence[str]] = {
    "contended C++": (
        *(*CPU_PROFILERS, *BY_FRAME_POINTER, OURS_LOCKS, "profile"),
        *("offcputime", "offcputime (libbpf)", "bpftrace futex", PMLOCK, "pmheld"),
    ),
    "MariaDB point select": (*CPU_PROFILERS, OURS_LOCKS, PMLOCK),
    "MariaDB point select + processlist": (*CPU_PROFILERS, OURS_LOCKS, PMLOCK),
    "MariaDB read-write": CPU_PROFILERS,
    "MariaDB read-write + processlist": (OURS_LOCKS, PMLOCK),
    "Redis": (*CPU_PROFILERS, *BY_FRAME_POINTER),
    "one CPU-bound thread": (*CPU_PROFILERS, "profile"),
    "1,000 idle threads": CPU_PROFILERS,
    "fork storm": CPU_PROFILERS,
    "Python": (OURS, "py-spy"),
}
"""Which tools watch which workload, beside no tool at all."""
QUICK_PLAN: Mapping[str, Sequence[str]] = {
    "contended C++": (*CPU_PROFILERS, OURS_LOCKS, PMLOCK, "profile"),
    "MariaDB point select": (*CPU_PROFILERS, OURS_LOCKS, PMLOCK),
    "one CPU-bound thread": CPU_PROFILERS,
}


@dataclass(frozen=True, slots=True)
class Method:
    """What, how often, and for how long; `rounds` without the one that warms up."""

    plan: Mapping[str, Sequence[str]]
    rounds: int = 7
    window_s: float = 1.2
    between_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it, in the order in which it was measured."""

    rounds: list[Round] = field(default_factory=list[Round])
    failures: list[Failure] = field(default_factory=list[Failure])


def compare(method: Method, tell: Callable[[str], None]) -> Found:
    """All rounds of the plan; `tell` is told what goes on."""
    found = Found()
    for name, tools in method.plan.items():
        start = time.monotonic()
        try:
            with WORKLOADS[name].start() as running, tempfile.TemporaryDirectory(prefix="lf-side-") as folder:
                _Comparison(name, running, method, Path(folder), found).go(tools)
        except CannotTest as missing:
            found.failures.extend(Failure(name, tool, str(missing)) for tool in tools)
        tell(f"{name}: {time.monotonic() - start:.0f} s")
    return found


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Tools on one workload, which is at work."""

    name: str
    running: Running
    method: Method
    folder: Path
    found: Found

    def go(self, tools: Sequence[str]) -> None:
        order = random.Random(self.name)
        left = {NONE, *tools}
        for number in range(self.method.rounds + 1):
            before = self._rate_for(self.method.between_s)
            for tool in order.sample(sorted(left), len(left)):
                try:
                    seen = self._seen(tool, self.method.window_s if number else WARM_UP_S)
                except ToolFailed as failure:
                    self.found.failures.append(Failure(self.name, tool, str(failure), number))
                    seen = None
                except CannotTest as missing:
                    self.found.failures.append(Failure(self.name, tool, str(missing)))
                    left.remove(tool)
                    seen = None
                after = self._rate_for(self.method.between_s)
                if seen is not None and number > 0:
                    rate, usage, answer = seen
                    self.found.rounds.append(Round(self.name, tool, number, before, rate, after, usage, answer))
                before = after

    def _seen(self, tool: str, window_s: float) -> tuple[float, Usage | None, Answer]:
        if tool == NONE:
            return self._rate_for(window_s), None, Answer()
        watched = watch(TOOLS[tool], self.running, window_s, self.folder)
        return watched.rate, watched.usage, watched.answer

    def _rate_for(self, seconds: float) -> float:
        """The work per second of so many seconds from now on."""
        time.sleep(SETTLE_S)
        before = self.running.progress()
        time.sleep(seconds)
        after = self.running.progress()
        return (after.work - before.work) / (after.time_s - before.time_s)
