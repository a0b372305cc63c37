"""What tracing locks costs: measured on a lock of our own before the trace begins, and on the target in its course."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sampler import procfs
from sampler.bpf.hooks import close_all
from sampler.trace import lock_layout as layout
from sampler.trace.call_cost import call_ns
from sampler.trace.lock_probes import LockFilter, LockProbe, LockPrograms

MUTEX_BYTES = 64
"""More than any libc's."""
PAIRS = 100
ROUNDS = 10
FLOOR_SHARE = 0.75
"""Of the shortest hold that was seen: it took some time by itself."""
EVENTS_OF_A_PAIR = 3
"""A call that takes a lock, its return, and one that gives it back."""
SEEN_NS = 100
"""Less is no probe's cost: our own libc is another one than the target's."""


@dataclass(frozen=True, slots=True)
class OwnCost:
    """In nanoseconds: how much longer it takes to take a free lock and give it back, and how long it then seems held.

    `pair_ns` is None where our own lock functions aren't among those that are traced.
    """

    pair_ns: float | None
    hold_floor_ns: int


EVERYTHING = LockFilter(0, 0, 0, 0)


def own_cost(programs: LockPrograms, probes: Sequence[LockProbe]) -> OwnCost:
    """What these probes cost us, and add to a hold of no time: the least that was seen. What was counted is forgotten.

    Raises `LockflameError`.
    """
    # Unlike CDLL it keeps Python's own lock meanwhile, which is made of the same functions.
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(MUTEX_BYTES)

    def take_and_give_back() -> int:
        return libc.pthread_mutex_lock(mutex) | libc.pthread_mutex_unlock(mutex)

    before_ns = call_ns(take_and_give_back, PAIRS, ROUNDS)
    descriptors = programs.attach(os.getpid(), probes)
    try:
        programs.set_control(0, layout.NEVER_NS, (0, 0), EVERYTHING)
        during_ns = call_ns(take_and_give_back, PAIRS, ROUNDS)
        programs.clear()
        _hold_briefly(libc)
    finally:
        programs.set_control(layout.NEVER_NS, layout.NEVER_NS, (0, 0), EVERYTHING)
        close_all(descriptors)
    floor_ns = int(programs.least_hold_ns() * FLOOR_SHARE)
    programs.clear()
    cost_ns = during_ns - before_ns
    return OwnCost(cost_ns, floor_ns) if cost_ns >= SEEN_NS else OwnCost(None, 0)


def _hold_briefly(libc: ctypes.PyDLL) -> None:
    """Has the libc take a lock and give it back at once, without any of our code between: glibc's loader has such one.

    Its callback is a function that ends the search: abs() of an address isn't 0.
    """
    if hasattr(libc, "dl_iterate_phdr"):
        for _ in range(PAIRS * ROUNDS):
            libc.dl_iterate_phdr(ctypes.cast(libc.abs, ctypes.c_void_p), None)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What a process and its children have used, in nanoseconds."""

    user_ns: int
    system_ns: int

    @classmethod
    def now(cls, pid: int) -> CpuTimes:
        """As they are now."""
        return cls(*procfs.cpu_times_ns(pid))


def target_cost(events: int, pair_ns: float | None, first: CpuTimes, last: CpuTimes) -> float | None:
    """The share of the target's CPU time that went into probes, 0 to 1; None where it used too little to tell.

    As many `events` cost it what they cost us, `pair_ns` for `EVENTS_OF_A_PAIR`. In a tight loop they cost less: what
    they need stays in the processor's caches. But they run in the kernel, so it is never more than the target's system
    time; where their cost isn't known, that is all there is to say.
    """
    system_ns = last.system_ns - first.system_ns
    used_ns = system_ns + last.user_ns - first.user_ns
    spent_ns = system_ns if pair_ns is None else min(events / EVENTS_OF_A_PAIR * pair_ns, system_ns)
    return spent_ns / used_ns if used_ns >= _TELLING_NS else None


_TELLING_NS = 100_000_000
"""The kernel counts in ticks of 10 ms."""
