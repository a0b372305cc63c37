"""Which file is mapped at an address of a process, at a time.

The events of a recording are replayed in the order of time. Every state that a sample saw is kept as
one immutable address space; processes that forked share it until one of them maps something else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lockflame.events import CommEvent, Event, FileMapping, ForkEvent, MapEvent, ProcessSnapshot

BEFORE_ALL = -1
ADDRESS_BITS = 48
"""User addresses of x86-64 have 47 bits; the bits above hold the number of the space in a combined key."""


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """Mappings that don't overlap, sorted by address; `pid` is the process it was first seen in."""

    pid: int
    mappings: tuple[FileMapping, ...] = ()

    def with_mapping(self, new: FileMapping) -> AddressSpace:
        """This space after `new` was mapped, over whatever lay there."""
        if new.end <= new.start:
            return self
        starts = [mapping.start for mapping in self.mappings]
        first = bisect_left(starts, new.start)
        if first and self.mappings[first - 1].end > new.start:
            first -= 1
        last = bisect_left(starts, new.end)
        kept: list[FileMapping] = []
        for old in self.mappings[first:last]:
            if old.start < new.start:
                kept.append(_cut(old, old.start, new.start))
        kept.append(new)
        for old in self.mappings[first:last]:
            if old.end > new.end:
                kept.append(_cut(old, new.end, old.end))
        return AddressSpace(self.pid, self.mappings[:first] + tuple(kept) + self.mappings[last:])


def _cut(mapping: FileMapping, start: int, end: int) -> FileMapping:
    offset = mapping.file_offset + start - mapping.start
    return replace(mapping, start=start, end=end, file_offset=offset)


@dataclass(frozen=True, slots=True)
class SampledSpaces:
    """The address spaces that samples saw; `of_sample` int32[n] has each sample's index into `spaces`."""

    spaces: tuple[AddressSpace, ...]
    of_sample: NDArray[np.int32]


class _History:
    """The states of one process over time. A state that no sample saw is replaced by the next one."""

    def __init__(self, sample_times: list[int]) -> None:
        self.times: list[int] = []
        self.spaces: list[AddressSpace] = []
        self._sample_times = sample_times

    def add(self, time_ns: int, space: AddressSpace) -> None:
        if self.times:
            unseen = bisect_left(self._sample_times, self.times[-1]) == bisect_left(self._sample_times, time_ns)
            if unseen:
                self.times.pop()
                self.spaces.pop()
        self.times.append(time_ns)
        self.spaces.append(space)

    def last(self) -> AddressSpace | None:
        return self.spaces[-1] if self.spaces else None


def replay(
    snapshots: Iterable[ProcessSnapshot],
    events: Iterable[Event],
    pid: NDArray[np.int32],
    time_ns: NDArray[np.int64],
) -> SampledSpaces:
    """Finds each sample's address space. `events` are in the order of time, and so are the samples.

    What a snapshot shows counts from the very beginning: it was taken just as the recording began,
    and mappings made meanwhile are among the events too. A process nobody saw begin has no mappings.
    """
    rows_of_pid = _rows_by_value(pid)
    histories: defaultdict[int, _History] = defaultdict(lambda: _History([]))
    for number, rows in rows_of_pid.items():
        histories[number] = _History(time_ns[rows].tolist())
    for process in snapshots:
        space = AddressSpace(process.pid)
        for mapping in process.mappings:
            space = space.with_mapping(mapping)
        histories[process.pid].add(BEFORE_ALL, space)
    for event in events:
        _apply(event, histories)
    spaces: dict[int, int] = {}
    kept: list[AddressSpace] = []
    of_sample = np.zeros(len(pid), dtype=np.int32)
    for number, rows in rows_of_pid.items():
        history = histories[number]
        numbers: list[int] = []
        for space in [AddressSpace(number), *history.spaces]:
            if id(space) not in spaces:
                spaces[id(space)] = len(kept)
                kept.append(space)
            numbers.append(spaces[id(space)])
        index = np.searchsorted(np.array(history.times, dtype=np.int64), time_ns[rows], side="right")
        of_sample[rows] = np.array(numbers, dtype=np.int32)[index]
    return _compact(kept, of_sample)


def _apply(event: Event, histories: defaultdict[int, _History]) -> None:
    if isinstance(event, MapEvent):
        history = histories[event.pid]
        space = history.last() or AddressSpace(event.pid)
        history.add(event.time_ns, space.with_mapping(event.mapping))
    elif isinstance(event, CommEvent) and event.is_exec:
        histories[event.pid].add(event.time_ns, AddressSpace(event.pid))
    elif isinstance(event, ForkEvent) and event.pid != event.parent_pid:
        parent = histories[event.parent_pid].last() or AddressSpace(event.parent_pid)
        histories[event.pid].add(event.time_ns, parent)


def _compact(spaces: list[AddressSpace], of_sample: NDArray[np.int32]) -> SampledSpaces:
    distinct, index = np.unique(of_sample, return_inverse=True)
    used: list[int] = distinct.tolist()
    return SampledSpaces(tuple(spaces[number] for number in used), index.astype(np.int32))


def _rows_by_value(values: NDArray[np.int32]) -> dict[int, NDArray[np.int64]]:
    """The rows of each value, ascending."""
    order = np.argsort(values, kind="stable").astype(np.int64)
    distinct, first = np.unique(values[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, first[1:]), strict=True)) if len(values) else {}


class CommTimeline:
    """The name (comm) of each thread over time."""

    def __init__(self, snapshots: Iterable[ProcessSnapshot], events: Iterable[Event]) -> None:
        self._times: defaultdict[int, list[int]] = defaultdict(list)
        self._comms: defaultdict[int, list[str]] = defaultdict(list)
        for process in snapshots:
            for tid, comm in process.comms.items():
                self._add(BEFORE_ALL, tid, comm)
        for event in events:
            if isinstance(event, CommEvent):
                self._add(event.time_ns, event.tid, event.comm)
            elif isinstance(event, ForkEvent) and self._comms[event.parent_tid]:
                self._add(event.time_ns, event.tid, self._comms[event.parent_tid][-1])

    def _add(self, time_ns: int, tid: int, comm: str) -> None:
        if not self._comms[tid] or self._comms[tid][-1] != comm:
            self._times[tid].append(time_ns)
            self._comms[tid].append(comm)

    def comm(self, tid: int, time_ns: int) -> str:
        """The thread's name at that time; empty when nothing told it."""
        index = bisect_right(self._times[tid], time_ns)
        return self._comms[tid][index - 1] if index else (self._comms[tid][0] if self._comms[tid] else "")

    def changes(self, tid: int) -> bool:
        """Whether the thread had more than one name."""
        return len(self._comms[tid]) > 1
