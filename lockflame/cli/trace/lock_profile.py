"""Joins sampler and symbolizer for a trace of locks: from what was counted by path to a profile and named paths."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.locks.naming import name_locks
from flame.locks.rule_file import load_rules
from flame.locks.wait_stacks import names_of_stack
from lockflame.profile import HISTOGRAM_BUCKETS, HoldTimes, Lock, Profile, RecordingInfo, SampleColumns, WaitEnds
from lockflame.samples import Recording
from sampler.containers import containers_of
from sampler.decode import Decoded, decode_spool, of_family
from sampler.recorder import RawRecording
from sampler.trace.lock_decode import Place, decode_lock_trace
from sampler.trace.lock_probes import RawLockTrace
from symbolize.symbolizer import symbolize

OTHER_PATHS = "[no stack was taken]"


@dataclass(frozen=True, slots=True)
class LockPath:
    """A stack that waits for a lock or releases it: times as of a `Place`.

    `lock` indexes the profile's. `names` are its functions, leaf first; those of all stacks without a sample are one.
    """

    lock: int
    is_hold: bool
    names: tuple[str, ...]
    count: int
    failed: int
    total_ns: int
    max_ns: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LockTrace:
    """What a trace found: the profile to be saved, and for each of its locks the paths, those of most time first."""

    profile: Profile
    paths: tuple[tuple[LockPath, ...], ...]


def lock_trace(raw: RawRecording, trace: RawLockTrace, pid: int, command_line: str) -> LockTrace:
    """Decodes, symbolizes and names what was traced in process `pid`."""
    decoded = decode_spool(raw.spool, raw.choice.stack_bytes > 0, {}, trace.sample_ids, raw.choice.build_ids)
    found = decode_lock_trace(trace, decoded, raw.started_ns)
    events = tuple(of_family(decoded.events, {pid, *(process.pid for process in raw.snapshots)}))
    recording = Recording(
        decoded.samples,
        events,
        raw.snapshots,
        containers_of(raw.snapshots, events),
        lock_columns=found.columns,
        locks=found.words,
        memory_maps=trace.maps,
    )
    by_place = symbolize(recording, _info(raw, decoded, trace, pid, command_line), 1.0, raw.held_files, raw.held_jit)
    lock_of_place, locks = _together(by_place.locks)
    profile = name_locks(_with_locks(by_place, lock_of_place, locks), load_rules())
    return LockTrace(profile, paths_by_lock(_paths(by_place, found.places, lock_of_place), len(locks)))


def paths_by_lock(paths: Iterable[LockPath], locks: int) -> tuple[tuple[LockPath, ...], ...]:
    """The paths of each of so many locks, in the order that they have."""
    found: list[list[LockPath]] = [[] for _ in range(locks)]
    for path in paths:
        found[path.lock].append(path)
    return tuple(tuple(of_lock) for of_lock in found)


def _info(raw: RawRecording, decoded: Decoded, trace: RawLockTrace, pid: int, command_line: str) -> RecordingInfo:
    system = os.uname()
    return RecordingInfo(
        command=command_line,
        pid=pid,
        host=system.nodename,
        kernel=system.release,
        started_unix_ns=raw.started_unix_ns,
        duration_ns=raw.ended_ns - raw.started_ns,
        cpu_time_ns=raw.cpu_time_ns or 0,
        run_delay_ns=raw.run_delay_ns,
        lost=decoded.lost,
        skipped=decoded.skipped,
        kernel_frames=raw.choice.kernel_frames,
        stack_bytes=raw.choice.stack_bytes,
        probes=trace.probes,
        waits_left_out=trace.beyond_table[0],
        waits_unseen=trace.counts["no_thread_entry"] + trace.counts["no_hold_entry"],
        notes=raw.notes,
    )


def _together(places: Sequence[Lock]) -> tuple[NDArray[np.int32], tuple[Lock, ...]]:
    """The locks that these places are of: which one each is of, int32[places], and all locks, with their sums."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number, place in enumerate(places):
        members[place.address].append(number)
    of_place = np.zeros(len(places), np.int32)
    for lock, numbers in enumerate(members.values()):
        of_place[numbers] = lock
    return of_place, tuple(_lock_of([places[number] for number in numbers]) for numbers in members.values())


def _lock_of(places: Sequence[Lock]) -> Lock:
    holds = [place.held for place in places if place.held is not None]
    waited = [place for place in places if place.held is None]
    return replace(
        places[0],
        has_owner=any(place.has_owner for place in places),
        ends=WaitEnds(
            woken=sum(place.ends.woken for place in waited), failed=sum(place.ends.failed for place in waited)
        ),
        total_ns=sum(place.total_ns for place in waited),
        unreleased_ns=0,
        max_ns=max((place.max_ns for place in waited), default=0),
        histogram=_added([place.histogram for place in waited]),
        held=HoldTimes(
            sum(hold.count for hold in holds),
            sum(hold.total_ns for hold in holds),
            max((hold.max_ns for hold in holds), default=0),
            _added([hold.histogram for hold in holds]),
        ),
    )


def _added(histograms: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*histograms, strict=True))) if histograms else (0,) * HISTOGRAM_BUCKETS


def _with_locks(by_place: Profile, lock_of_place: NDArray[np.int32], locks: tuple[Lock, ...]) -> Profile:
    """The profile with locks instead of their places. Samples of what was not over by the end count for nothing."""
    rows = by_place.samples.select(np.flatnonzero(by_place.samples.lock >= 0))
    keys = np.stack([rows.stack, rows.thread, lock_of_place[rows.lock]], axis=1)
    distinct, row = np.unique(keys, axis=0, return_inverse=True)
    values = np.zeros((len(distinct), rows.values.shape[1]), np.int64)
    np.add.at(values, row.reshape(-1), rows.values)
    stack, thread, lock = (distinct[:, column].astype(np.int32) for column in range(3))
    return replace(by_place, samples=SampleColumns(stack, thread, values, lock), locks=locks)


def _paths(by_place: Profile, places: Sequence[Place], lock_of_place: NDArray[np.int32]) -> tuple[LockPath, ...]:
    """The places whose stacks have equal names, as one.

    A place is told by return addresses near the top of the stack. Where its samples are of several stacks, which differ
    further away, the one that was met most often stands for all.
    """
    names = _names(by_place, len(places))
    merged: dict[tuple[int, bool, tuple[str, ...]], LockPath] = {}
    for number, place in enumerate(places):
        key = int(lock_of_place[number]), place.is_hold, names[number]
        known = merged.get(key)
        path = LockPath(*key, place.count, place.failed, place.total_ns, place.max_ns, place.histogram)
        merged[key] = path if known is None else _sum(known, path)
    return tuple(sorted(merged.values(), key=lambda path: (-path.total_ns, path.names)))


def _names(by_place: Profile, places: int) -> list[tuple[str, ...]]:
    samples = by_place.samples
    heaviest: list[tuple[str, ...]] = [(OTHER_PATHS,)] * places
    counts = samples.values[:, (0, 2)].sum(axis=1)
    for row in np.argsort(counts, kind="stable").tolist():
        place = int(samples.lock[row])
        if place >= 0:
            heaviest[place] = names_of_stack(by_place, int(samples.stack[row]))
    return heaviest


def _sum(first: LockPath, second: LockPath) -> LockPath:
    return replace(
        first,
        count=first.count + second.count,
        failed=first.failed + second.failed,
        total_ns=first.total_ns + second.total_ns,
        max_ns=max(first.max_ns, second.max_ns),
        histogram=_added([first.histogram, second.histogram]),
    )
