"""The profile: what every part of Lockflame exchanges after a recording.

The types are frozen. Few things (mappings, functions, locations, threads) are objects; many things
(stacks, samples) are numpy columns. A stack is leaf first, as in pprof.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TRUNCATED_STACK = "[truncated stack]"
"""The function name of the marker frame at the root of a stack that doesn't reach its thread's start."""


class FrameKind(enum.IntEnum):
    """Where a frame's code lives. The values are stored in profile files; never renumber them."""

    USER = 0
    KERNEL = 1
    JIT = 2
    MARKER = 3
    """No code at all: a note within a stack, such as `TRUNCATED_STACK`."""


@dataclass(frozen=True, slots=True)
class SampleType:
    """One kind of value that each sample carries, e.g. `cpu` in `nanoseconds`."""

    name: str
    unit: str


SAMPLES = SampleType("samples", "count")
CPU = SampleType("cpu", "nanoseconds")
CONTENTIONS = SampleType("contentions", "count")
"""Waits on locks, on the waiter's stack."""
DELAY = SampleType("delay", "nanoseconds")
"""Time waited, on the waiter's stack."""
CAUSED_DELAY = SampleType("caused_delay", "nanoseconds")
"""The same time, on the stack with which the lock was released."""
HOLDS = SampleType("holds", "count")
"""Times that locks were held, on the stack with which they were released; only where that was traced."""
HELD = SampleType("held", "nanoseconds")
"""How long they were held, on the same stacks."""

HISTOGRAM_BUCKETS = 48
"""Bucket `i` of a lock's histogram counts the waits of less than `2**i` ns that are in no bucket before; the last also
all that are longer."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A range of addresses of a process that is backed by a file (or by `[vdso]`, `[kernel]`, …)."""

    start: int
    end: int
    file_offset: int
    path: str
    build_id: str
    """Lower-case hex; empty when unknown."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function, as named by the binary. `path` and `line` are its source, where that is known."""

    name: str
    """Demangled."""
    linkage_name: str
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A function at a source line. `function` is an index into `Profile.functions`; line 0 is unknown."""

    function: int
    line: int = 0


@dataclass(frozen=True, slots=True)
class Location:
    """One code address (of one mapping), resolved.

    `lines` holds the inlined functions innermost first and ends with the function that has the code.
    It is never empty: an address that couldn't be named has a name made of module and offset, and
    says why in `unresolved_reason`.
    """

    address: int
    mapping: int
    """An index into `Profile.mappings`, or -1."""
    lines: tuple[Line, ...]
    kind: FrameKind
    unresolved_reason: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """What another tool says of a sample, as pprof has it: a text, or a number with a unit if it has one."""

    key: str
    text: str = ""
    number: int = 0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that was sampled, under the name (comm) it had at the time."""

    pid: int
    tid: int
    comm: str
    container: str = ""
    """The short id or the name of the container that its process is in; empty when in none."""
    labels: tuple[Label, ...] = ()
    """What else its samples are labelled with, in order; files of other tools only."""


class Memory(enum.IntEnum):
    """Where a futex word lies. The values are stored in profile files; never renumber them."""

    PRIVATE = 0
    """Memory without a name: the heap, a thread's stack."""
    STATIC = 1
    """A global or static variable of a program or library."""
    SHARED = 2
    """A mapping that processes share."""
    UNKNOWN = 3
    """All the words for which the table in the kernel had no room left, together."""


class FutexOperation(enum.IntEnum):
    """What threads called the kernel with to wait. The values are stored in profile files; never renumber them."""

    WAIT = 0
    WAIT_BITSET = 1
    LOCK_PI = 2
    WAIT_REQUEUE_PI = 3
    WAITV = 4


@dataclass(frozen=True, slots=True)
class WaitEnds:
    """How waits ended, in numbers of waits."""

    woken: int = 0
    timed_out: int = 0
    value_changed: int = 0
    """The word had another value than expected: there was nothing to wait for any more."""
    interrupted: int = 0
    failed: int = 0
    still_open: int = 0
    """At the end of the recording."""

    @property
    def total(self) -> int:
        """All waits."""
        return self.woken + self.timed_out + self.value_changed + self.interrupted + self.failed + self.still_open


@dataclass(frozen=True, slots=True)
class HoldTimes:
    """How often and how long a lock was held; `histogram` is like that of waits."""

    count: int
    total_ns: int
    max_ns: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """A futex word that threads waited on. Its counts are exact: the kernel kept them, wait by wait."""

    pid: int
    """A process that waited on it; for a word that processes share, one of them."""
    address: int
    memory: Memory
    symbol: str
    """What the word is by its place: `LOCK_open`, `cache.mutex+0x8`, `/dev/shm/queue+0x40`; empty if it has none."""
    operation: FutexOperation
    has_owner: bool
    """Whether it holds the thread that has it, as glibc's mutexes and PI locks do: who releases it is its holder then,
    else only a waker."""
    ends: WaitEnds
    total_ns: int
    max_ns: int
    histogram: tuple[int, ...]
    """Of `HISTOGRAM_BUCKETS` buckets."""
    threads: int
    """How many threads waited."""
    unreleased_ns: int = 0
    """Time waited that no release was charged with: nobody had given the lock back by the end of the recording."""
    woken_ns: int = 0
    """Time waited since the lock was given back, and before the thread that was woken for it ran: nobody is known to
    have held it. Releases are charged with it in proportion to the rest. Known of locks with an owner."""
    name: str = ""
    """Its symbol, or the class that it belongs to by the sites which take it: the same for all locks of a class."""
    kind: str = ""
    """`mutex`, `rwlock`, `condition`, …"""
    is_idle: bool = False
    """Whether waiting for it means to have nothing to do, rather than to be held up."""
    held: HoldTimes | None = None
    """Only where holds were traced."""


@dataclass(frozen=True, slots=True, eq=False)
class Stacks:
    """Distinct stacks, leaf first, one after the other.

    Stack `i` is `locations[offsets[i]:offsets[i + 1]]`; `offsets` is int64[n + 1], `locations` int32.
    """

    offsets: NDArray[np.int64]
    locations: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.locations[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class SampleColumns:
    """Samples summed up by (stack, thread, lock): one row each.

    `stack` int32[n] indexes `Profile.stacks`, `thread` int32[n] indexes `Profile.threads`,
    `values` is int64[n, len(Profile.sample_types)]. `lock` int32[n] indexes `Profile.locks`, -1 for CPU samples.
    """

    stack: NDArray[np.int32]
    thread: NDArray[np.int32]
    values: NDArray[np.int64]
    lock: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.stack)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> SampleColumns:
        """Some of the rows, by a mask or by their numbers."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        # numpy takes whole rows of a table twenty times sooner than it indexes them.
        values = np.take(self.values, rows, axis=0)
        return SampleColumns(self.stack[rows], self.thread[rows], values, self.lock[rows])


def samples_of_no_lock(stack: NDArray[np.int32], thread: NDArray[np.int32], values: NDArray[np.int64]) -> SampleColumns:
    """The columns of samples none of which is a wait or a release."""
    return SampleColumns(stack, thread, values, np.full(len(stack), -1, np.int32))


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """How a profile was taken, and what is missing from it. Counts are of samples unless named otherwise."""

    command: str = ""
    """The target's command line."""
    pid: int = 0
    host: str = ""
    kernel: str = ""
    """`uname -r` of the machine recorded on."""
    started_unix_ns: int = 0
    duration_ns: int = 0
    event: str = ""
    """What the sampler counted: `cycles` or `cpu-clock`."""
    frequency_asked_hz: int = 0
    cpu_time_ns: int = 0
    """CPU time of the target during the recording as the kernel counted it, sampled or not."""
    run_delay_ns: int = 0
    """How long the target's threads could have run but got no CPU, together; of those that lived to the end."""
    samples: int = 0
    lost: int = 0
    """Records that the kernel dropped because a buffer was full."""
    throttled: int = 0
    """Times that the kernel held the sampler back."""
    truncated: int = 0
    """Samples whose user stack doesn't reach a thread's or process's start."""
    unresolved: int = 0
    """Samples whose leaf frame has no name."""
    skipped: int = 0
    """Records that couldn't be read."""
    kernel_frames: bool = True
    """Whether the kernel allowed its own frames to be recorded."""
    stack_bytes: int = 0
    """The most that was copied of each user stack."""
    probes: str = ""
    """What was attached to the kernel to see lock waits, by name; empty when they weren't recorded."""
    wait_samples: int = 0
    """Stacks taken of waiters."""
    holder_samples: int = 0
    """Stacks taken where locks were released."""
    waits_left_out: int = 0
    """Waits on futex words for which the table in the kernel had no room: counted, but not word by word."""
    waits_unseen: int = 0
    """Waits that couldn't be followed, because there were too many threads or a probe missed their end."""
    notes: tuple[str, ...] = ()
    """What the reader of the profile has to know, in whole sentences."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A recording, symbolized. Every index in it is valid: `lockflame.pprof` checks each file it reads."""

    sample_types: tuple[SampleType, ...]
    mappings: tuple[Mapping, ...]
    functions: tuple[Function, ...]
    locations: tuple[Location, ...]
    threads: tuple[Thread, ...]
    stacks: Stacks
    samples: SampleColumns
    recording: RecordingInfo = field(default_factory=RecordingInfo)
    locks: tuple[Lock, ...] = ()

    @property
    def container(self) -> str:
        """The container of the process that was recorded; empty when in none, or when it has no sample itself."""
        own = (thread.container for thread in self.threads if thread.pid == self.recording.pid)
        return next(own, "")

    def total(self, sample_type: SampleType) -> int:
        """The sum of one sample type over all samples; 0 when the profile doesn't have that type."""
        if sample_type not in self.sample_types:
            return 0
        return int(self.samples.values[:, self.sample_types.index(sample_type)].sum())
