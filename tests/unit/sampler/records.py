"""Writes the kernel's perf_event records, in the layout that Lockflame asks for (see perf_event_open(2))."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sampler import record_types as types

REGISTERS = 20
KERNEL, USER = types.CONTEXT_KERNEL, types.CONTEXT_USER
PROT_READ_EXEC = 5
PROT_READ = 1


def record(kind: int, body: bytes, misc: int = 0, size: int | None = None) -> bytes:
    """A record; `size` is what its header says where that is not its length."""
    return struct.pack("<IHH", kind, misc, 8 + len(body) if size is None else size) + body


@dataclass(frozen=True, slots=True)
class UserState:
    """A sample's user registers (none for `abi` 0) and the copy of its stack.

    `copied_bytes` is the "dynamic size": how much of the copy counts.
    """

    abi: int = 2
    registers: Sequence[int] = tuple(range(100, 100 + REGISTERS))
    stack: Sequence[int] = ()
    copied_bytes: int | None = None

    def __bytes__(self) -> bytes:
        words = [self.abi, *(self.registers if self.abi else ()), 8 * len(self.stack), *self.stack]
        if self.stack:
            words.append(8 * len(self.stack) if self.copied_bytes is None else self.copied_bytes)
        return struct.pack(f"<{len(words)}Q", *words)


NO_USER_STATE = UserState(abi=0)


def sample(
    time_ns: int = 0,
    pid: int = 1,
    tid: int = 1,
    cpu: int = 0,
    period: int = 1,
    chain: Sequence[int] = (),
    state: UserState | None = None,
    event_id: int = 1,
    chain_length: int | None = None,
) -> bytes:
    """A sample; `chain_length` is the number of addresses it claims where that is not the true one."""
    body = struct.pack("<QQIIQIIQ", event_id, chain[1] if len(chain) > 1 else 0, pid, tid, time_ns, cpu, 0, period)
    body += struct.pack("<Q", len(chain) if chain_length is None else chain_length)
    body += struct.pack(f"<{len(chain)}Q", *chain)
    return record(types.RECORD_SAMPLE, body + (bytes(state) if state else b""))


def trailer(time_ns: int, pid: int = 1, tid: int = 1, cpu: int = 0, event_id: int = 1) -> bytes:
    """What sample_id_all puts at the end of each record that is no sample."""
    return struct.pack("<IIQIIQ", pid, tid, time_ns, cpu, 0, event_id)


def comm(time_ns: int, pid: int, tid: int, name: bytes, is_exec: bool = False) -> bytes:
    body = struct.pack("<II", pid, tid) + _padded(name)
    return record(types.RECORD_COMM, body + trailer(time_ns, pid, tid), types.MISC_COMM_EXEC if is_exec else 0)


def fork(time_ns: int, pid: int, tid: int, parent_pid: int, parent_tid: int) -> bytes:
    body = struct.pack("<IIIIQ", pid, parent_pid, tid, parent_tid, time_ns)
    return record(types.RECORD_FORK, body + trailer(time_ns, parent_pid, parent_tid))


def exit_(time_ns: int, pid: int, tid: int) -> bytes:
    return record(types.RECORD_EXIT, struct.pack("<IIIIQ", pid, 1, tid, 1, time_ns) + trailer(time_ns, pid, tid))


def kernel_symbol(time_ns: int, address: int, size: int, name: bytes, flags: int = 0) -> bytes:
    body = struct.pack("<QIHH", address, size, 1, flags) + _padded(name)
    return record(types.RECORD_KSYMBOL, body + trailer(time_ns))


def lost(count: int) -> bytes:
    return record(types.RECORD_LOST, struct.pack("<QQ", 1, count) + trailer(0))


def throttle(kind: int = types.RECORD_THROTTLE) -> bytes:
    return record(kind, struct.pack("<QQQ", 0, 1, 1) + trailer(0))


def mmap2(
    time_ns: int,
    pid: int,
    start: int,
    length: int,
    file_offset: int,
    path: bytes,
    file_id: tuple[int, int, int] | bytes = (8, 1, 77),
    protection: int = PROT_READ_EXEC,
) -> bytes:
    """`file_id` is the file's (major, minor, inode), or its build-id."""
    body = struct.pack("<IIQQQ", pid, pid, start, length, file_offset)
    if isinstance(file_id, bytes):
        body += struct.pack("<BBH20s", len(file_id), 0, 0, file_id)
    else:
        major, minor, inode = file_id
        body += struct.pack("<IIQQ", major, minor, inode, 1)
    body += struct.pack("<II", protection, 2) + _padded(path) + trailer(time_ns, pid, pid)
    return record(types.RECORD_MMAP2, body, types.MISC_MMAP_BUILD_ID if isinstance(file_id, bytes) else 0)


def _padded(text: bytes) -> bytes:
    field = text + b"\0"
    return field + bytes(-len(field) % 8)
