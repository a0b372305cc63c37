"""Reads what the tests need of a `perf.data` file: user registers, stack copies, executable mappings.

The format: linux/tools/perf/Documentation/perf.data-file-format.txt and
linux/include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lockflame.events import FileMapping
from lockflame.samples import StackCopies

RECORD_MMAP2, RECORD_COMM, RECORD_FORK, RECORD_SAMPLE = 10, 3, 7, 9
COMM_EXEC = 1 << 13
PROT_EXEC = 4
USER_REGISTERS = 0xFF0FFF
IP, TID, TIME, ADDR, CALLCHAIN, ID, CPU, PERIOD, STREAM_ID, REGS_USER, STACK_USER, IDENTIFIER = (
    *(1 << bit for bit in (0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 16)),
)


@dataclass
class PerfData:
    pids: list[int] = field(default_factory=list)
    tids: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    registers: list[tuple[int, ...]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    events: list[tuple[int, int, FileMapping | int | None]] = field(default_factory=list)
    words: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def registers_array(self) -> np.ndarray:
        rows = [row or (0,) * 20 for row in self.registers]
        return np.array(rows, np.uint64).reshape(-1, 20)

    def has_registers(self) -> np.ndarray:
        return np.array([bool(row) for row in self.registers], np.bool_)

    def stacks(self) -> StackCopies:
        return StackCopies(self.words, np.array(self.starts, np.int64), np.array(self.counts, np.int64))

    def mappings(self) -> dict[int, list[FileMapping]]:
        """The executable mappings of each process as they were at the end."""
        found: dict[int, list[FileMapping]] = {}
        for _, pid, what in sorted(self.events, key=lambda event: event[0]):
            if what is None:
                found[pid] = []
            elif isinstance(what, int):
                found.setdefault(pid, list(found.get(what, [])))
            else:
                kept = [old for old in found.get(pid, []) if old.end <= what.start or what.end <= old.start]
                found[pid] = [*kept, what]
        return found


def read_perf_data(path: str) -> PerfData:
    data = Path(path).read_bytes()
    magic, _, attr_size, attrs_at, _, data_at, data_size = struct.unpack_from("<8s6Q", data)
    assert magic == b"PERFILE2"
    sample_type = struct.unpack_from("<Q", data, attrs_at + 24)[0]
    assert attr_size >= 96
    result = PerfData()
    assert data_at % 8 == 0
    result.words = np.frombuffer(data, np.uint64, len(data) // 8)
    at = data_at
    while at < data_at + data_size:
        kind, misc, size = struct.unpack_from("<IHH", data, at)
        if kind == RECORD_SAMPLE:
            _read_sample(result, data, at, sample_type)
        elif kind in (RECORD_MMAP2, RECORD_COMM, RECORD_FORK):
            _read_event(result, data, at, kind, misc, size, sample_type)
        at += size
    return result


def _read_sample(result: PerfData, data: bytes, at: int, sample_type: int) -> None:
    at += 8
    for bit in (IDENTIFIER, IP):
        at += 8 * bool(sample_type & bit)
    pid, tid = struct.unpack_from("<II", data, at)
    at += 8
    result.times.append(struct.unpack_from("<Q", data, at)[0] if sample_type & TIME else 0)
    for bit in (TIME, ADDR, ID, STREAM_ID, CPU, PERIOD):
        at += 8 * bool(sample_type & bit)
    if sample_type & CALLCHAIN:
        at += 8 + 8 * struct.unpack_from("<Q", data, at)[0]
    (abi,) = struct.unpack_from("<Q", data, at)
    at += 8
    registers: tuple[int, ...] = ()
    if abi:
        registers = struct.unpack_from("<20Q", data, at)
        at += 160
    (size,) = struct.unpack_from("<Q", data, at)
    at += 8
    used = struct.unpack_from("<Q", data, at + size)[0] if size else 0
    result.pids.append(pid)
    result.tids.append(tid)
    result.registers.append(registers)
    result.starts.append(at // 8)
    result.counts.append(used // 8)


def _read_event(result: PerfData, data: bytes, at: int, kind: int, misc: int, size: int, sample_type: int) -> None:
    # sample_id: TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER, of which the time is what we want.
    behind = sum(8 for bit in (ID, STREAM_ID, CPU, IDENTIFIER) if sample_type & bit)
    time = struct.unpack_from("<Q", data, at + size - behind - 8)[0]
    pid = struct.unpack_from("<I", data, at + 8)[0]
    if kind == RECORD_COMM:
        if misc & COMM_EXEC:
            result.events.append((time, pid, None))
    elif kind == RECORD_FORK:
        parent = struct.unpack_from("<I", data, at + 12)[0]
        if parent != pid:
            result.events.append((time, pid, parent))
    else:
        start, length, offset = struct.unpack_from("<3Q", data, at + 16)
        protection = struct.unpack_from("<I", data, at + 64)[0]
        name = data[at + 72 : data.index(b"\0", at + 72)].decode()
        # The kernel itself is mapped by process -1.
        if protection & PROT_EXEC and pid < 1 << 31:
            result.events.append((time, pid, FileMapping(start, start + length, offset, name)))
