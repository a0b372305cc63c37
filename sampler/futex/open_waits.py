"""Waits that are open when a recording begins or ends: found in /proc, and written as samples like all others."""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lockflame.registers import X86_64_REGISTERS
from sampler import procfs
from sampler.futex import layout
from sampler.record_types import CONTEXT_USER, RECORD_SAMPLE

# Numbers of system calls on x86-64 (asm/unistd_64.h).
FUTEX, RESTART_SYSCALL, FUTEX_WAITV, FUTEX_WAIT = 202, 219, 449, 455
PRIVATE_FLAG = 0x80
COMMAND_MASK = 0x7F
OPERATIONS = {0: 0, 9: 1, 6: 2, 13: 2, 11: 3}
"""An `operation` of futex.bpf.c by futex(2)'s commands that wait."""
CONTENDED_VALUE = 2
BEFORE_ALL_NS = 1
STACKS_MOST = 256
"""Of waits open at the end, so many have their stack read, for locks and for others."""
STACK_BYTES_MOST = 64000
"""A record's size has 16 bits, and it has more than the stack."""
REGISTERS_ABI_64 = 2
"""A 64-bit program's (PERF_SAMPLE_REGS_ABI_64)."""


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A thread that waits. `registers` are the user's by name; those that aren't known are left out.

    `is_counted`: the programs have counted its beginning.
    """

    pid: int
    tid: int
    address: int
    is_private: bool
    operation: int
    budget: int
    registers: dict[str, int]
    start_ns: int = 0
    key: bytes = b""
    owner: int = 0
    is_counted: bool = False

    @classmethod
    def from_entry(cls, tid: int, value: bytes) -> OpenWait:
        """From an entry of the map `threads`."""
        start_ns, key, owner, pid, operation, budget, *flags_and_registers = layout.THREAD.unpack(value)
        is_counted, has_registers, _, _, _, _, *registers = flags_and_registers
        address, key_pid, _ = layout.KEY.unpack(key)
        named = dict(zip(layout.PT_REGS, registers, strict=True))
        if not has_registers:
            named = {name: named[name] for name in ("ip", "sp") if named[name]}
        return cls(pid, tid, address, bool(key_pid), operation, budget, named, start_ns, key, owner, bool(is_counted))

    def entry(self, generation: int, family: int, code_start: int, code_bytes: int) -> bytes:
        """An entry of the map `threads` for a wait that began at an unknown time before the recording.

        The arguments are those of its process in the map `targets`.
        """
        key = layout.KEY.pack(
            self.address, self.pid if self.is_private else 0, generation if self.is_private else family
        )
        registers = [self.registers.get(name, 0) for name in layout.PT_REGS]
        is_contended = self.budget == layout.BUDGET_LOCK
        flags = (False, False, is_contended, False)
        return layout.THREAD.pack(
            BEFORE_ALL_NS, key, 0, self.pid, self.operation, self.budget, *flags, code_start, code_bytes, *registers
        )

    def is_still_open(self) -> bool:
        """Whether the thread sits in the same call on the same stack."""
        now = _waiting_call(self.pid, self.tid)
        return now is not None and (now.address, now.registers["sp"]) == (self.address, self.registers["sp"])


def waits_open_now(pids: Iterable[int]) -> Iterator[OpenWait]:
    """The threads of these processes that wait by a futex call, as far as they may be looked at."""
    for pid in pids:
        for tid in procfs.threads(pid):
            wait = _waiting_call(pid, tid)
            if wait is not None:
                yield wait


def _waiting_call(pid: int, tid: int) -> OpenWait | None:
    """From /proc/PID/task/TID/syscall (proc_pid_syscall(5)): number, six arguments, stack pointer, instruction."""
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", "rb", buffering=0) as file:
            fields = file.read(512).split()
    except OSError:
        return None
    if len(fields) != 9:
        return None  # `running`, or waits otherwise
    number, address, second, third, fourth, _, _, sp, ip = (int(field, 0) for field in fields)
    registers = {"sp": sp, "ip": ip}
    if number == RESTART_SYSCALL and _sleeps_in_futex(pid, tid):
        number = FUTEX  # which a signal has interrupted: the arguments are still its own
    if number == FUTEX and second & COMMAND_MASK in OPERATIONS:
        operation = OPERATIONS[second & COMMAND_MASK]
        is_lock = operation in (0, 2) or (operation == 1 and third & 0xFFFFFFFF == CONTENDED_VALUE)
        budget = layout.BUDGET_LOCK if is_lock else layout.BUDGET_OTHER
        return OpenWait(pid, tid, address, bool(second & PRIVATE_FLAG), operation, budget, registers)
    if number == FUTEX_WAIT:
        return OpenWait(pid, tid, address, bool(fourth & PRIVATE_FLAG), 1, layout.BUDGET_OTHER, registers)
    if number == FUTEX_WAITV:
        return _first_of_several(pid, tid, address, registers)
    return None


def _sleeps_in_futex(pid: int, tid: int) -> bool:
    """Whether the function of the kernel that a thread sleeps in is one of futex's (wchan in proc(5))."""
    with suppress(OSError), open(f"/proc/{pid}/task/{tid}/wchan", "rb", buffering=0) as file:
        return b"futex" in file.read(128)
    return False


def _first_of_several(pid: int, tid: int, waiters: int, registers: dict[str, int]) -> OpenWait | None:
    first = _read_memory(pid, waiters, 24)  # struct futex_waitv of linux/futex.h
    if len(first) < 24:
        return None
    _, address, flags, _ = struct.unpack("<QQII", first)
    return OpenWait(pid, tid, address, bool(flags & PRIVATE_FLAG), 4, layout.BUDGET_OTHER, registers)


def samples_of(
    waits: Iterable[OpenWait], started_ns: int, ended_ns: int, stack_bytes: int, sample_id: int
) -> Iterator[bytes]:
    """Records like those that the kernel writes, for waits that were open at the end: one for each word at least, as
    far as the limit goes. Threads that wait no more by now are left out."""
    for budget in (layout.BUDGET_LOCK, layout.BUDGET_OTHER):
        taken = 0
        for wait in _in_turns(wait for wait in waits if wait.budget == budget):
            if taken == STACKS_MOST:
                break
            record = _record(wait, started_ns, ended_ns, stack_bytes, sample_id)
            if record is not None:
                taken += 1
                yield record


def _in_turns(waits: Iterable[OpenWait]) -> Iterator[OpenWait]:
    """One of each word, then a second one of each that has two, and so on."""
    of_key: defaultdict[bytes, list[OpenWait]] = defaultdict(list)
    for wait in waits:
        of_key[wait.key].append(wait)
    while of_key:
        for key in list(of_key):
            yield of_key[key].pop()
            if not of_key[key]:
                del of_key[key]


def _record(wait: OpenWait, started_ns: int, ended_ns: int, stack_bytes: int, sample_id: int) -> bytes | None:
    registers = wait.registers
    if not registers.get("sp"):
        return None
    stack = _read_memory(wait.pid, registers["sp"], min(stack_bytes, STACK_BYTES_MOST) // 8 * 8) if stack_bytes else b""
    if not wait.is_still_open():
        return None
    stack = stack[: len(stack) // 8 * 8]
    duration = ended_ns - max(wait.start_ns, started_ns)
    _, key_pid, space = layout.KEY.unpack(wait.key)
    values = (wait.address, key_pid | space << 32, duration, duration, duration, wait.owner | wait.operation << 32, 0)
    raw = struct.pack("<II7Q", layout.SAMPLE.size, layout.SAMPLE_WAIT, *values)
    chain = struct.pack("<QQQ", 2, CONTEXT_USER, registers.get("ip", 0))
    head = struct.pack("<QQIIQIIQ", sample_id, registers.get("ip", 0), wait.pid, wait.tid, ended_ns - 1, 0, 0, 1)
    rest = b""
    if stack_bytes:
        named = struct.pack("<20Q", *(registers.get(name, 0) for name in X86_64_REGISTERS))
        size = struct.pack("<Q", len(stack))
        rest = struct.pack("<Q", REGISTERS_ABI_64) + named + size + (stack + size if stack else b"")
    body = head + chain + raw + rest
    return struct.pack("<IHH", RECORD_SAMPLE, 0, 8 + len(body)) + body


def _read_memory(pid: int, address: int, size: int) -> bytes:
    """As much of a process's memory as is there; empty where it isn't allowed."""
    with suppress(OSError, OverflowError, ValueError), open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        return os.pread(file.fileno(), size, address)
    return b""
