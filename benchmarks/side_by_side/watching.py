"""Lets a tool watch a workload for a while, and measures both until the tool's picture is there.

When a tool begins to count is found as its `Beginning` says: every few milliseconds its processes' open files are
looked at (perf events, BPF links, a pidfd), or what it has said. Its own files tell it better afterwards, for some.
Not in a tool's figures is what the kernel holds for it, buffers and maps, and the work of its BPF programs, which is
done in the target's time.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side import ours, peers
from benchmarks.side_by_side.beginnings import Beginning
from benchmarks.side_by_side.files import PICTURE
from benchmarks.side_by_side.model import Answer, Running, Tool, Usage
from benchmarks.side_by_side.runs import Run, started
from benchmarks.tools import ToolFailed

GOOD_ENDS = (0, 130, -signal.SIGINT)
"""perf ends itself by the signal that it got."""
BEGINNINGS = {**ours.BEGINNINGS, **peers.BEGINNINGS}


@dataclass(frozen=True, slots=True)
class Watched:
    """What a tool used and found, and the workload's work per second while it watched."""

    usage: Usage
    rate: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Until SIGINT: times of the monotonic clock, and what was used."""

    counted: float
    interrupted: float
    rate: float
    cpu_s: float
    peak_mb: float


def watch(tool: Tool, workload: Running, window_s: float, folder: Path) -> Watched:
    """Runs a tool on a workload for `window_s` from when it counts, then to its picture while the workload is paused.

    All files are in a folder of their own within `folder`, which is removed. Raises `ToolFailed` with what the tool
    said if it doesn't count within 30 s, isn't done within 60 s after SIGINT, or fails; `CannotTest` if it can't run.
    """
    beginning = BEGINNINGS.get(tool.name, Beginning())
    with tempfile.TemporaryDirectory(prefix="lf-watch-", dir=folder) as name:
        place = Path(name)
        with started(tool.name, tool.command(workload.pid, place), place) as run:
            recorded = _record(run, beginning, workload, window_s)
            with _paused(workload):
                run.finish(GOOD_ENDS)
                in_files = _size_mb(place)
                drawn = _draw(tool, place)
        if tool.has_picture and not (place / PICTURE).is_file():
            raise ToolFailed(f"{tool.name} has drawn nothing")
        runs = [run, *drawn]
        first = beginning.since(place) or recorded.counted
        usage = Usage(
            cpu_recording_s=recorded.cpu_s,
            cpu_total_s=sum(one.cpu_s for one in runs),
            peak_recording_mb=recorded.peak_mb,
            peak_total_mb=max(one.peak_mb for one in runs),
            # What goes through a pipe from one program to the next counts for nobody: files do.
            written_mb=run.written_mb + _size_mb(place) - in_files,
            first_sample_s=first - run.started,
            to_picture_s=runs[-1].ended - recorded.interrupted,
        )
        return Watched(usage, recorded.rate, tool.answer(place))


def _record(run: Run, beginning: Beginning, workload: Running, window_s: float) -> _Recorded:
    """Until SIGINT, which is sent."""
    counted = run.wait_until_counting(beginning)
    before = workload.progress()
    run.look_for(window_s)
    after = workload.progress()
    cpu_s = run.look()
    rate = (after.work - before.work) / (after.time_s - before.time_s)
    interrupted = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    return _Recorded(counted, interrupted, rate, cpu_s, run.peak_mb)


def _draw(tool: Tool, place: Path) -> list[Run]:
    drawn: list[Run] = []
    for command in tool.to_picture(place):
        with started(f"{tool.name}: {Path(command[0]).name}", command, place) as run:
            run.finish()
            drawn.append(run)
    return drawn


@contextlib.contextmanager
def _paused(workload: Running) -> Iterator[None]:
    workload.pause()
    try:
        yield
    finally:
        workload.resume()


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
