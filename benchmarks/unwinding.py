"""How fast stacks are unwound, on one core, beside `perf script --no-inline` on the same samples."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loads import mariadb
from benchmarks.perf_output import perf_record, perf_script_command
from benchmarks.perf_samples import PerfSamples, fresh_namer, load_perf_samples
from benchmarks.registry import Figure, Report, Settings, benchmark
from symbolize.rule_store import RuleStore

STACK_BYTES = 16384
FREQUENCY_HZ = 2999
RECORD_SECONDS = 7
SAMPLES = 15_000
FIRST = 2_000
CPU = 1


@benchmark("unwinding")
def unwinding(settings: Settings) -> Report:
    """Stacks a second with rules known and unknown; the samples come from one recording by perf."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-", dir="/var/tmp") as folder:
        data = Path(folder) / "perf.data"
        with mariadb() as pid:
            perf_record(pid, RECORD_SECONDS, data, f"dwarf,{STACK_BYTES}", FREQUENCY_HZ)
        samples = load_perf_samples(data)
        with on_one_core():
            return measure_all(samples, data, RuleStore(Path(folder) / "rules"), settings.rounds)


def measure_all(samples: PerfSamples, data: Path, store: RuleStore, rounds: int) -> Report:
    """All figures, each round ours and perf's in turn."""
    stacks, code, rules = samples.unwind_cold()
    for image in rules.learned:
        store.save(code.rules_key(image), rules.of_image(image))
    decoded_again = len(samples.unwind_stored(store).learned)
    depth = float(np.mean(np.diff(stacks.callchains.offsets)))
    first = samples.first(FIRST)
    warm: list[float] = []
    stored: list[float] = []
    cold: list[float] = []
    named: list[float] = []
    first_cold: list[float] = []
    perf: list[float] = []
    misses = rules.misses
    for _ in range(rounds):
        perf.append(seconds_of(lambda: run_quietly(perf_script_command(data))))
        warm.append(seconds_of(lambda: samples.unwind(code, rules)))
        stored.append(seconds_of(lambda: samples.unwind_stored(store)))
        cold.append(seconds_of(samples.unwind_cold))
        named.append(seconds_of(lambda: unwind_and_name(samples)))
        first_cold.append(seconds_of(first.unwind_cold))
    faster = [theirs / ours for ours, theirs in zip(warm, perf, strict=True)]
    count = len(samples)
    figures = [
        Figure("stacks a second, rules known", "1/s", [count / one for one in warm], [count / one for one in perf],
               80_000, limit_is_least=True),
        Figure("times as fast as perf script, rules known", "×", faster, (), 8, limit_is_least=True),
        Figure("all stacks, rules known", "s", warm, perf),
        Figure("all stacks, binaries opened and rules read from disk", "s", stored, perf),
        Figure("all stacks, no rules known", "s", cold, perf, 1, limit_is_ratio=True),
        Figure("all stacks, nothing known, every frame named", "s", named, perf),
        Figure(f"first {FIRST:,} stacks, no rules known", "s", first_cold, (), 1),
    ]  # fmt: skip
    remarks = [
        f"{count:,} samples, mean depth {depth:.1f}, {len(rules.table):,} rows of rules known",
        "perf script reads the file, unwinds, names and prints; ours unwinds copies that are in memory",
    ]
    if count < SAMPLES:
        remarks.append(f"fewer than the {SAMPLES:,} samples that the limits are for")
    if decoded_again:
        remarks.append(f"of {decoded_again} images some rules were not on disk")
    if rules.misses != misses:
        remarks.append(f"{rules.misses - misses} look-ups missed although all rules were known")
    title = f"Unwinding MariaDB's stacks on one core, copies of {STACK_BYTES:,} bytes, CPU time: medians of {rounds}"
    return Report(title, "perf script", figures, remarks)


def unwind_and_name(samples: PerfSamples) -> None:
    """Unwinds all stacks and names each distinct frame, from nothing."""
    stacks, code, _ = samples.unwind_cold()
    space = np.repeat(samples.space, np.diff(stacks.callchains.offsets))
    keys = code.keys(space, stacks.callchains.addresses - (~stacks.is_exact).astype(np.uint64))
    fresh_namer(code).names(np.unique(keys))


def run_quietly(command: list[str]) -> None:
    """Run a command whose output nobody reads."""
    quiet = subprocess.DEVNULL
    subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=True)


def seconds_of(work: Callable[[], Any]) -> float:
    """The CPU time that something takes, in this process and in what it starts: as if the core were ours alone."""
    gc.collect()
    start = _cpu_seconds()
    work()
    return _cpu_seconds() - start


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """This thread, and what it starts, stay on one CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPU} & allowed or {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
