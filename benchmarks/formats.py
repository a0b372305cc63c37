"""How long many profiles take to be merged, and a large file of folded stacks to be read, and in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.registry import Figure, Report, Settings, benchmark
from lockflame.pprof import encode
from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)
from tests.support.paths import REPO

PROFILES = 100
STACKS = 10_000
DEPTH = 30
FUNCTIONS = 3000
LOCATIONS = 6000
THREADS = 8
NS_PER_SAMPLE = 10_101_010
POOL_STACKS = 50_000
"""Of the program that all profiles are of: each has some of them."""

MERGE_SECONDS_MOST = 5.0
MERGE_MB_MOST = 500.0
FOLDED_MB = 1000
FOLDED_QUICK_MB = 50
FOLDED_MEMORY_MB_MOST = 500.0

# In a process of its own, which tells its seconds, CPU seconds and peak memory in MB: VmHWM, as ru_maxrss begins with
# that of the process that forked. What merge starts takes no more than it does itself, at another time.
MEASURED = """
import json, resource, sys, time
from pathlib import Path
start, cpu = time.monotonic(), time.process_time()
{work}
children = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, cpu = time.monotonic() - start, time.process_time() - cpu + children.ru_utime + children.ru_stime
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([seconds, cpu, peak]))
"""
MERGE = """
from lockflame.cli import run
folder = sys.argv[1]
assert run(["merge", *sorted(map(str, Path(folder).glob("in-*.pb.gz"))), "-o", folder + "/out.pb.gz"]) == 0
"""
FOLDED = """
from lockflame.formats import read_profile
read_profile(sys.argv[1])
"""


def program_stacks(stacks: int, seed: int) -> list[list[int]]:
    """Stacks as a program has them: each begins as an earlier one does. Leaf last."""
    random = np.random.default_rng(seed)
    result: list[list[int]] = [[0]]
    for parent, kept, new in zip(
        random.random(stacks).tolist(),
        random.random(stacks).tolist(),
        random.integers(0, LOCATIONS, stacks * DEPTH).reshape(stacks, DEPTH).tolist(),
        strict=True,
    ):
        before = result[int(parent * len(result))]
        length = int(kept * min(len(before), DEPTH - 1))
        result.append([*before[: length + 1], *new[length + 1 :]])
    return result[1:]


def profile_of(pool: list[list[int]], chosen: list[int], pid: int) -> Profile:
    """A profile of some of the stacks, in as many samples."""
    random = np.random.default_rng(pid)
    stacks = [pool[number][::-1] for number in chosen]
    count = len(stacks)
    values = np.array([1, NS_PER_SAMPLE], np.int64) * random.integers(1, 10, (count, 1))
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(Mapping(0x400000, 0x800000, 0, "/usr/bin/server", "ab" * 20),),
        functions=tuple(
            Function(f"ns::Class{n % 97}::method_{n}(int)", f"_ZN2ns{n}", f"/src/{n % 300}.cc", n % 900)
            for n in range(FUNCTIONS)
        ),
        locations=tuple(
            Location(0x400000 + 16 * n, 0, (Line(n % FUNCTIONS, n % 900),), FrameKind.USER) for n in range(LOCATIONS)
        ),
        threads=tuple(Thread(pid, pid + n, f"worker-{n}") for n in range(THREADS)),
        stacks=Stacks(
            np.cumsum([0, *map(len, stacks)], dtype=np.int64),
            np.array([location for stack in stacks for location in stack], np.int32),
        ),
        samples=samples_of_no_lock(
            np.arange(count, dtype=np.int32), random.integers(0, THREADS, count).astype(np.int32), values
        ),
        recording=RecordingInfo(command="server", pid=pid, duration_ns=10**10, samples=int(values[:, 0].sum())),
    )


@benchmark("formats")
def formats(settings: Settings) -> Report:
    """Merging and reading of files."""
    is_quick = settings == Settings.quick()
    with tempfile.TemporaryDirectory(prefix="lockflame-bench-") as name:
        folder = Path(name)
        _write_profiles(folder)
        rounds = [_measured(MERGE, folder) for _ in range(settings.rounds)]
        merge_seconds, merge_cpu, merge_mb = (list(column) for column in zip(*rounds, strict=True))
        size_mb = FOLDED_QUICK_MB if is_quick else FOLDED_MB
        write_folded(folder / "large.folded", size_mb << 20)
        folded_seconds, folded_cpu, folded_mb = _measured(FOLDED, folder / "large.folded")
    return Report(
        title="Files of many and of others",
        peer_name="",
        figures=[
            Figure(f"{PROFILES} profiles of {STACKS:,} stacks merged", "s", merge_seconds, limit=MERGE_SECONDS_MOST),
            Figure("the same, CPU time", "s", merge_cpu),
            Figure("the same, peak memory", "MB", merge_mb, limit=MERGE_MB_MOST),
            Figure(f"{size_mb} MB of folded stacks read", "s", [folded_seconds]),
            Figure("the same, CPU time", "s", [folded_cpu]),
            Figure("the same, peak memory", "MB", [folded_mb], limit=FOLDED_MEMORY_MB_MOST),
        ],
    )


def _write_profiles(folder: Path) -> None:
    pool = program_stacks(POOL_STACKS, 1)
    random = np.random.default_rng(2)
    for number in range(PROFILES):
        chosen: list[int] = random.choice(len(pool), STACKS, replace=False).tolist()
        (folder / f"in-{number:03}.pb.gz").write_bytes(encode(profile_of(pool, chosen, 1000)))


def write_folded(path: Path, size: int) -> None:
    """A file of at least so many bytes whose lines are of `POOL_STACKS` stacks."""
    pool = program_stacks(POOL_STACKS, 3)
    lines = [";".join(f"ns::Class{n % 97}::method_{n}" for n in stack).encode() for stack in pool]
    random = np.random.default_rng(4)
    with path.open("wb") as file:
        while file.tell() < size:
            chosen: list[int] = random.integers(0, len(lines), 10_000).tolist()
            file.write(b"".join(b"%s %d\n" % (lines[number], number % 7 + 1) for number in chosen))


def _measured(work: str, path: Path) -> list[float]:
    command = [sys.executable, "-c", MEASURED.format(work=work), str(path)]
    return json.loads(subprocess.run(command, cwd=REPO, capture_output=True, check=True, text=True).stdout)
