"""Names of JIT-compiled code, from the map that a runtime writes for perf: /tmp/perf-PID.map.

Its format is that of linux/tools/perf/Documentation/jit-interface.txt: `START SIZE name` a line, in hex.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = -1
BYTES_MOST = 256 << 20
"""Of a longer map the rest isn't read; the line that is cut off counts as skipped."""


@dataclass(frozen=True, slots=True, eq=False)
class PerfMap:
    """JIT functions by address: from `bounds[i]` (uint64, sorted) to the next, `owners[i]` (int32) of `names`.

    `NOTHING` owns what lies between functions. `skipped` counts lines that couldn't be read.
    """

    bounds: NDArray[np.uint64]
    owners: NDArray[np.int32]
    names: tuple[str, ...]
    skipped: int = 0

    def find(self, address: int) -> str | None:
        """The name of the function at an address."""
        index = int(np.searchsorted(self.bounds, np.uint64(address), side="right")) - 1
        owner = int(self.owners[index]) if index >= 0 else NOTHING
        return self.names[owner] if owner != NOTHING else None


def read_perf_map(pid: int) -> PerfMap | None:
    """Reads the map of process `pid`, in its own mount and pid namespace if it still lives.

    None when there is none. Anyone may write to /tmp: only a regular file of the process's own user
    (or of root) is taken.
    """
    candidates = [f"/proc/{pid}/root/tmp/perf-{_pid_inside(pid)}.map", f"/tmp/perf-{pid}.map"]
    for path in candidates:
        content = _read_trusted(path, pid)
        if content is not None:
            return parse_perf_map(content)
    return None


def parse_perf_map(content: bytes) -> PerfMap:
    """Where code was written over, the later line counts."""
    ranges: list[tuple[int, int]] = []
    names: list[str] = []
    skipped = 0
    for line in content.splitlines():
        fields = line.split(None, 2)
        try:
            start, size = int(fields[0], 16), int(fields[1], 16)
            name = os.fsdecode(fields[2]).strip()
        except (ValueError, IndexError):
            skipped += 1
            continue
        if not 0 < size < 2**48 or not 0 <= start < 2**63 or not name:
            skipped += 1
            continue
        ranges.append((start, start + size))
        names.append(name)
    bounds = np.unique(np.array(ranges, dtype=np.uint64))
    owners = np.full(len(bounds), NOTHING, dtype=np.int32)
    places = np.searchsorted(bounds, np.array(ranges, dtype=np.uint64).reshape(-1, 2))
    _paint(owners, places.tolist())
    return PerfMap(bounds, owners, tuple(names), skipped)


def _paint(owners: NDArray[np.int32], places: list[tuple[int, int]]) -> None:
    """Gives each segment the last of the ranges (of segments) that hold it, looking at each segment once."""
    # From each segment, the way to the next one that has no owner yet; halved as it is walked.
    next_free = list(range(len(owners) + 1))

    def free_from(at: int) -> int:
        while next_free[at] != at:
            next_free[at] = at = next_free[next_free[at]]
        return at

    for owner in range(len(places) - 1, -1, -1):
        first, last = places[owner]
        at = free_from(first)
        while at < last:
            owners[at] = owner
            next_free[at] = at + 1
            at = free_from(at)


def _pid_inside(pid: int) -> int:
    """The process's number in its own pid namespace (the last one in NSpid of proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        pass  # it has ended; its number is all that is known
    return pid


def _read_trusted(path: str, pid: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in _owners(pid):
            return None
        return file.read(BYTES_MOST)


def _owners(pid: int) -> set[int]:
    try:
        return {0, os.geteuid(), os.stat(f"/proc/{pid}").st_uid}
    except OSError:
        return {0, os.geteuid()}
