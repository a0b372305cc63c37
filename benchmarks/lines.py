"""Source lines and inlined frames of a large C++ program: how fast, beside `perf script`, and how right they are."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.naming import NamingTimes, empty_cache, naming_times
from benchmarks.naming import record as record_raw
from benchmarks.perf_output import perf_record, perf_stacks
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import Usage, lockflame_tool, measure
from lockflame.pprof import read
from lockflame.profile import FrameKind, Location, Profile
from tests.support.addr2line import SourceFrame, addr2line, agree, frames_of
from tests.support.big_program import LARGE, build_big_program, debug_bytes
from tests.support.debug_files import build_id_path
from tests.support.needs import CannotTest, find_program
from tests.support.process import Target, kill_group, running

FREQUENCY_HZ = 199
SAMPLES = 2_000
SECONDS_MOST = 60.0
DEBUG_MB = 50
PERF_SECONDS_MOST = 300
QUICK_PERF_SECONDS_MOST = 90
TIMES_FASTER = 20
FIRST_SECONDS_MOST = 3
SECOND_SECONDS_MOST = 0.5
ADDRESSES = 1_000
LIBRARY_ADDRESSES = 200
AGREEING_LEAST_PERCENT = 99.5
DIFFERENCES_SHOWN = 5
DEBUG_ROOT = Path("/usr/lib/debug")


@dataclass(frozen=True, slots=True)
class Peer:
    """What `perf script` took for its samples; `is_whole` unless it was stopped before its end."""

    seconds: float
    samples: int
    is_whole: bool

    def seconds_for(self, samples: int) -> float:
        """The same for another number of samples."""
        return self.seconds * samples / max(1, self.samples)


@dataclass(frozen=True, slots=True)
class Round:
    """Two recordings: with a cache folder that was empty, and with what the first one has left there."""

    first: Usage
    second: Usage
    first_profile: Profile
    second_profile: Profile


@benchmark("lines")
def lines(settings: Settings) -> Report:
    """The way from the end of a recording to both files, with lines and inlined frames, cold and warm."""
    program = build_big_program(*LARGE)
    perf_most = PERF_SECONDS_MOST if settings.rounds > 2 else QUICK_PERF_SECONDS_MOST
    with tempfile.TemporaryDirectory(prefix="lf-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        names_only, with_lines = measure_perf(program, folder, perf_most)
        same = measure_same_samples(program, settings.rounds)
        rounds = [measure_ours(program, folder) for _ in range(min(2, settings.rounds))]
    title = (
        f"A C++ program with {debug_bytes(program) / 1e6:.0f} MB of debug info, {FREQUENCY_HZ} Hz, "
        f"about {SAMPLES:,} samples, files in the page cache: medians of {settings.rounds}"
    )
    return Report(
        title,
        "perf script",
        _figures(same, rounds, names_only, with_lines),
        _remarks(same, rounds, with_lines, program),
    )


@benchmark("addr2line")
def lines_agreement(settings: Settings) -> Report:
    """The share of sampled addresses at which all functions, files, lines and inlined frames are those of addr2line."""
    program = build_big_program(*LARGE)
    with tempfile.TemporaryDirectory(prefix="lf-bench-", dir="/var/tmp") as name, empty_cache(Path(name)):
        usage_profile = record_ours(program, Path(name))[1]
    debug_files = {str(program): program, **library_debug_files(usage_profile)}
    figures: list[Figure] = []
    remarks: list[str] = []
    for path, debug_file in debug_files.items():
        wanted = ADDRESSES if debug_file == program else LIBRARY_ADDRESSES
        locations = some_locations(usage_profile, path, wanted)
        compared = compare(usage_profile, locations, debug_file)
        differing = [pair for pair in compared if not agree(*pair)]
        share = 100 * (1 - len(differing) / max(1, len(compared)))
        inlined = sum(len(theirs) > 1 for _, theirs in compared)
        name = os.path.basename(path)
        figures.append(Figure(f"{name}: same frames", "%", [share], (), AGREEING_LEAST_PERCENT, limit_is_least=True))
        remarks.append(f"{name}: {len(compared):,} addresses, {inlined:,} of them inlined, {len(differing)} differ")
        if debug_file == program and len(compared) < ADDRESSES:
            remarks.append(f"fewer than the {ADDRESSES:,} addresses that the limit is for")
        remarks += [_difference(*pair) for pair in differing[:DIFFERENCES_SHOWN]]
    return Report("Function names, files, lines and inlined frames as by addr2line -fie", "", figures, remarks)


def measure_perf(program: Path, folder: Path, seconds_most: float) -> tuple[Peer, Peer]:
    """`perf script` on a recording of its own: with inlined frames, and with source lines too."""
    data = folder / "perf.data"
    with running([program]) as target:
        perf_record(target.pid, seconds_for_samples(target.pid), data, "dwarf,16384", FREQUENCY_HZ)
    samples = len(perf_stacks(data))
    return (
        _time_perf(data, "time,ip,sym", samples, seconds_most),
        _time_perf(data, "time,ip,sym,srcline", samples, seconds_most),
    )


def measure_same_samples(program: Path, rounds: int) -> NamingTimes:
    """One recording of ours, named with an empty cache and again."""
    with running([program]) as target:
        raw = record_raw(target.pid, seconds_for_samples(target.pid), FREQUENCY_HZ)
        _hold_still(target)
        try:
            return naming_times(raw, target.pid, rounds)
        finally:
            raw.close()


def seconds_for_samples(pid: int) -> int:
    """How long a recording has to be for `SAMPLES` samples, by the CPU time that the program gets at present."""
    before = _cpu_seconds(pid)
    time.sleep(1)
    busy_cpus = max(0.05, _cpu_seconds(pid) - before)
    # A tenth more, since it may get less from now on.
    return math.ceil(min(SECONDS_MOST, 1.1 * SAMPLES / (FREQUENCY_HZ * busy_cpus)))


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process: fields 14 and 15 of proc_pid_stat(5), two behind the name."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_ours(program: Path, folder: Path) -> Round:
    """Record twice, the first time with nothing in the cache."""
    with empty_cache(folder):
        first, first_profile = record_ours(program, folder)
        second, second_profile = record_ours(program, folder)
    return Round(first, second, first_profile, second_profile)


def record_ours(program: Path, folder: Path) -> tuple[Usage, Profile]:
    """`lockflame record` of the program, which holds still as soon as the recording is over."""
    with running([program]) as target:
        seconds = seconds_for_samples(target.pid)
        tool = lockflame_tool(target.pid, seconds, folder, "-F", str(FREQUENCY_HZ))
        usage = measure(tool, seconds, on_recorded=lambda: _hold_still(target))
    return usage, read(str(folder / "ours.pb.gz"))


def library_debug_files(profile: Profile) -> dict[str, Path]:
    """The installed debug files of the libraries of a profile, by the library's path."""
    found: dict[str, Path] = {}
    for mapping in profile.mappings:
        debug_file = build_id_path(DEBUG_ROOT, mapping.build_id) if mapping.build_id else None
        if debug_file is not None and debug_file.exists():
            found[mapping.path] = debug_file
    return found


def some_locations(profile: Profile, path: str, most: int) -> list[Location]:
    """Locations in one file, chosen at random, each time the same ones."""
    inside = [
        location
        for location in profile.locations
        if location.kind == FrameKind.USER and location.mapping >= 0 and profile.mappings[location.mapping].path == path
    ]
    return random.Random(1).sample(inside, min(most, len(inside)))


def compare(
    profile: Profile, locations: Sequence[Location], debug_file: Path
) -> list[tuple[list[SourceFrame], list[SourceFrame]]]:
    """Our frames and addr2line's at each of the locations."""
    theirs = addr2line(debug_file, [location.address for location in locations])
    return [(frames_of(profile, location), other) for location, other in zip(locations, theirs, strict=True)]


def _figures(same: NamingTimes, rounds: Sequence[Round], names_only: Peer, with_lines: Peer) -> list[Figure]:
    inlined_peer = [names_only.seconds_for(same.samples)] * len(same.cold)
    lines_peer = [with_lines.seconds_for(same.samples)] * len(same.cold)
    faster = [theirs / ours for ours, theirs in zip(same.cold, inlined_peer, strict=True)]
    faster_lines = [theirs / ours for ours, theirs in zip(same.cold, lines_peer, strict=True)]
    first = [one.first.to_files for one in rounds]
    another = [one.second.to_files for one in rounds]
    return [
        Figure("first run: unwound, named, with lines and inlined frames", "s", same.cold, lines_peer,
               FIRST_SECONDS_MOST),
        Figure("second run, the same samples", "s", same.warm, lines_peer, SECOND_SECONDS_MOST),
        Figure("first run: times as fast as perf script with lines", "×", faster_lines, (), TIMES_FASTER,
               limit_is_least=True),
        Figure("first run: times as fast as perf script without lines", "×", faster, (), TIMES_FASTER,
               limit_is_least=True),
        Figure("lockflame record, from the end of the recording to both files", "s", first),
        Figure("another recording after it: the same", "s", another),
        Figure("first run: peak memory in all", "MB", [one.first.peak_total for one in rounds]),
        Figure("the program's frames that have a line", "%", [_lined_percent(one) for one in rounds], (), 99,
               limit_is_least=True),
    ]  # fmt: skip


def _remarks(same: NamingTimes, rounds: Sequence[Round], peer: Peer, program: Path) -> list[str]:
    samples = [profile.recording.samples for one in rounds for profile in (one.first_profile, one.second_profile)]
    inlined = [sum(len(location.lines) > 1 for location in one.first_profile.locations) for one in rounds]
    remarks = [
        f"{same.samples:,} samples at {same.locations:,} addresses, perf's {peer.samples:,} (its time is scaled to "
        f"ours); at least {min(inlined):,} addresses with inlined frames",
        "perf script -F time,ip,sym,srcline (without lines: time,ip,sym) reads its file and prints; the first and the "
        "second run are ours without Python's start; lockflame record is all that a user waits for",
    ]
    if not peer.is_whole:
        remarks.append(f"perf script was stopped after {peer.seconds:.0f} s: its times are lower limits")
    if min(samples) < SAMPLES:
        remarks.append(f"fewer than the {SAMPLES:,} samples that the limits are for")
    if debug_bytes(program) < DEBUG_MB * 10**6:
        remarks.append(f"less than the {DEBUG_MB} MB of debug info that the limits are for")
    if not all(usage.end_seen for one in rounds for usage in (one.first, one.second)):
        remarks.append("the end of a recording of ours was not seen: start and attaching count towards the files")
    notes = {note for one in rounds for note in one.first_profile.recording.notes}
    return remarks + sorted(notes)


def _lined_percent(one: Round) -> float:
    """Of the large program's locations."""
    profile = one.first_profile
    of_program = [
        location
        for location in profile.locations
        if location.mapping >= 0 and profile.mappings[location.mapping].path.endswith("big_program")
    ]
    return 100 * sum(location.lines[0].line > 0 for location in of_program) / max(1, len(of_program))


def _time_perf(data: Path, fields: str, samples: int, seconds_most: float) -> Peer:
    """Run `perf script` with inlined frames, its default, to its end or for the time that it may take."""
    quiet = subprocess.DEVNULL
    start = time.monotonic()
    process = subprocess.Popen(
        [str(find_program("perf")), "script", "-F", fields, "-i", str(data)],
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )
    try:
        status = process.wait(seconds_most)
    except subprocess.TimeoutExpired:
        return Peer(seconds_most, samples, is_whole=False)
    finally:
        seconds = time.monotonic() - start
        kill_group(process)
    if status != 0:
        raise CannotTest(f"perf script ended with status {status}")
    return Peer(seconds, samples, is_whole=True)


def _hold_still(target: Target) -> None:
    """The program stays, with its mappings and files, and leaves the CPUs alone."""
    os.kill(target.pid, signal.SIGSTOP)


def _difference(ours: list[SourceFrame], theirs: list[SourceFrame]) -> str:
    return f"ours {' < '.join(map(str, ours))} | theirs {' < '.join(map(str, theirs))}"
