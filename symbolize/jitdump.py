"""What a runtime says about code that it generated, and when: a jitdump.

Its format is that of linux/tools/perf/Documentation/jitdump-specification.txt, version 1 of the header.
The code's own bytes aren't read, and records of unwinding information are passed over: a runtime that
writes them has frame pointers, or does what `unwind.fallback` looks for.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symbolize import ragged
from symbolize.perf_map import NAME_BYTES_MOST, NOTHING

BYTES_MOST = 1 << 30
"""Of a longer dump the rest isn't read."""
RECORDS_MOST = 4_000_000
DEBUG_BYTES_MOST = 256 << 20
"""How much debug information is kept; what comes after has no source lines."""
PAIRS_MOST = 1 << 24
"""How many (load, sampled address within it) are looked at: the latest."""
TAIL_BYTES_USUAL = 1 << 16
"""A runtime that is at work has written its last record in part; a longer rest is a loss."""
_WINDOW_BYTES = 4 << 20

_MAGIC = 0x4A695444
_FOREIGN_MAGIC = 0x4454694A
_ARCH_TIMESTAMP = 1
_HEADER = struct.Struct("<IIIIIIQQ")
_RECORD = struct.Struct("<IIQ")
_LOAD = struct.Struct("<IIQQQQ")
_MOVE = struct.Struct("<IIQQQQQ")
_DEBUG = struct.Struct("<QQ")
_DEBUG_ENTRY = struct.Struct("<QII")
_CODE_LOAD, _CODE_MOVE, _CODE_DEBUG_INFO, _CODE_CLOSE, _CODE_UNWINDING_INFO = range(5)
_KNOWN_KINDS = range(_CODE_UNWINDING_INFO + 1)
_SAME_PATH = b"\xff"
"""Stands for the path of the entry before (has_debug_entry's in linux/tools/perf/util/jitdump.h)."""
_ELF_HEADER_BYTES = 0x40
"""V8 adds this to the addresses of its lines (GEN_ELF_TEXT_OFFSET in linux/tools/perf/util/genelf.h, where perf
inject once put the code)."""


class JitdumpProblem(Exception):
    """A file isn't a jitdump that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class JitSymbol:
    """What generated code is called; `path` and `line` are its source, empty and 0 where unknown."""

    name: str
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class _Code:
    """Code as it was loaded: `start` is its address then, `debug` the payload of its debug record."""

    name: bytes
    start: int
    debug: bytes


@dataclass(slots=True)
class _Walk:
    """What one pass over the records collects: a row for each load or move, by time, range and code."""

    times: list[int] = field(default_factory=list[int])
    starts: list[int] = field(default_factory=list[int])
    sizes: list[int] = field(default_factory=list[int])
    codes: list[_Code] = field(default_factory=list[_Code])
    of_index: dict[int, _Code] = field(default_factory=dict[int, _Code])
    debug_of: dict[int, bytes] = field(default_factory=dict[int, bytes])
    debug_bytes: int = 0
    skipped: int = 0
    without_lines: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Jitdump:
    """The code of one process over time: rows in the order of time, int64 `times` (CLOCK_MONOTONIC, ns),
    uint64 `starts` and `ends`.

    `has_times`: whether the times are of the clock that samples have. `skipped` counts records that made no sense,
    `without_lines` debug records beyond `DEBUG_BYTES_MOST`, `bytes_unread` is what lies behind the last record read.
    """

    times: NDArray[np.int64]
    starts: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    codes: tuple[_Code, ...]
    has_times: bool
    skipped: int
    without_lines: int
    bytes_unread: int

    def find(self, addresses: NDArray[np.uint64], times: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], int]:
        """The row whose code was at each address at its time, `NOTHING` for none; and how many rows were left out.

        Without times the latest row counts.
        """
        wanted, which = np.unique(addresses, return_inverse=True)
        first = np.searchsorted(wanted, self.starts)
        counts = np.searchsorted(wanted, self.ends) - first
        hits = np.flatnonzero(counts > 0)
        kept = np.cumsum(counts[hits][::-1])[::-1] <= PAIRS_MOST
        left_out = int((~kept).sum())
        hits = hits[kept]
        # One number for each pair: first the place of the address, then the row, which is in the order of time.
        base = len(self.times) + 1
        places = ragged.positions(first[hits], counts[hits])
        covering = np.sort(places * base + np.repeat(hits, counts[hits]))
        limit = base - 1 if times is None else np.searchsorted(self.times, times, side="right")
        at = np.searchsorted(covering, which.reshape(-1) * base + limit) - 1
        found = np.append(covering, -1)[at]
        is_found = (at >= 0) & (found // base == which.reshape(-1))
        return np.where(is_found, found % base, NOTHING), left_out

    def symbol(self, row: int, address: int) -> JitSymbol:
        """The name and the source line of an address that lies in the code of a row."""
        code = self.codes[row]
        path, line = _source_line(code, address - int(self.starts[row]) + code.start)
        return JitSymbol(os.fsdecode(code.name), path, line)


def read_jitdump(descriptor: int) -> Jitdump:
    """Reads a dump, which may be cut off anywhere. Raises `JitdumpProblem`, or `OSError` when it can't be read."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        raise JitdumpProblem("it is too short for a jitdump")
    magic, version, header_size, _, _, _, _, flags = _HEADER.unpack(header)
    if magic == _FOREIGN_MAGIC:
        raise JitdumpProblem("it was written in the other byte order")
    if magic != _MAGIC or version != 1 or header_size < _HEADER.size:
        raise JitdumpProblem("it is no jitdump of version 1")
    walk = _Walk()
    bytes_unread = _walk_records(descriptor, header_size, walk)
    times = np.array(walk.times, np.int64)
    order: NDArray[np.int64] = np.argsort(times, kind="stable").astype(np.int64)
    starts = np.array(walk.starts, np.uint64)[order]
    return Jitdump(
        times=times[order],
        starts=starts,
        ends=starts + np.array(walk.sizes, np.uint64)[order],
        codes=tuple(map(walk.codes.__getitem__, order.tolist())),
        has_times=not flags & _ARCH_TIMESTAMP,
        skipped=walk.skipped,
        without_lines=walk.without_lines,
        bytes_unread=bytes_unread,
    )


def _walk_records(descriptor: int, at: int, walk: _Walk) -> int:
    """Takes all records from `at` on; returns how many bytes at the end of the file were left."""
    size = os.fstat(descriptor).st_size
    window = _Window(descriptor)
    for _ in range(RECORDS_MOST):
        header = window.read(at, _RECORD.size) if at < BYTES_MOST else b""
        if len(header) < _RECORD.size:
            break
        kind, length, time_ns = _RECORD.unpack(header)
        if length < _RECORD.size or kind not in _KNOWN_KINDS:
            walk.skipped += 1
        if length < _RECORD.size:
            return size - at  # no next record can be found
        if kind in (_CODE_LOAD, _CODE_MOVE, _CODE_DEBUG_INFO):
            most = length if kind == _CODE_DEBUG_INFO else _LOAD.size + _RECORD.size + NAME_BYTES_MOST
            payload = window.read(at + _RECORD.size, min(length, most) - _RECORD.size)
            _take(walk, kind, time_ns, payload, length)
        if at + length > size:
            break  # of a load that is cut off, the name is enough
        at += length
    rest = max(0, size - at)
    return rest if rest > TAIL_BYTES_USUAL else 0


class _Window:
    """Reads pieces of a file in ascending order, many at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0
        self._bytes = b""

    def read(self, at: int, size: int) -> bytes:
        """As much of `size` bytes as the file has, and at most 4 MB."""
        inside = at - self._at
        if inside < 0 or inside + size > len(self._bytes):
            self._at, self._bytes, inside = at, os.pread(self._descriptor, _WINDOW_BYTES, at), 0
        return self._bytes[inside : inside + size]


def _take(walk: _Walk, kind: int, time_ns: int, payload: bytes, length: int) -> None:
    try:
        if kind == _CODE_LOAD:
            _take_load(walk, time_ns, payload, length)
        elif kind == _CODE_MOVE:
            _, _, start, _, _, size, index = _MOVE.unpack_from(payload)
            _add(walk, time_ns, start, size, walk.of_index[index])
        elif kind == _CODE_DEBUG_INFO:
            address, _ = _DEBUG.unpack_from(payload)
            if walk.debug_bytes + len(payload) > DEBUG_BYTES_MOST:
                walk.without_lines += 1
            else:
                walk.debug_of[address] = payload
                walk.debug_bytes += len(payload)
    except (struct.error, KeyError, ValueError):
        walk.skipped += 1


def _take_load(walk: _Walk, time_ns: int, payload: bytes, length: int) -> None:
    """Raises `ValueError` or `struct.error` for a record that contradicts itself."""
    _, _, start, address, size, index = _LOAD.unpack_from(payload)
    name_end = payload.find(b"\0", _LOAD.size)
    if name_end < 0 and len(payload) < _LOAD.size + NAME_BYTES_MOST:
        raise ValueError("a name without end")
    name = payload[_LOAD.size : name_end if name_end >= 0 else len(payload)]
    if not name or size > length:
        raise ValueError("no name, or more code than the record has room for")
    code = _Code(name, address, walk.debug_of.pop(address, b""))
    walk.of_index[index] = code
    if size:
        _add(walk, time_ns, start, size, code)


def _add(walk: _Walk, time_ns: int, start: int, size: int, code: _Code) -> None:
    if not 0 < size < 1 << 32 or start >= 1 << 63 or time_ns >= 1 << 63:
        raise ValueError("no place in memory, or no time")
    walk.times.append(time_ns)
    walk.starts.append(start)
    walk.sizes.append(size)
    walk.codes.append(code)


def _source_line(code: _Code, address: int) -> tuple[str, int]:
    """The source line of an address: that of the last entry at or before it; nothing if the record makes no sense."""
    entries = _debug_entries(code)
    if not entries:
        return "", 0
    shift = _ELF_HEADER_BYTES if min(entries)[0] == code.start + _ELF_HEADER_BYTES else 0
    before = [entry for entry in entries if entry[0] - shift <= address]
    if not before:
        return "", 0
    _, path, line = max(before, key=lambda entry: entry[0])
    return os.fsdecode(path), line


def _debug_entries(code: _Code) -> list[tuple[int, bytes, int]]:
    """(address, path, line) of the entries of a debug record; none where one of them is nonsense.

    Node 20 writes paths from memory that it has freed (V8's LinuxPerfJitLogger), which hides the later entries.
    """
    if not code.debug:
        return []
    _, count = _DEBUG.unpack_from(code.debug)
    entries: list[tuple[int, bytes, int]] = []
    at, path = _DEBUG.size, b""
    for _ in range(min(count, len(code.debug) // (_DEBUG_ENTRY.size + 1))):
        path_end = code.debug.find(b"\0", at + _DEBUG_ENTRY.size)
        if path_end < 0:
            return []
        address, line, _ = _DEBUG_ENTRY.unpack_from(code.debug, at)
        written = code.debug[at + _DEBUG_ENTRY.size : path_end]
        path = path if written == _SAME_PATH else written
        if address < code.start or address - code.start > 1 << 32 or line >= 1 << 31 or not _is_path(path):
            return []
        entries.append((address, path, line))
        at = path_end + 1
    return entries if len(entries) == count else []


def _is_path(path: bytes) -> bool:
    return bool(path) and len(path) <= NAME_BYTES_MOST and os.fsdecode(path).isprintable()
