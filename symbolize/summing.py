"""Sums up equal samples, each kind of them in its own sample types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import (
    CAUSED_DELAY,
    CONTENTIONS,
    CPU,
    DELAY,
    HELD,
    HOLDS,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    SampleColumns,
    SampleType,
    Stacks,
    Thread,
)
from lockflame.samples import LockColumns, Reason, SampleTable

CPU_TYPES = (SAMPLES, CPU)
LOCK_TYPES = (*CPU_TYPES, CONTENTIONS, DELAY, CAUSED_DELAY)
TRACE_TYPES = (CONTENTIONS, DELAY, HOLDS, HELD)
UNSAMPLED_WAIT = "[wait not sampled]"
UNSAMPLED_HOLDER = "[holder not sampled]"


def sample_types(locks: LockColumns | None) -> tuple[SampleType, ...]:
    """The sample types of a profile with or without locks, or of a trace of locks."""
    if locks is None:
        return CPU_TYPES
    return TRACE_TYPES if locks.is_trace else LOCK_TYPES


def sum_up(
    samples: SampleTable,
    stack: NDArray[np.int32],
    thread: NDArray[np.int32],
    ns_per_period: float,
    locks: LockColumns | None,
) -> SampleColumns:
    """One row for each (stack, thread, lock), with the values of `sample_types`."""
    reason = np.zeros(len(samples), np.uint8) if locks is None else locks.reason
    lock = np.full(len(samples), -1, np.int32) if locks is None else locks.lock
    rows = np.stack([stack, thread, lock], axis=1).astype(np.int64)
    keys = (rows[:, 0] << 32 | rows[:, 1]) if locks is None else rows
    _, first, row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    row = row.reshape(-1)
    columns = _columns(samples, reason, ns_per_period, locks)
    values = np.zeros((len(first), len(columns)), dtype=np.int64)
    for number, column in enumerate(columns):
        np.add.at(values[:, number], row, column)
    return SampleColumns(stack[first], thread[first], values, lock[first])


def _columns(
    samples: SampleTable, reason: NDArray[np.uint8], ns_per_period: float, locks: LockColumns | None
) -> list[NDArray[np.int64]]:
    """Each sample's values of `sample_types`."""
    of_cpu = [
        (reason == Reason.CPU).astype(np.int64),
        np.rint(samples.period * ns_per_period).astype(np.int64),
    ]
    if locks is None:
        return of_cpu
    is_wait = reason == Reason.WAIT
    waits = [np.where(is_wait, locks.waits, 0), np.where(is_wait, locks.weight_ns, 0)]
    if locks.is_trace:
        is_hold = reason == Reason.HOLD
        return [*waits, np.where(is_hold, locks.waits, 0), np.where(is_hold, locks.weight_ns, 0)]
    return [*of_cpu, *waits, np.where(reason == Reason.RELEASE, locks.weight_ns, 0)]


def with_unsampled(profile: Profile) -> Profile:
    """Adds what was counted of locks but no sample stands for, on stacks that say so: the sums are exact then."""
    if not profile.locks:
        return profile
    samples = profile.samples
    missing = _exact(profile)
    first_type = profile.sample_types.index(CONTENTIONS)
    has_lock = samples.lock >= 0
    np.subtract.at(missing, samples.lock[has_lock], samples.values[has_lock][:, first_type:])
    waits = np.flatnonzero((missing[:, :2] > 0).any(axis=1))
    releases = np.flatnonzero((missing[:, 2:] > 0).any(axis=1))
    if not len(waits) and not len(releases):
        return profile
    functions = (*profile.functions, Function(UNSAMPLED_WAIT, ""), Function(UNSAMPLED_HOLDER, ""))
    marks = [Location(0, -1, (Line(len(profile.functions) + kind),), FrameKind.MARKER) for kind in (0, 1)]
    stacks = Stacks(
        np.append(profile.stacks.offsets, profile.stacks.offsets[-1] + np.array([1, 2])),
        np.append(profile.stacks.locations, np.arange(2) + len(profile.locations)).astype(np.int32),
    )
    threads = {thread.pid: index for index, thread in reversed([*enumerate(profile.threads)])}
    all_threads = [*profile.threads]
    lock = np.concatenate((waits, releases)).astype(np.int32)
    pids = [profile.locks[number].pid for number in waits.tolist() + releases.tolist()]
    for pid in pids:
        if pid not in threads:
            threads[pid] = len(all_threads)
            all_threads.append(Thread(pid, 0, ""))
    values = np.zeros((len(lock), len(profile.sample_types)), dtype=np.int64)
    values[: len(waits), first_type : first_type + 2] = np.maximum(missing[waits, :2], 0)
    values[len(waits) :, first_type + 2 :] = np.maximum(missing[releases, 2:], 0)
    return replace(
        profile,
        functions=functions,
        locations=(*profile.locations, *marks),
        threads=tuple(all_threads),
        stacks=stacks,
        samples=SampleColumns(
            np.append(
                samples.stack, np.repeat([len(profile.stacks), len(profile.stacks) + 1], [len(waits), len(releases)])
            ).astype(np.int32),
            np.append(samples.thread, [threads[pid] for pid in pids]).astype(np.int32),
            np.concatenate((samples.values, values)),
            np.append(samples.lock, lock),
        ),
    )


def _exact(profile: Profile) -> NDArray[np.int64]:
    """Of each lock waits, total_ns, and what of it releases were charged with; in a trace holds and the time held."""
    rows: list[tuple[int, ...]] = []
    for lock in profile.locks:
        waited = (lock.ends.total, lock.total_ns)
        if HELD in profile.sample_types:
            rows.append((*waited, lock.held.count, lock.held.total_ns) if lock.held else (*waited, 0, 0))
        else:
            rows.append((*waited, lock.total_ns - lock.unreleased_ns))
    return np.array(rows, dtype=np.int64)
