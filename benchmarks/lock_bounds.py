"""What following lock waits takes at most: samples and memory with a thousand threads, time until it records."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import Tool, lockflame_tool, measure
from lockflame.pprof import read
from lockflame.profile import RecordingInfo
from tests.support.process import running
from tests.support.recording import lockflame_session
from tests.support.targets import build_target

WAITING_THREADS, LOCKS = 1000, 100
BUSY_THREADS = 32
RATE_LIMIT = 1.2
MEMORY_LIMIT_MB = 250
ATTACH_LIMIT_S, BUSY_ATTACH_LIMIT_S = 1.0, 3.0
ATTACH_TIMEOUT_S = 120


@benchmark("lock-bounds")
def lock_bounds(settings: Settings) -> Report:
    """A thousand threads on a hundred locks; and the way to a recording at rest and under load."""
    figures, remarks = thousand_threads(settings)
    attach_figures = attach_times(settings)
    return Report(
        f"record --locks: {WAITING_THREADS:,} threads on {LOCKS} locks; until it records, at rest and beside "
        f"{BUSY_THREADS} busy threads: medians of {settings.rounds}",
        "asked",
        [*figures, *attach_figures],
        remarks,
    )


def thousand_threads(settings: Settings) -> tuple[list[Figure], list[str]]:
    """The rate of wait samples beside what was asked for, and the memory of all processes of ours, with the compile."""
    rates: list[float] = []
    asked: list[float] = []
    recording_mb: list[float] = []
    total_mb: list[float] = []
    remarks: list[str] = []
    options = ["--threads", str(WAITING_THREADS), "--locks", str(LOCKS)]
    with running([build_target("lock_many.cpp"), *options], wait_ready=True) as target:
        for _ in range(settings.rounds):
            with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
                tool = with_empty_cache(lockflame_tool(target.pid, settings.seconds, Path(folder), "--locks"), folder)
                usage = measure(tool, settings.seconds)
                profile = read(str(Path(folder, "ours.pb.gz")))
            rates.append(profile.recording.wait_samples / (profile.recording.duration_ns / 1e9))
            asked.append(profile.recording.frequency_asked_hz)
            recording_mb.append(usage.peak_recording)
            total_mb.append(usage.peak_total)
            remarks.append(what_was_seen(profile.recording, sum(lock.ends.total for lock in profile.locks)))
    figures = [
        # All of this target's waits are for mutexes: they share one budget.
        Figure("wait samples; asked", "1/s", rates, asked, RATE_LIMIT, limit_is_ratio=True),
        Figure("peak memory, compile and recording", "MB", recording_mb, limit=MEMORY_LIMIT_MB),
        Figure("peak memory in all", "MB", total_mb, limit=MEMORY_LIMIT_MB),
    ]
    return figures, remarks


def what_was_seen(recording: RecordingInfo, waits: int) -> str:
    """A round in numbers."""
    seconds = recording.duration_ns / 1e9
    return (
        f"{waits:,} waits in {seconds:.2f} s, {recording.wait_samples:,} stacks of waiters, "
        f"{recording.holder_samples:,} of holders, {recording.samples:,} of CPU time; {recording.lost:,} lost, "
        f"{recording.waits_left_out:,} waits left out, {recording.waits_unseen:,} unseen"
    )


def with_empty_cache(tool: Tool, folder: str) -> Tool:
    """The same with nothing kept from before, so that it compiles."""
    return Tool(tool.name, ["env", f"XDG_CACHE_HOME={folder}/cache", *tool.command], tool.recorded_line)


def attach_times(settings: Settings) -> list[Figure]:
    """Seconds from the start of the command to its recording, with nothing kept from before and with all kept."""
    seconds: dict[tuple[bool, bool], list[float]] = {
        (busy, warm): [] for busy in (False, True) for warm in (False, True)
    }
    order = random.Random(1)
    for _ in range(settings.rounds):
        for busy in order.sample([False, True], 2):
            with attach_target(busy) as pid, tempfile.TemporaryDirectory(prefix="lf-bench-") as cache:
                for warm in (False, True):
                    seconds[busy, warm].append(attach_seconds(pid, cache))
    return [
        Figure(
            f"until it records, {'busy' if busy else 'at rest'}, {'kept' if warm else 'empty'} cache",
            "s",
            times,
            limit=BUSY_ATTACH_LIMIT_S if busy else ATTACH_LIMIT_S,
        )
        for (busy, warm), times in seconds.items()
    ]


@contextlib.contextmanager
def attach_target(busy: bool) -> Iterator[int]:
    """A program whose threads sleep, or are all at work."""
    working = BUSY_THREADS if busy else 0
    options = ["--threads", str(BUSY_THREADS), "--working", str(working)]
    with running([build_target("many_threads.c"), *options]) as target:
        yield target.pid


def attach_seconds(pid: int, cache: str) -> float:
    """Starts a recording, and gives it up once it records."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as folder:
        start = time.monotonic()
        command = ["record", "-p", pid, "-d", 600, "--locks", "-o", f"{folder}/ours.pb.gz"]
        with lockflame_session(*command, env={"XDG_CACHE_HOME": cache}) as session:
            session.wait_until_recording(ATTACH_TIMEOUT_S)
            return time.monotonic() - start
