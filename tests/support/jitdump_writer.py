"""Writes jitdumps as linux/tools/perf/Documentation/jitdump-specification.txt has them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = 0x4A695444
PID = 7


def header(flags: int = 0, *, magic: int = MAGIC, version: int = 1) -> bytes:
    """The head of a file."""
    return struct.pack("<IIIIIIQQ", magic, version, 40, 62, 0, PID, 0, flags)


def record(kind: int, time_ns: int, payload: bytes) -> bytes:
    """Any record."""
    return struct.pack("<IIQ", kind, 16 + len(payload), time_ns) + payload


def load(time_ns: int, address: int, size: int, name: str, index: int = 0) -> bytes:
    """JIT_CODE_LOAD with code of no meaning."""
    fields = struct.pack("<IIQQQQ", PID, PID, address, address, size, index)
    return record(0, time_ns, fields + name.encode() + b"\0" + b"\x90" * size)


def move(time_ns: int, old: int, new: int, size: int, index: int) -> bytes:
    """JIT_CODE_MOVE."""
    return record(1, time_ns, struct.pack("<IIQQQQQ", PID, PID, new, old, new, size, index))


def debug_info(address: int, entries: Sequence[tuple[int, int, bytes]], count: int | None = None) -> bytes:
    """JIT_CODE_DEBUG_INFO of code at `address`: (address, line, path) each; `count` is what the record says."""
    packed = (struct.pack("<QII", at, line, 0) + path + b"\0" for at, line, path in entries)
    head = struct.pack("<QQ", address, len(entries) if count is None else count)
    return record(2, 0, head + b"".join(packed))


def unwinding_info(size: int = 44) -> bytes:
    """JIT_CODE_UNWINDING_INFO with bytes of no meaning."""
    return record(4, 0, struct.pack("<QQQ", size, 20, 0) + b"\1" * size)


def close(time_ns: int) -> bytes:
    """JIT_CODE_CLOSE."""
    return record(3, time_ns, b"")
