"""Names the stacks of those who send signals, batch by batch, while the trace goes on."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from flame.names import short_name
from lockflame.cli.trace.signal_lines import Frame
from lockflame.events import CommEvent, Event, ExitEvent, ForkEvent, MapEvent, ProcessSnapshot
from lockflame.profile import FrameKind, Location, Profile, RecordingInfo
from lockflame.samples import Recording
from sampler.bpf.syscall import Map
from sampler.trace.stacks import StackBatch, StackRings, process_snapshots
from symbolize.address_space import AddressSpace
from symbolize.symbolizer import symbolize

StackKey = tuple[int, int]
"""Thread and time, as `SignalEvent.stack_key`."""

RAW_KEY = struct.Struct("<QI")
"""At the start of struct sample of signals.bpf.c: time, thread."""

SENDING = frozenset(
    {"__send_signal_locked", "send_signal_locked", "__send_signal", "send_signal", "send_sigqueue"}
    | {"posixtimer_send_sigqueue", "do_send_sig_info", "group_send_sig_info", "send_sig_info", "send_sig"}
    | {"force_sig_info_to_task", "force_sig_info", "force_sig_fault", "force_sig_fault_to_task", "force_sig"}
    | {"kill_pid_info", "kill_pid_info_type", "kill_pid", "__kill_pgrp_info", "kill_pgrp"}
)
"""The kernel's functions that send whatever signal: what led to it lies above them."""


class StackNamer:
    """Knows what each process has mapped, and names stacks by it."""

    def __init__(self, snapshots: Iterable[ProcessSnapshot]) -> None:
        self._spaces: dict[int, AddressSpace] = {}
        self._ended: set[int] = set()
        self.look_anew(snapshots)

    def look_anew(self, snapshots: Iterable[ProcessSnapshot]) -> None:
        """Takes over what processes have mapped now: at the start, and where news of it were lost."""
        for process in snapshots:
            space = AddressSpace(process.pid)
            for mapping in process.mappings:
                space = space.with_mapping(mapping)
            self._spaces[process.pid] = space

    def names(self, batch: StackBatch) -> dict[StackKey, tuple[Frame, ...]]:
        """The stack of each sample, leaf first, by its thread and time."""
        found: dict[StackKey, tuple[Frame, ...]] = {}
        if len(batch.samples):
            profile = self._profile(batch)
            for row, stack in _stacks_of(profile).items():
                time_ns, tid = RAW_KEY.unpack_from(batch.raw[row])
                found[tid, time_ns] = stack
        self._advance(batch.events)
        return found

    def _profile(self, batch: StackBatch) -> Profile:
        """One in which each sample has a thread of its own, numbered by its row: else equal stacks are summed up."""
        count = len(batch.samples)
        samples = replace(batch.samples, tid=np.arange(count, dtype=np.int32))
        parents = {event.parent_pid for event in batch.events if isinstance(event, ForkEvent)}
        pids = parents | set(batch.samples.pid.tolist())
        snapshots = tuple(
            ProcessSnapshot(pid, {}, self._spaces[pid].mappings) for pid in sorted(pids) if pid in self._spaces
        )
        events = tuple(event for event in batch.events if not _is_of_thread(event))
        return symbolize(Recording(samples, events, snapshots), RecordingInfo())

    def _advance(self, events: Iterable[Event]) -> None:
        """Keeps what the processes have mapped after a batch."""
        for event in events:
            if isinstance(event, MapEvent):
                space = self._spaces.get(event.pid) or AddressSpace(event.pid)
                self._spaces[event.pid] = space.with_mapping(event.mapping)
            elif isinstance(event, CommEvent) and event.is_exec:
                self._spaces[event.pid] = AddressSpace(event.pid)
            elif isinstance(event, ForkEvent) and event.pid != event.parent_pid:
                self._spaces[event.pid] = self._spaces.get(event.parent_pid) or AddressSpace(event.parent_pid)
            elif isinstance(event, ExitEvent) and event.tid == event.pid:
                self._ended.add(event.pid)
        # The first thread of a process may end before the others do.
        for pid in [pid for pid in self._ended if not os.path.exists(f"/proc/{pid}")]:
            self._ended.discard(pid)
            self._spaces.pop(pid, None)


def shown(stack: tuple[Frame, ...], *, is_kernels: bool, is_by_timer: bool) -> tuple[Frame, ...]:
    """Of a stack what led to a signal: the program's part, or for one of the kernel's what isn't mere sending too."""
    kernel = [frame for frame in stack if frame.is_kernel]
    user = [frame for frame in stack if not frame.is_kernel]
    if not is_kernels:
        return tuple(user)
    sent = max((index for index, frame in enumerate(kernel) if frame.name in SENDING), default=-1)
    # A timer interrupts whoever runs, who has nothing to do with it.
    return tuple(kernel[sent + 1 :] + ([] if is_by_timer else user))


def _is_of_thread(event: Event) -> bool:
    """Whether it tells only of a thread: their numbers stand for something else here."""
    if isinstance(event, CommEvent):
        return not event.is_exec
    return isinstance(event, ExitEvent) or (isinstance(event, ForkEvent) and event.pid == event.parent_pid)


def _stacks_of(profile: Profile) -> dict[int, tuple[Frame, ...]]:
    """By the row of the sample."""
    frames = [tuple(_frames(profile, location)) for location in profile.locations]
    stacks: dict[int, tuple[Frame, ...]] = {}
    rows: list[int] = profile.samples.stack.tolist()
    threads: list[int] = profile.samples.thread.tolist()
    for stack, thread in zip(rows, threads, strict=True):
        locations: list[int] = profile.stacks[stack].tolist()
        stacks[profile.threads[thread].tid] = tuple(frame for location in locations for frame in frames[location])
    return stacks


def _frames(profile: Profile, location: Location) -> Iterable[Frame]:
    binary = profile.mappings[location.mapping].path if location.mapping >= 0 else ""
    for line in location.lines:
        function = profile.functions[line.function]
        source = f"{os.path.basename(function.path)}:{line.line}" if function.path and line.line else ""
        yield Frame(short_name(function.name), source or os.path.basename(binary), location.kind == FrameKind.KERNEL)


class SenderStacks:
    """The stacks of a running trace."""

    def __init__(self, samples: Map) -> None:
        """`samples` is where the programs put them. Raises `LockflameError` and `OSError`."""
        self.lost = 0
        """News of processes, and stacks, that the kernel had no room for or that couldn't be read."""
        self._early: dict[StackKey, tuple[Frame, ...]] = {}
        self._rings = StackRings(samples)
        self._namer = StackNamer(self._rings.start())

    def read(self) -> dict[StackKey, tuple[Frame, ...]]:
        """The stacks that were taken since the call before the last: a signal may be read a little after its stack."""
        batch = self._rings.read()
        if batch.lost:
            self._namer.look_anew(process_snapshots())
        self.lost += batch.lost + batch.skipped
        found = self._namer.names(batch)
        both = self._early | found
        self._early = found
        return both

    def close(self) -> None:
        """Ends the taking of stacks."""
        self._rings.close()
