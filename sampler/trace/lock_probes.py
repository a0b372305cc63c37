"""Traces locks by uprobes on the functions that take and give them back: has programs count, and reads their sums."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lockflame.errors import LockflameError
from sampler import perf_event, procfs
from sampler.attach import SIDEBAND_FLAGS, EventChoice
from sampler.bpf import syscall
from sampler.bpf.hooks import close_all
from sampler.bpf.program import LoadedPrograms, compiled
from sampler.bpf.refusals import refusal
from sampler.bpf.syscall import Map
from sampler.bpf.uprobes import attach_uprobes, has_uprobe_events, has_uprobe_links
from sampler.perf_event import AttrFlags, output_attr
from sampler.ring import RingBuffer
from sampler.trace import lock_layout as layout

SOURCE = Path(__file__).with_name("locks.bpf.c")
WHAT = "cannot trace locks"
DEFINITIONS = {
    "THREAD_ENTRIES": layout.THREAD_ENTRIES,
    "HOLD_ENTRIES": layout.HOLD_ENTRIES,
    "PLACE_ENTRIES": layout.PLACE_ENTRIES,
}
NOTICE_NS = 200_000


@dataclass(frozen=True, slots=True)
class LockProbe:
    """A place in a file, and the program that runs there. With `at_return` also `on_return`, when the function ends."""

    path: str
    file_offset: int
    program: str
    at_return: bool


@dataclass(frozen=True, slots=True)
class LockFilter:
    """What to follow: one lock by its address, or all (0); waits of at least so long; where mutexes have their type.

    `hold_floor_ns` is what the probes add to each hold, at least.
    """

    only: int
    least_wait_ns: int
    type_offset: int
    hold_floor_ns: int


@dataclass(frozen=True, slots=True)
class RawLockTrace:
    """What the programs counted, undecoded: `places` has all keys and all values of the table, see `lock_layout`.

    `rest` are the sums of what found no room there, of waits and of holds. `open_waits` and `open_holds` count what was
    not over at the end. `sample_ids` are in the samples' IDENTIFIER; `maps` has /proc/PID/maps.
    """

    pid: int
    places: tuple[bytes, bytes]
    rest: tuple[bytes, bytes]
    counts: dict[str, int]
    open_waits: int
    open_holds: int
    sample_ids: frozenset[int]
    maps: dict[int, bytes]
    probes: str

    @property
    def beyond_table(self) -> tuple[int, int]:
        """How many waits and holds found no room in the table."""
        waits, holds = (layout.SUMS_HEAD.unpack_from(sums)[0] if sums else 0 for sums in self.rest)
        return waits, holds


class LockPrograms:
    """The programs, loaded, with their tables. Attached by `attach`; all ends with `close`.

    `as_links` tells whether the kernel sets probes all at once.
    """

    def __init__(self, cpus: int) -> None:
        """`cpus` is one more than the highest CPU's number. Raises `LockflameError`."""
        if not has_uprobe_events():
            raise LockflameError(
                WHAT, "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)", "use lockflame record --locks"
            )
        source = compiled(SOURCE, DEFINITIONS, WHAT)
        kinds = dict.fromkeys(source.programs, syscall.PROG_KPROBE)
        try:
            self.as_links = has_uprobe_links()
            self._loaded = LoadedPrograms(source, kinds, cpus, syscall.TRACE_UPROBE_MULTI if self.as_links else 0)
        except OSError as error:
            raise refusal(error, WHAT) from error

    @property
    def maps(self) -> dict[str, Map]:
        """The tables, by name."""
        return self._loaded.maps

    def attach(self, pid: int, probes: Sequence[LockProbe]) -> list[int]:
        """Sets probes in a process; returns the descriptors that keep them. Raises `LockflameError`."""
        descriptors: list[int] = []
        places: defaultdict[tuple[str, str, bool], list[int]] = defaultdict(list)
        for probe in probes:
            places[probe.program, probe.path, False].append(probe.file_offset)
            if probe.at_return:
                places["on_return", probe.path, True].append(probe.file_offset)
        try:
            # Returns first: a call that is seen shall be seen to its end.
            for (program, path, at_return), offsets in sorted(places.items(), key=lambda item: not item[0][2]):
                number = self._loaded.programs[program]
                descriptors += attach_uprobes(pid, path, offsets, number, at_return=at_return, as_link=self.as_links)
        except OSError as error:
            close_all(descriptors)
            raise refusal(error, WHAT) from error
        except BaseException:
            close_all(descriptors)
            raise
        return descriptors

    def set_control(self, start_ns: int, end_ns: int, code: tuple[int, int], chosen: LockFilter) -> None:
        """From when to when the programs count, where the program's own code lies, and what they follow."""
        entry = layout.CONTROL.pack(
            start_ns, end_ns, *code, chosen.only, chosen.least_wait_ns, chosen.type_offset, chosen.hold_floor_ns
        )
        self.maps["this_control"].put(bytes(4), entry)

    def clear(self) -> None:
        """Forgets all that was counted."""
        for name in ("places", "threads", "holds"):
            for key, _ in self.maps[name].items():
                self.maps[name].delete(key)
        for name, entries in (("rest", 2), ("next_sample", 1)):
            for number in range(entries):
                self.maps[name].put(number.to_bytes(4, "little"), b"")
        for number in range(len(layout.COUNTS)):
            self.maps["counts"].put(number.to_bytes(4, "little"), b"")

    def forget_ended_threads(self, pid: int) -> None:
        """Makes room for others in the table of threads. Those that ended while they waited stay: they are counted.

        In a pid namespace, where threads have other numbers than in the table, it does nothing.
        """
        if procfs.is_in_pid_namespace():
            return
        entries = list(self.maps["threads"].items())
        alive = {*procfs.threads(pid)}
        if not alive:
            return
        for key, value in entries:
            if int.from_bytes(key, "little") not in alive and not any(layout.THREAD.unpack(value)):
                self.maps["threads"].delete(key)

    def count(self, name: str) -> int:
        """One of `lock_layout.COUNTS`, of all CPUs together."""
        value = self.maps["counts"].get(layout.COUNTS.index(name).to_bytes(4, "little")) or b""
        return sum(count for (count,) in struct.iter_unpack("<Q", value))

    def least_hold_ns(self) -> int:
        """The shortest time that a lock was held; 0 where none was."""
        key_of, sums_of = layout.PLACE_KEY, layout.SUMS_HEAD
        holds = (
            sums_of.unpack_from(value)
            for key, value in self.maps["places"].items()
            if key_of.unpack(key)[2] == layout.SIDE_HOLD
        )
        return min((least_ns for count, _, _, least_ns in holds if count), default=0)

    def close(self) -> None:
        """Gives the programs and the tables up."""
        self._loaded.close()


class LockTracer:
    """The probes of one trace, as a `Recorder` has them: set on creation, counting between `start` and `end`."""

    def __init__(
        self,
        pid: int,
        programs: LockPrograms,
        probes: Sequence[LockProbe],
        chosen: LockFilter,
        choice: EventChoice,
        rings: list[RingBuffer],
    ) -> None:
        """Sets the probes in process `pid`. The programs stay the caller's. Raises `LockflameError`."""
        self._pid = pid
        self._programs = programs
        self._chosen = chosen
        self._code = procfs.program_code(pid)
        self._started_ns = 0
        self._outputs: list[int] = []
        self._probes: list[int] = []
        self._sample_ids: set[int] = set()
        self._names = f"uprobes on {len(probes)} lock functions"
        self.notes: list[str] = []
        """What the reader of the recording has to know."""
        try:
            self._open_outputs(choice, rings)
            programs.set_control(layout.NEVER_NS, layout.NEVER_NS, self._code, chosen)
            self._probes = programs.attach(pid, probes)
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Nothing is to be known beforehand: a lock that is held already counts from when it is taken the next time."""

    def start(self, started_ns: int) -> None:
        """Counts from now on."""
        self._started_ns = started_ns
        for descriptor in self._outputs:
            fcntl.ioctl(descriptor, perf_event.IOC_ENABLE, 0)
        self._programs.set_control(started_ns, layout.NEVER_NS, self._code, self._chosen)

    def end(self) -> int:
        """Ends the counting; returns when that was, by CLOCK_MONOTONIC."""
        ended_ns = time.monotonic_ns() + NOTICE_NS
        self._programs.set_control(self._started_ns, ended_ns, self._code, self._chosen)
        time.sleep(NOTICE_NS / 1e9)
        return ended_ns

    def finish(self, ended_ns: int, stack_bytes: int) -> tuple[RawLockTrace, list[bytes]]:
        """Takes the probes away; returns what was counted. There are no samples but those of the programs."""
        self._detach()
        maps = self._programs.maps
        starts_ns = (start_ns for _, value in maps["threads"].items() for start_ns in layout.THREAD.unpack(value))
        trace = RawLockTrace(
            pid=self._pid,
            places=maps["places"].dump(),
            rest=(maps["rest"].get(bytes(4)) or b"", maps["rest"].get((1).to_bytes(4, "little")) or b""),
            counts={name: self._programs.count(name) for name in layout.COUNTS},
            open_waits=sum(1 for start_ns in starts_ns if start_ns),
            open_holds=sum(1 for _ in maps["holds"].items()),
            sample_ids=frozenset(self._sample_ids),
            maps=procfs.memory_maps([self._pid]),
            probes=self._names,
        )
        return trace, []

    def close(self) -> None:
        """Takes the probes away and gives all up but the programs."""
        self._detach()
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = []

    def _detach(self) -> None:
        close_all(self._probes)
        self._probes = []

    def _open_outputs(self, choice: EventChoice, rings: list[RingBuffer]) -> None:
        """An event on each CPU that the programs have samples taken by, which tells of new mappings as well."""
        attr = output_attr(choice.attr(), SIDEBAND_FLAGS & ~AttrFlags.INHERIT)
        try:
            for ring in rings:
                descriptor = perf_event.open_event(attr, -1, ring.cpu)
                self._outputs.append(descriptor)
                perf_event.redirect_output(descriptor, ring.descriptor)
                self._sample_ids.add(perf_event.event_id(descriptor))
                self._programs.maps["samples"].put(ring.cpu.to_bytes(4, "little"), descriptor.to_bytes(4, "little"))
        except OSError as error:
            raise refusal(error, WHAT) from error
