"""The whole comparison in one go: rounds, pictures, starts, the other benchmarks, and the report of all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from benchmarks.loads import stop_servers
from benchmarks.registry import BENCHMARKS, Report, Settings
from benchmarks.side_by_side import versions
from benchmarks.side_by_side.claims import HELP_START, Paired
from benchmarks.side_by_side.method import PLAN, QUICK_PLAN, TOOLS, Method, compare
from benchmarks.side_by_side.pictures import pictures
from benchmarks.side_by_side.rounds_file import Session, ToolFacts, WorkloadFacts
from benchmarks.side_by_side.workloads import WORKLOADS
from benchmarks.tools import ToolFailed
from tests.support.cli import lockflame_command
from tests.support.needs import CannotTest
from tests.support.paths import REPO

STARTS = 15


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of it there is time for; `others` are names of other benchmarks, for which there is `limit_s` in all."""

    method: Method
    picture_rounds: int
    others: Sequence[str]
    other_settings: Settings
    limit_s: float


FULL = Extent(
    Method(PLAN),
    picture_rounds=7,
    others=("instructions", "completeness", "unwinding", "naming", "agreement", "diffing", "formats", "picture"),
    other_settings=Settings(rounds=2, seconds=4),
    limit_s=1430,
)
"""At most 25 minutes."""
QUICK = Extent(
    Method(QUICK_PLAN, rounds=2, window_s=1.0, between_s=0.5),
    picture_rounds=0,
    others=("instructions",),
    other_settings=Settings.quick(),
    limit_s=150,
)
"""Three minutes; too few rounds to trust."""


def measure(extent: Extent, tell: Callable[[str], None]) -> Session:
    """Measures all of it; `tell` is told what goes on."""
    start, started = time.monotonic(), datetime.now(UTC)
    paired = [help_start()]
    notes: list[str] = []
    try:
        found = compare(extent.method, tell)
        if extent.picture_rounds:
            try:
                drawn, notes = pictures(extent.picture_rounds)
                paired += drawn
            except (ToolFailed, CannotTest) as failure:
                notes.append(f"Times to a picture were not measured: {failure}")
            tell(f"pictures: {time.monotonic() - start:.0f} s so far")
        reports, left_out = others(extent, start, tell)
    finally:
        stop_servers()
    tools = dict.fromkeys(name for names in extent.method.plan.values() for name in names)
    return Session(
        started=started.isoformat(timespec="seconds"),
        duration_s=time.monotonic() - start,
        commit=versions.commit(REPO),
        workloads=[facts_of(name) for name in extent.method.plan],
        tools=[ToolFacts(name, TOOLS[name].package, TOOLS[name].has_picture) for name in tools],
        rounds=found.rounds,
        failures=found.failures,
        paired=paired,
        reports=reports,
        machine=versions.machine(),
        versions=versions.versions(),
        method=sentences(extent.method),
        notes=[*notes, *left_out],
    )


def facts_of(name: str) -> WorkloadFacts:
    """What the report says of a workload."""
    workload = WORKLOADS[name]
    return WorkloadFacts(workload.name, workload.unit, workload.what, workload.truth)


def help_start() -> Paired:
    """How long `lockflame --help` takes, after one that warms up."""
    times: list[float] = []
    for _ in range(STARTS + 1):
        start = time.monotonic()
        subprocess.run(lockflame_command("--help"), check=True, capture_output=True)
        times.append(time.monotonic() - start)
    return replace(HELP_START, ours=times[1:])


def others(extent: Extent, start: float, tell: Callable[[str], None]) -> tuple[list[Report], list[str]]:
    """The other benchmarks' reports, and which of them were left out and why."""
    reports: list[Report] = []
    left_out: list[str] = []
    for name in extent.others:
        if time.monotonic() - start > extent.limit_s:
            left_out.append(f"{name} was left out for time; it runs with: make bench BENCH_ARGS={name}")
            continue
        try:
            reports.append(BENCHMARKS[name](extent.other_settings))
        except (ToolFailed, CannotTest) as failure:
            left_out.append(f"{name} was left out: {failure}")
        tell(f"{name}: {time.monotonic() - start:.0f} s so far")
    return reports, left_out


def sentences(method: Method) -> list[str]:
    """How it was measured, for the report."""
    return [
        f"{method.rounds} rounds after one that warms up. In each round all tools of a workload, and a window without "
        "any, come in another order.",
        f"A tool's window is {method.window_s:g} s from when it counts. The work done in it is compared with that of "
        f"the windows of {method.between_s:g} s just before and just after, without a tool.",
        "Then it gets SIGINT, and the workload is stopped until the picture is there.",
    ]
