"""What a recording consists of before it has names: samples as columns.

The sampler makes these and the symbolizer takes them; they stand here because those two don't know
each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lockflame.events import Event, ProcessSnapshot

X86_64_REGISTERS = (
    *("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags", "cs", "ss"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
"""The columns of `SampleTable.registers`: the kernel's order of x86-64's registers without ds, es, fs
and gs (linux/arch/x86/include/uapi/asm/perf_regs.h)."""


@dataclass(frozen=True, slots=True, eq=False)
class Callchains:
    """Address lists of many samples, leaf first, one after the other.

    List `i` is `addresses[offsets[i]:offsets[i + 1]]`; `offsets` is int64[n + 1], `addresses` uint64.
    """

    offsets: NDArray[np.int64]
    addresses: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint64]:
        return self.addresses[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class StackCopies:
    """The top of each sample's user stack as the kernel copied it.

    The words of sample `i` are `words[start[i] : start[i] + count[i]]`, the first one at the address
    in the sample's `sp`. `words` is a uint64 array (usually the mapped spool file); `start` and
    `count` are int64[n], in words of 8 bytes.
    """

    words: NDArray[np.uint64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SampleTable:
    """CPU samples in the order of time, one row each.

    `time_ns` int64 (CLOCK_MONOTONIC), `pid`, `tid` and `cpu` int32, `period` int64 (in the unit of
    the event: nanoseconds of CPU time for cpu-clock), `kernel` and `user` the kernel's own callchains
    (return addresses as they stand on the stack; the first user address is the sample's own ip when
    it was taken in user mode), `registers` uint64[n, 20] in the order of `X86_64_REGISTERS` (the user
    registers), `has_registers` bool (false for kernel threads and 32-bit programs), `stacks` the
    copies of the user stacks.
    """

    time_ns: NDArray[np.int64]
    pid: NDArray[np.int32]
    tid: NDArray[np.int32]
    cpu: NDArray[np.int32]
    period: NDArray[np.int64]
    kernel: Callchains
    user: Callchains
    registers: NDArray[np.uint64]
    has_registers: NDArray[np.bool_]
    stacks: StackCopies

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True, slots=True)
class Recording:
    """All that was recorded; the symbolizer makes a `Profile` of it."""

    samples: SampleTable
    events: tuple[Event, ...]
    """In the order of time."""
    snapshots: tuple[ProcessSnapshot, ...]
    containers: dict[int, str] = field(default_factory=dict[int, str])
    """The container of each process that is in one, by pid."""
