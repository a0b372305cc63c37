"""From the end of a recording to its picture, at 15,000 samples: ours beside `perf script`, folding and drawing.

Ours is recorded anew in each round, as it has no other way to draw at its end; perf's recording is drawn again in each.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.side_by_side import ours, peers
from benchmarks.side_by_side.claims import (
    OURS,
    OURS_FP,
    PERF_DWARF,
    PERF_FP,
    PICTURE_CPU,
    PICTURE_INLINED,
    PICTURE_PLAIN,
    Paired,
)
from benchmarks.side_by_side.files import PERF_DATA, PICTURE
from benchmarks.side_by_side.model import Answer, Running, Tool
from benchmarks.side_by_side.peers import perf_picture_command
from benchmarks.side_by_side.runs import TookTooLong, started
from benchmarks.side_by_side.watching import Watched, watch
from benchmarks.side_by_side.workloads import WORKLOADS
from benchmarks.tools import ToolFailed

WORKLOAD = "MariaDB read-write"
SAMPLES = 15_000
FREQUENCY_HZ = 1999
TRIAL_S = 1.0
INLINED_LIMIT_S = 45.0
"""`perf script` with inlined frames takes minutes, so that it is cut off: it takes at least so long."""
INLINED_ROUNDS = 1


@dataclass(frozen=True, slots=True)
class _Kind:
    """Our way and perf's to the same kind of stacks."""

    what: str
    ours: str
    peer: str


WHOLE, BY_FRAME_POINTER = _Kind("whole stacks", OURS, PERF_DWARF), _Kind("by frame pointer", OURS_FP, PERF_FP)


def pictures(rounds: int) -> tuple[list[Paired], list[str]]:
    """The paired times, scaled to 15,000 samples, and what is to be known of them."""
    with WORKLOADS[WORKLOAD].start() as running, tempfile.TemporaryDirectory(prefix="lf-pictures-") as name:
        folder = Path(name)
        whole, notes = _drawn(running, folder, WHOLE, rounds)
        inlined = _inlined(folder, whole[0].ours)
        by_frame_pointer, more_notes = _drawn(running, folder, BY_FRAME_POINTER, rounds)
    return [*whole, *by_frame_pointer, inlined], [*notes, *more_notes]


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds to a picture, CPU seconds with the recording, and how many samples it has."""

    to_picture_s: float
    cpu_s: float
    samples: int

    def scaled(self, seconds: float) -> float:
        return seconds * SAMPLES / self.samples


def _drawn(running: Running, folder: Path, kind: _Kind, rounds: int) -> tuple[list[Paired], list[str]]:
    window_s = _window_s(running, folder, kind.ours)
    data, recorded = _recorded_by_perf(running, folder, kind, window_s)
    costs: dict[str, list[_Cost]] = {kind.ours: [], kind.peer: []}
    order = random.Random(kind.what)
    for number in range(rounds + 1):
        for tool in order.sample([*costs], len(costs)):
            is_ours = tool == kind.ours
            cost = _ours(running, folder, tool, window_s) if is_ours else _perfs(running, folder, data, recorded)
            if number:
                costs[tool].append(cost)
    ours_costs, peer_costs = costs[kind.ours], costs[kind.peer]
    pairs = [
        replace(
            paired,
            what=f"{paired.what}, {kind.what}",
            ours=[cost.scaled(take(cost)) for cost in ours_costs],
            peer=[cost.scaled(take(cost)) for cost in peer_costs],
        )
        for paired, take in ((PICTURE_PLAIN, lambda cost: cost.to_picture_s), (PICTURE_CPU, lambda cost: cost.cpu_s))
    ]
    counts = [cost.samples for cost in ours_costs]
    return pairs, [
        f"Pictures, {kind.what}: ours drew {min(counts):,} to {max(counts):,} samples, perf {recorded.samples:,}; "
        f"times are scaled to {SAMPLES:,}."
    ]


def _ours(running: Running, folder: Path, tool: str, window_s: float) -> _Cost:
    watched = watch(_fast(ours.TOOLS[tool]), running, window_s, folder)
    return _cost(tool, watched, watched.usage.cpu_total_s)


def _perfs(running: Running, folder: Path, data: Path, recorded: _Cost) -> _Cost:
    """Draws perf's recording again; the CPU of recording it is that of the once."""
    running.pause()
    try:
        with started("perf script", perf_picture_command(data, folder / PICTURE), folder) as run:
            run.finish()
            return _Cost(run.ended - run.started, recorded.cpu_s + run.cpu_s, recorded.samples)
    finally:
        running.resume()


def _cost(tool: str, watched: Watched, cpu_s: float) -> _Cost:
    if not watched.answer.samples:
        raise ToolFailed(f"{tool} took no samples")
    return _Cost(watched.usage.to_picture_s, cpu_s, watched.answer.samples)


def _inlined(folder: Path, ours_s: Sequence[float]) -> Paired:
    """Of the last perf.data; as it is cut off, ours is at most that share of it."""
    peer: list[float] = []
    for _ in range(min(INLINED_ROUNDS, len(ours_s))):
        command = perf_picture_command(folder / WHOLE.peer / PERF_DATA, folder / PICTURE, inlined=True)
        try:
            with started("perf script", command, folder) as run:
                run.finish(limit_s=INLINED_LIMIT_S)
                peer.append(run.ended - run.started)
        except TookTooLong:
            peer.append(INLINED_LIMIT_S)
    is_cut = max(peer) >= INLINED_LIMIT_S
    what = PICTURE_INLINED.what + (f" (perf cut off after {INLINED_LIMIT_S:g} s)" if is_cut else "")
    return replace(PICTURE_INLINED, what=what, ours=ours_s[: len(peer)], peer=peer)


def _window_s(running: Running, folder: Path, tool: str) -> float:
    """How long it takes to get the samples, by a short trial."""
    return SAMPLES * TRIAL_S / _ours(running, folder, tool, TRIAL_S).samples


def _recorded_by_perf(running: Running, folder: Path, kind: _Kind, window_s: float) -> tuple[Path, _Cost]:
    """A perf.data that stays, and what recording it cost."""
    kept = folder / kind.peer
    kept.mkdir()
    data = kept / PERF_DATA

    def keep(place: Path) -> Answer:
        (place / PERF_DATA).rename(data)
        return peers.perf_answer(kept)

    watched = watch(replace(_fast(peers.TOOLS[kind.peer]), answer=keep), running, window_s, folder)
    return data, _cost(kind.peer, watched, watched.usage.cpu_recording_s)


def _fast(tool: Tool) -> Tool:
    """The same at a higher rate: the last -F counts."""
    return replace(tool, command=lambda pid, folder: [*tool.command(pid, folder), "-F", str(FREQUENCY_HZ)])
