"""The user stacks of what was counted by path: taken while the trace goes on, named at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flame.names import short_name
from lockflame.events import CommEvent, Event, ExitEvent, ForkEvent
from lockflame.profile import Location, Profile, RecordingInfo
from lockflame.samples import Callchains, Recording, SampleTable, StackCopies
from sampler.bpf.syscall import Map
from sampler.trace.stacks import STACK_BYTES, StackBatch, StackRings
from symbolize.ragged import offsets_of, positions
from symbolize.symbolizer import symbolize

Path = tuple[int, int]
"""A process, and the number that the programs gave a path of its code."""

BYTES_MOST = 256 << 20
"""Of stacks that are kept for the end."""
EVENTS_MOST = 1_000_000
SEVERAL = "(several ways)"


class CallStacks:
    """Stacks from `start` on, until `close`. `path_of` reads a path off the bytes that came with a stack."""

    def __init__(self, output: Map, path_of: Callable[[bytes], Path]) -> None:
        """`output` is the programs' BPF_PERF_OUTPUT. Raises `LockflameError` and `OSError`."""
        self._path_of = path_of
        self._rings = StackRings(output)
        self._snapshots = ()
        self._tables: list[SampleTable] = []
        self._paths: list[Path] = []
        self._events: list[Event] = []
        self._bytes = 0
        self.lost = 0
        """Stacks that there was no room for, and news of processes."""

    def start(self) -> None:
        """Takes stacks from now on."""
        self._snapshots = self._rings.start()

    def read(self) -> None:
        """Takes over what came since the last call."""
        batch = self._rings.read()
        self.lost += batch.lost + batch.skipped
        if self._bytes > BYTES_MOST or len(self._events) > EVENTS_MOST:
            self.lost += len(batch.samples) + len(batch.events)
            return
        self._events += batch.events
        self._keep(batch)

    def close(self) -> None:
        """Takes no more."""
        self._rings.close()

    def named(self) -> dict[Path, tuple[str, ...]]:
        """The stack of each path, leaf first: what all of its samples agree in."""
        if not self._paths:
            return {}
        profile = symbolize(self._recording(), RecordingInfo(stack_bytes=STACK_BYTES))
        stacks = _stacks_of(profile)
        found: dict[Path, list[tuple[str, ...]]] = {}
        for row, path in enumerate(self._paths):
            if stacks.get(row):
                found.setdefault(path, []).append(stacks[row])
        return {path: agreed(several) for path, several in found.items()}

    def _recording(self) -> Recording:
        """All of it, with each sample as a thread of its own, numbered by its row: else equal stacks are summed up."""
        samples, order = in_order(joined(self._tables))
        self._paths = [self._paths[row] for row in order.tolist()]
        events = [event for event in self._events if not _is_of_thread(event)]
        parents = {event.parent_pid for event in events if isinstance(event, ForkEvent)}
        pids = parents | {pid for pid, _ in self._paths} | set(samples.pid.tolist())
        return Recording(
            replace(samples, tid=np.arange(len(samples), dtype=np.int32)),
            tuple(sorted(events, key=lambda event: event.time_ns)),
            tuple(process for process in self._snapshots if process.pid in pids),
        )

    def _keep(self, batch: StackBatch) -> None:
        count = len(batch.samples)
        if count:
            self._tables.append(batch.samples)
            self._paths += [self._path_of(raw) for raw in batch.raw]
            self._bytes += batch.samples.stacks.words.nbytes


def joined(tables: Sequence[SampleTable]) -> SampleTable:
    """The rows of all tables, one after the other."""
    bases = np.cumsum([0, *(len(table.stacks.words) for table in tables)])[:-1]
    starts = [table.stacks.start + base for table, base in zip(tables, bases, strict=True)]

    def column(get: Callable[[SampleTable], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([get(table) for table in tables])

    def chains(get: Callable[[SampleTable], Callchains]) -> Callchains:
        lengths = np.concatenate([np.diff(get(table).offsets) for table in tables])
        return Callchains(offsets_of(lengths), column(lambda table: get(table).addresses))

    stacks = StackCopies(
        column(lambda table: table.stacks.words), np.concatenate(starts), column(lambda table: table.stacks.count)
    )
    return SampleTable(
        time_ns=column(lambda table: table.time_ns),
        pid=column(lambda table: table.pid),
        tid=column(lambda table: table.tid),
        cpu=column(lambda table: table.cpu),
        period=column(lambda table: table.period),
        kernel=chains(lambda table: table.kernel),
        user=chains(lambda table: table.user),
        registers=column(lambda table: table.registers),
        has_registers=column(lambda table: table.has_registers),
        stacks=stacks,
    )


def in_order(samples: SampleTable) -> tuple[SampleTable, NDArray[np.int64]]:
    """The rows in the order of time, and which row each was. Without the kernel's part: that is the tracepoint's."""
    order = np.argsort(samples.time_ns, kind="stable")
    lengths = np.diff(samples.user.offsets)[order]
    user = samples.user.addresses[positions(samples.user.offsets[:-1][order], lengths)]
    stacks = samples.stacks
    return SampleTable(
        time_ns=samples.time_ns[order],
        pid=samples.pid[order],
        tid=samples.tid[order],
        cpu=samples.cpu[order],
        period=samples.period[order],
        kernel=Callchains(np.zeros(len(order) + 1, np.int64), np.empty(0, np.uint64)),
        user=Callchains(offsets_of(lengths), user),
        registers=samples.registers[order],
        has_registers=samples.has_registers[order],
        stacks=StackCopies(stacks.words, stacks.start[order], stacks.count[order]),
    ), order


def _is_of_thread(event: Event) -> bool:
    """Whether it tells only of a thread: their numbers stand for something else here."""
    if isinstance(event, CommEvent):
        return not event.is_exec
    return isinstance(event, ExitEvent) or (isinstance(event, ForkEvent) and event.pid == event.parent_pid)


def agreed(stacks: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What all stacks begin and end with, and that there are several ways between if there are."""
    first = min(stacks, key=len)
    if all(stack == first for stack in stacks):
        return first
    leaf = _in_common(stacks, len(first))
    root = _in_common([stack[::-1] for stack in stacks], len(first) - leaf)
    return (*first[:leaf], SEVERAL, *first[len(first) - root :])


def _in_common(stacks: Sequence[tuple[str, ...]], most: int) -> int:
    """How many of the first functions, `most` at most, are the same in all stacks."""
    for count in range(most):
        if any(stack[count] != stacks[0][count] for stack in stacks):
            return count
    return most


def _stacks_of(profile: Profile) -> dict[int, tuple[str, ...]]:
    """Leaf first, by the row of the sample."""
    names = [tuple(_names(profile, location)) for location in profile.locations]
    stacks: dict[int, tuple[str, ...]] = {}
    stack: int
    thread: int
    for stack, thread in zip(profile.samples.stack.tolist(), profile.samples.thread.tolist(), strict=True):
        locations: list[int] = profile.stacks[stack].tolist()
        stacks[profile.threads[thread].tid] = tuple(name for location in locations for name in names[location])
    return stacks


def _names(profile: Profile, location: Location) -> Iterator[str]:
    binary = os.path.basename(profile.mappings[location.mapping].path) if location.mapping >= 0 else ""
    for line in location.lines:
        function = profile.functions[line.function]
        source = f"{os.path.basename(function.path)}:{line.line}" if function.path and line.line else binary
        yield f"{short_name(function.name)} ({source})" if source else short_name(function.name)
