"""Profiles with waits and releases, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lockflame.profile import (
    CAUSED_DELAY,
    CONTENTIONS,
    CPU,
    DELAY,
    HISTOGRAM_BUCKETS,
    SAMPLES,
    FrameKind,
    Function,
    FutexOperation,
    Line,
    Location,
    Lock,
    Memory,
    Profile,
    RecordingInfo,
    SampleColumns,
    Stacks,
    Thread,
    WaitEnds,
)

SECOND = 10**9
TYPES = (SAMPLES, CPU, CONTENTIONS, DELAY, CAUSED_DELAY)
NOT_SAMPLED = "[wait not sampled]"


@dataclass(frozen=True)
class Taken:
    """A row of samples: its stack root first, apart by `/`, and ns of a wait, a release or CPU time."""

    stack: str
    lock: int = -1
    delay: int = 0
    caused: int = 0
    cpu: int = 0
    thread: int = 0


def lock_of(total_ns: int = 0, /, **values: object) -> Lock:
    """A mutex on the heap, on which a thread waited once, unless told otherwise."""
    base = Lock(
        pid=7,
        address=0x1000,
        memory=Memory.PRIVATE,
        symbol="",
        operation=FutexOperation.WAIT,
        has_owner=True,
        ends=WaitEnds(woken=1),
        total_ns=total_ns,
        max_ns=total_ns,
        histogram=histogram_of([total_ns]),
        threads=1,
    )
    return replace(base, **values)  # pyright: ignore[reportArgumentType]


def histogram_of(waits_ns: Sequence[int]) -> tuple[int, ...]:
    """As the recorder counts them."""
    counts = [0] * HISTOGRAM_BUCKETS
    for wait_ns in waits_ns:
        counts[min(wait_ns.bit_length(), HISTOGRAM_BUCKETS - 1)] += 1
    return tuple(counts)


def profile_with_locks(locks: Sequence[Lock], rows: Sequence[Taken], duration_ns: int = SECOND) -> Profile:
    """A profile of one process with four threads. Each function is a location; `[marker]` has no code."""
    names = list(dict.fromkeys(name for row in rows for name in row.stack.split("/")))
    at = {name: index for index, name in enumerate(names)}
    paths = list(dict.fromkeys(row.stack for row in rows))
    stacks = [[at[name] for name in reversed(path.split("/"))] for path in paths]
    values = [[int(row.cpu > 0), row.cpu, int(row.delay > 0), row.delay, row.caused] for row in rows]
    return Profile(
        sample_types=TYPES,
        mappings=(),
        functions=tuple(Function(name, name) for name in names),
        locations=tuple(
            Location(0x100 + index, -1, (Line(index),), FrameKind.MARKER if name == NOT_SAMPLED else FrameKind.USER)
            for index, name in enumerate(names)
        ),
        threads=tuple(Thread(7, 7 + index, f"t{index}") for index in range(4)),
        stacks=Stacks(
            np.cumsum([0, *map(len, stacks)], dtype=np.int64),
            np.array([location for stack in stacks for location in stack], np.int32),
        ),
        samples=SampleColumns(
            np.array([paths.index(row.stack) for row in rows], np.int32),
            np.array([row.thread for row in rows], np.int32),
            np.array(values, np.int64).reshape(-1, len(TYPES)),
            np.array([row.lock for row in rows], np.int32),
        ),
        recording=RecordingInfo(duration_ns=duration_ns, probes="futex_wait, futex_wake"),
        locks=tuple(locks),
    )
