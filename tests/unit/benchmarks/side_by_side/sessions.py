"""Sessions of the comparison as they might be measured: each tool costs what it is made to cost, with some noise."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.registry import Figure, Report
from benchmarks.side_by_side.claims import (
    BCC_PROFILE,
    HELP_START,
    NONE,
    OURS,
    OURS_FP,
    OURS_LOCKS,
    PERF_DWARF,
    PERF_FP,
    PICTURE_CPU,
    PICTURE_INLINED,
    PICTURE_PLAIN,
    PMLOCK,
)
from benchmarks.side_by_side.model import Answer, Round, Usage
from benchmarks.side_by_side.rounds_file import Failure, Session, ToolFacts, WorkloadFacts

CONTENDED = "contended C++"
POINT_SELECT = "MariaDB point select"
PYTHON = "single thread, Python"
WORKLOADS = (
    WorkloadFacts(CONTENDED, "commands", "Four threads fight for a mutex on one CPU"),
    WorkloadFacts(POINT_SELECT, "queries", "MariaDB under sysbench, 16 clients"),
    WorkloadFacts("MariaDB point select + processlist", "queries", "As before, with clients that list processes"),
    WorkloadFacts("MariaDB read-write", "transactions", "MariaDB under sysbench, 16 clients"),
    WorkloadFacts("MariaDB read-write + processlist", "transactions", "As before, with clients that list processes"),
    WorkloadFacts("Redis", "requests", "Redis under its own benchmark"),
    WorkloadFacts("single thread, C++", "turns", "Computes", {"hot": 60.0, "warm": 30.0, "cold": 10.0}),
    WorkloadFacts(PYTHON, "turns", "Computes, in Python"),
    WorkloadFacts("1,000 idle threads", "wakes", "They wake up once a second"),
    WorkloadFacts("fork storm", "forks", "Starts /bin/true again and again"),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a tool is made to cost: loss in percent, CPU seconds until the picture, MB, seconds to first sample."""

    loss: float
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    first_sample_s: float = 0.0


COSTS: Mapping[str, Cost] = {
    NONE: Cost(0),
    OURS_FP: Cost(0.4, 0.5, 38, 0.27),
    OURS: Cost(0.6, 0.7, 42, 0.28),
    OURS_LOCKS: Cost(2.5, 0.9, 46, 0.34),
    PERF_FP: Cost(0.5, 1.1, 60, 0.12),
    PERF_DWARF: Cost(9, 14, 210, 0.13),
    BCC_PROFILE: Cost(0.7, 3, 240, 3.9),
    "offcputime": Cost(12, 3.4, 250, 4.1),
    "offcputime (libbpf)": Cost(7, 0.6, 14, 0.2),
    "bpftrace futex": Cost(21, 1.2, 110, 0.9),
    PMLOCK: Cost(58, 2.2, 120, 1.2),
    "py-spy": Cost(4, 6, 80, 0.4),
}
TOOLS = tuple(ToolFacts(name, "linux-perf", name not in ("bpftrace futex", PMLOCK)) for name in COSTS)


def made_round(workload: WorkloadFacts, tool: str, number: int, chance: random.Random, noise: float = 0.5) -> Round:
    """One round of a tool that costs what COSTS says, more or less."""
    cost = COSTS[tool]
    rate = chance.uniform(9_000, 11_000)
    about = chance.uniform(0.9, 1.1)
    usage = Usage(
        cpu_recording_s=cost.cpu_s * about / 2,
        cpu_total_s=cost.cpu_s * about,
        peak_recording_mb=cost.peak_mb * 0.8,
        peak_total_mb=cost.peak_mb * about,
        written_mb=cost.cpu_s * 10,
        first_sample_s=cost.first_sample_s * about,
        to_picture_s=cost.cpu_s * about,
    )
    answer = Answer(
        samples=3_000,
        lost=3 if tool == PERF_DWARF else 0,
        whole_percent=None if tool.startswith("bpf") else 98.5,
        shares={name: share + chance.gauss(0, 2) for name, share in workload.truth.items()},
        lock_paths=("take", "give", "wait_for", "other") if tool in (OURS_LOCKS, PMLOCK) else (),
    )
    during = rate * (1 - (cost.loss + chance.gauss(0, noise)) / 100)
    is_none = tool == NONE
    return Round(
        workload.name, tool, number, rate, during, rate, None if is_none else usage, Answer() if is_none else answer
    )


def made_session(count: int = 7, seed: int = 1) -> Session:
    """Ten workloads, twelve tools: pmlock only where there are locks, py-spy only on Python, BCC fails on one."""
    chance = random.Random(seed)
    rounds: list[Round] = []
    failures = [Failure("Redis", BCC_PROFILE, "HINT: Missing `struct` <member>\nof task|group", None)]
    for number in range(count):
        for workload in WORKLOADS:
            for tool in COSTS:
                if _is_possible(tool, workload.name):
                    rounds.append(made_round(workload, tool, number, chance))
    rounds.remove(next(one for one in rounds if one.tool == PERF_DWARF and one.workload == "fork storm"))
    failures.append(Failure("fork storm", PERF_DWARF, "ended with status 255", 0))
    return Session(
        started="2026-11-23 06:00 UTC",
        duration_s=1384,
        commit="7568bae919",
        workloads=WORKLOADS,
        tools=TOOLS,
        rounds=tuple(rounds),
        failures=tuple(failures),
        paired=(
            replace(PICTURE_PLAIN, ours=(0.5, 0.55, 0.6), peer=(2.2, 2.5, 2.4)),
            replace(PICTURE_INLINED, ours=(0.6, 0.61, 0.66), peer=(9.0, 9.5, 9.1)),
            replace(PICTURE_CPU, ours=(1.0, 1.1, 1.0), peer=(3.0, 2.9, 3.1)),
            replace(HELP_START, ours=(0.11, 0.12, 0.11)),
        ),
        reports=(
            Report(
                "Unwinding 15,000 stacks",
                "perf",
                (
                    Figure("time", "s", (1.0, 1.1), (4.0, 4.2), 0.5, limit_is_ratio=True),
                    Figure("time to draw", "s", (2.0, 2.1), limit=1.5),
                ),
                ("The machine was busy.",),
            ),
        ),
        machine={
            "kernel": "Linux 6.1.0 x86_64",
            "processor": "AMD EPYC",
            "CPUs": "2 of 2 CPUs",
            "distribution": "Debian GNU/Linux 12 (bookworm)",
        },
        versions={"perf": "6.1.192", "py-spy": "unknown"},
        method=("Each round runs all tools in a shuffled order, after one round to warm up.",),
    )


def _is_possible(tool: str, workload: str) -> bool:
    if tool == PMLOCK:
        return workload.startswith(("contended", "MariaDB"))
    if tool == "py-spy":
        return workload == PYTHON
    return (tool, workload) != (BCC_PROFILE, "Redis")
