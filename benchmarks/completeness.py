"""How many stacks are whole: of stock programs, beside `perf record` with frame pointers and with stack copies."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.loads import LOADS
from benchmarks.perf_output import is_start, perf_record, perf_stacks
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import ToolFailed
from lockflame.pprof import read
from tests.support.cli import run_lockflame
from tests.support.needs import CannotTest
from tests.support.user_stacks import UserStack, samples_of, user_stacks, whole_share

PEERS = {"perf -g": "fp", "perf dwarf,16384": "dwarf,16384"}
MARIADB_LIMIT, OTHERS_LIMIT = 99.5, 99.0
MOST_CUT_SHOWN = 3


@dataclass(slots=True)
class Shares:
    """Percent of the samples with user frames that are whole: not `marked` as truncated, or `named` as a start.

    `unnamed` of ours are whole and end in a function without a symbol; `cut` counts our others by their last frames.
    """

    marked: float
    named: float
    samples: int
    unnamed: int
    peers: dict[str, list[float]] = field(default_factory=lambda: {})
    cut: Counter[str] = field(default_factory=lambda: Counter())


@benchmark("completeness")
def completeness(settings: Settings) -> Report:
    """The share of whole user stacks of each load, by us and by perf one after the other under the same load."""
    figures: list[Figure] = []
    remarks: list[str] = []
    is_quick = settings.rounds < 3
    for name, load in LOADS.items():
        seconds = 2 if is_quick else 20 if name == "mariadb" else settings.seconds
        try:
            with load() as pid, tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
                shares = shares_of(pid, seconds, Path(folder))
        except CannotTest as missing:
            remarks.append(f"{name}: left out: {missing}")
            continue
        figures += figures_of(name, shares)
        cut = "; ".join(f"{count} × {frames}" for frames, count in shares.cut.most_common(MOST_CUT_SHOWN))
        remarks.append(f"{name}: {shares.samples:,} samples with user frames{f', cut: {cut}' if cut else ''}")
        if shares.unnamed:
            remarks.append(f"{name}: {shares.unnamed} roots have no name; in libc they have one with libc6-dbg")
    return Report("Whole user stacks, 99 Hz, one recording each", "perf", figures, remarks)


def shares_of(pid: int, seconds: int, folder: Path) -> Shares:
    """Record a process with each tool, one after the other."""
    stacks = record_ours(pid, seconds, folder / "ours.pb.gz")
    named = samples_of([stack for stack in stacks if is_start(stack.names[-1])])
    unnamed = samples_of([stack for stack in stacks if not stack.is_truncated and "+0x" in stack.names[-1]])
    shares = Shares(100 * whole_share(stacks), 100 * named / max(1, samples_of(stacks)), samples_of(stacks), unnamed)
    for stack in stacks:
        if stack.is_truncated:
            shares.cut[" < ".join(stack.names[-3:])] += stack.samples
    for peer, call_graph in PEERS.items():
        data = folder / "perf.data"
        perf_record(pid, seconds, data, call_graph)
        shares.peers[peer] = perf_whole_percent(data)
    return shares


def record_ours(pid: int, seconds: int, output: Path, *options: str) -> list[UserStack]:
    """The user stacks of a recording with Lockflame."""
    result = run_lockflame("record", "-p", str(pid), "-d", str(seconds), "-o", output, *options)
    if result.status != 0:
        raise ToolFailed(f"lockflame: {result.stderr[-500:]}")
    return user_stacks(read(str(output)))


def perf_whole_percent(data: Path) -> list[float]:
    """The share of samples with user frames whose outermost one, by perf, is a start; empty without such samples."""
    stacks = [stack for stack in perf_stacks(data) if stack.names]
    return [100 * sum(stack.is_whole for stack in stacks) / len(stacks)] if stacks else []


def figures_of(name: str, shares: Shares) -> Sequence[Figure]:
    """The lines of one load: not marked as truncated, beside each peer; and by the name of the root frame."""
    limit = MARIADB_LIMIT if name == "mariadb" else OTHERS_LIMIT
    lines = [
        Figure(f"{name}: whole, beside {peer}", "%", [shares.marked], share, limit, limit_is_least=True)
        for peer, share in shares.peers.items()
    ]
    return [*lines, Figure(f"{name}: root named as a start", "%", [shares.named], (), limit, limit_is_least=True)]
