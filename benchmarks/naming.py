"""How long a busy MariaDB's recording takes to symbolize, with an empty cache and with a full one."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loads import shared_mariadb
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import ToolFailed
from lockflame.cli import profiling
from lockflame.profile import Profile
from sampler.recorder import RawRecording, Recorder
from sampler.signals import StopSignals

FORK = multiprocessing.get_context("fork")
FREQUENCY_HZ = 99
STACK_BYTES = 32768
THREADS = 32
COLD_SECONDS_MOST = 0.5
WARM_SECONDS_MOST = 0.15


@benchmark("naming")
def naming(settings: Settings) -> Report:
    """The time within `symbolize`, after all imports, on one recording; each time in a process of its own."""
    server = shared_mariadb()
    with server.sysbench("oltp_read_write", THREADS):
        raw = record(server.pid, settings.seconds)
    try:
        return measure_naming(raw, server.pid, settings)
    finally:
        raw.close()


def measure_naming(raw: RawRecording, pid: int, settings: Settings) -> Report:
    """Cold and warm in turn."""
    times = naming_times(raw, pid, settings.rounds)
    figures = [
        Figure("cache empty", "s", times.cold, (), COLD_SECONDS_MOST),
        Figure("cache full", "s", times.warm, (), WARM_SECONDS_MOST),
    ]
    remarks = [f"{times.samples:,} samples at {times.locations:,} addresses, unwound and named"]
    title = f"MariaDB's stacks to names, {settings.seconds} s at {FREQUENCY_HZ} Hz: medians of {settings.rounds}"
    return Report(title, "", figures, remarks)


@dataclass(frozen=True, slots=True)
class NamingTimes:
    """Seconds of each round for the same samples: with nothing in the cache, and with what that has left there."""

    cold: list[float]
    warm: list[float]
    samples: int
    locations: int


def naming_times(raw: RawRecording, pid: int, rounds: int) -> NamingTimes:
    """The time within `symbolize`, after all imports; each time in a process of its own."""
    cold: list[float] = []
    warm: list[float] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lf-bench-", dir="/var/tmp") as name:
        with empty_cache(Path(name)):
            for module in in_child(lambda: modules_after(raw, pid)):
                importlib.import_module(module)
        for _ in range(rounds):
            with empty_cache(Path(name)):
                cold.append(in_child(lambda: timed(raw, pid))["seconds"])
                found = in_child(lambda: timed(raw, pid))
                warm.append(found["seconds"])
    return NamingTimes(cold, warm, found["samples"], found["locations"])


def record(pid: int, seconds: float, frequency_hz: int = FREQUENCY_HZ) -> RawRecording:
    """What `lockflame record` has when it begins to name frames."""
    recorder = Recorder(pid, frequency_hz, STACK_BYTES)
    try:
        recorder.start()
        with StopSignals() as stop:
            recorder.run(seconds, stop, lambda _: True, None)
        return recorder.finish()
    finally:
        recorder.close()


def modules_after(raw: RawRecording, pid: int) -> list[str]:
    """What is imported by the time that a profile is made; some of it late."""
    before = set(sys.modules)
    profiling.profile_of(raw, pid, "")
    return [name for name in sys.modules if name not in before]


def timed(raw: RawRecording, pid: int) -> dict[str, float]:
    """The seconds within `symbolize`, without the decoding before it."""
    symbolize = profiling.symbolize
    seconds = 0.0

    def symbolize_timed(*arguments: Any, **options: Any) -> Profile:
        nonlocal seconds
        start = time.perf_counter()
        profile = symbolize(*arguments, **options)
        seconds = time.perf_counter() - start
        return profile

    profiling.symbolize = symbolize_timed
    profile = profiling.profile_of(raw, pid, "")
    return {"seconds": seconds, "samples": profile.recording.samples, "locations": len(profile.locations)}


def in_child(work: Callable[[], Any]) -> Any:
    """Do something in a forked process, which leaves nothing in this one's memory; returns its answer."""
    with tempfile.TemporaryFile("w+") as answer:
        child = FORK.Process(target=lambda: answer.write(json.dumps(work())) and answer.flush())
        child.start()
        child.join()
        if child.exitcode != 0:
            raise ToolFailed(f"naming in a process of its own ended with status {child.exitcode}")
        answer.seek(0)
        return json.load(answer)


@contextmanager
def empty_cache(folder: Path) -> Generator[None]:
    """A cache folder of its own, for this process and those that it starts."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="cache-", dir=folder) as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before
