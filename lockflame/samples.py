"""What a recording consists of before it has names: samples as columns.

The sampler makes these and the symbolizer takes them; they stand here because those two don't know
each other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lockflame.events import Event, ProcessSnapshot
from lockflame.profile import Lock


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


class Reason(enum.IntEnum):
    """Why a sample was taken."""

    CPU = 0
    """Its thread used CPU time."""
    WAIT = 1
    """Its thread has waited for a lock."""
    RELEASE = 2
    """Its thread releases a lock."""
    HOLD = 3
    """Its thread releases a lock, in a trace of how long locks are held."""


@dataclass(frozen=True, slots=True, eq=False)
class LockColumns:
    """What samples have to do with locks, one row for each row of the samples.

    `reason` uint8[n] (values of `Reason`); `lock` int32[n] indexes `Recording.locks`, -1 for CPU samples; `weight_ns`
    int64[n] is the time waited that a sample stands for: those of a lock's waits sum up to its total, those of its
    releases to what they were charged with; `waits` int64[n] is how many waits it stands for. Of holds, it is the time
    held, and how many they are. `is_trace`: there are holds, rather than CPU samples and releases.
    """

    reason: NDArray[np.uint8]
    lock: NDArray[np.int32]
    weight_ns: NDArray[np.int64]
    waits: NDArray[np.int64]
    is_trace: bool = False


@dataclass(frozen=True, slots=True)
class FutexWord:
    """A lock before it has a name: `lock` lacks what tells of its place. `first_ns` is when it was first waited for."""

    lock: Lock
    is_shared: bool
    first_ns: int


@dataclass(frozen=True, slots=True)
class Recording:
    """All that was recorded; the symbolizer makes a `Profile` of it."""

    samples: SampleTable
    events: tuple[Event, ...]
    """In the order of time."""
    snapshots: tuple[ProcessSnapshot, ...]
    containers: dict[int, str] = field(default_factory=dict[int, str])
    """The container of each process that is in one, by pid."""
    lock_columns: LockColumns | None = None
    """Only of recordings of lock waits."""
    locks: tuple[FutexWord, ...] = ()
    memory_maps: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """/proc/PID/maps of processes that have locks, at the recording's end or before theirs."""
