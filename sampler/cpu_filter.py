"""CPU samples by one event on each CPU, of which three small programs in the kernel keep those of the target.

An event for each thread is taken off the CPU and put on it again at each switch of threads, which costs a program that
fights for its locks up to half of its work. Nothing has to be compiled for these programs. Whoever may not load them
samples by an event for each thread (`sampler.attach`).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from threading import Thread

from lockflame.errors import LockflameError
from sampler import perf_event, procfs
from sampler.attach import EventChoice
from sampler.bpf import syscall
from sampler.bpf.hooks import IOC_SET_BPF, attach_tracepoint, close_all
from sampler.bpf.instructions import (
    GET_CURRENT_PID_TGID,
    MAP_DELETE_ELEM,
    MAP_LOOKUP_ELEM,
    MAP_UPDATE_ELEM,
    STACK,
    add_atomically,
    add_value,
    call,
    exit_if_set,
    exit_unless,
    exit_with,
    load,
    load_map,
    move,
    move_value,
    shift_right,
    store,
    store_value,
)
from sampler.bpf.syscall import Map
from sampler.bpf.tracefs import TraceFs
from sampler.ring import RingBuffer

# Processes alive at a time.
TARGET_ENTRIES = 16_384
FAMILY_SCANS = 3
CLONE_THREAD = 0x10000
FORKED, FREED = "task:task_newtask", "sched:sched_process_free"


class CpuFilter:
    """The CPU samples of one recording, of a process and its children: see `sampler.recorder.Probes`."""

    def __init__(self, pid: int, choice: EventChoice, rings: list[RingBuffer]) -> None:
        """Opens the events, disabled, with the fields of a system-wide `choice`; samples go into the rings.

        Raises `OSError` where the kernel refuses or lacks any of it, `LockflameError` where the process has ended.
        """
        self._descriptors: list[int] = []
        self._hooks: list[int] = []
        try:
            self._targets = self._map(syscall.MAP_HASH, 4, TARGET_ENTRIES)
            self._missed = self._map(syscall.MAP_ARRAY, 8, 1)
            self._attach(rings, choice)
            self._seed(pid)
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Nothing is left to be done."""

    def start(self, started_ns: int) -> None:
        """The events are enabled with all others of this thread."""

    def end(self) -> int:
        """Ends the sampling; returns when that was."""
        perf_event.disable_own_events()
        return time.monotonic_ns()

    def finish(self, ended_ns: int, stack_bytes: int) -> tuple[None, list[bytes]]:
        """Nothing but samples was taken."""
        return None, []

    @property
    def notes(self) -> list[str]:
        """What the reader of the recording has to know."""
        missed = int.from_bytes(self._missed.get(bytes(4)) or b"", "little")
        if not missed:
            return []
        return [f"{missed:,} child processes have no samples: more than {TARGET_ENTRIES:,} lived at a time."]

    def close(self) -> None:
        """Gives up everything; the kernel takes its time with tracepoints, for which nobody has to wait."""
        if self._hooks:
            Thread(target=close_all, args=(self._hooks,)).start()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._hooks, self._descriptors = [], []

    def _map(self, kind: int, value_bytes: int, entries: int) -> Map:
        descriptor = syscall.create_map(kind, 4, value_bytes, entries, 0)
        self._descriptors.append(descriptor)
        return Map(descriptor, 4, value_bytes, entries)

    def _attach(self, rings: list[RingBuffer], choice: EventChoice) -> None:
        targets, missed = self._targets.descriptor, self._missed.descriptor
        with TraceFs() as tracefs:
            forked, freed = tracefs.tracepoint(FORKED), tracefs.tracepoint(FREED)
        if forked is None or freed is None:
            raise FileNotFoundError(2, f"the kernel has no tracepoint {FORKED} or {FREED}")
        on_new_task = follow_children(targets, missed, forked.fields["pid"], forked.fields["clone_flags"])
        for tracepoint, code in ((freed, forget_process(targets, freed.fields["pid"])), (forked, on_new_task)):
            self._hooks.append(attach_tracepoint(tracepoint, self._program(syscall.PROG_TRACEPOINT, code)))
        keep = self._program(syscall.PROG_PERF_EVENT, keep_targets(targets))
        attr = choice.attr()
        for ring in rings:
            descriptor = perf_event.open_event(attr, -1, ring.cpu)
            self._descriptors.append(descriptor)
            fcntl.ioctl(descriptor, IOC_SET_BPF, keep)
            perf_event.redirect_output(descriptor, ring.descriptor)

    def _program(self, kind: int, code: bytes) -> int:
        descriptor = syscall.load_program(kind, code)
        self._descriptors.append(descriptor)
        return descriptor

    def _seed(self, pid: int) -> None:
        """Names the processes that are there already; those that they fork from now on are named by the kernel."""
        for _ in range(FAMILY_SCANS):
            for member in procfs.family(pid):
                with suppress(FileExistsError):
                    self._targets.put(member.to_bytes(4, "little"), bytes(4), syscall.UPDATE_NOEXIST)
        if not procfs.threads(pid):
            raise LockflameError(f"cannot profile process {pid}", "it has ended", "check the PID with: ps -e")


def keep_targets(targets: int) -> bytes:
    """A program at a CPU sample: 1 keeps it, where the process on the CPU is a target, 0 drops it."""
    return b"".join(
        (
            call(GET_CURRENT_PID_TGID),
            shift_right(0, 32),
            *_look_up(targets, key=0),
            exit_unless(0, returning=0),
            exit_with(1),
        )
    )


def follow_children(targets: int, missed: int, pid: tuple[int, int], clone_flags: tuple[int, int]) -> bytes:
    """A program at task:task_newtask: the children of targets are targets; threads have their process's id already.

    `pid` and `clone_flags` are the offset and size of the tracepoint's fields.
    """
    return b"".join(
        (
            move(6, 1),
            load(1, 6, clone_flags[0], size=clone_flags[1]),
            exit_if_set(1, CLONE_THREAD, returning=0),
            call(GET_CURRENT_PID_TGID),
            shift_right(0, 32),
            *_look_up(targets, key=0),
            exit_unless(0, returning=0),
            load(1, 6, pid[0]),
            store(STACK, -4, 1),
            store_value(STACK, -8, 0),
            load_map(1, targets),
            move(2, STACK),
            add_value(2, -4),
            move(3, STACK),
            add_value(3, -8),
            move_value(4, syscall.UPDATE_ANY),
            call(MAP_UPDATE_ELEM),
            exit_unless(0, returning=0),
            # The map is full.
            move_value(0, 0),
            *_look_up(missed, key=0),
            exit_unless(0, returning=0),
            move_value(1, 1),
            add_atomically(0, 0, 1),
            exit_with(0),
        )
    )


def forget_process(targets: int, pid: tuple[int, int]) -> bytes:
    """A program at sched:sched_process_free, where a process or a thread is gone: its number may be another's soon.

    A process goes after all of its threads, so that its id means the whole of it; a thread's id is no target's.
    """
    return b"".join(
        (
            load(1, 1, pid[0]),
            store(STACK, -4, 1),
            load_map(1, targets),
            move(2, STACK),
            add_value(2, -4),
            call(MAP_DELETE_ELEM),
            exit_with(0),
        )
    )


def _look_up(descriptor: int, *, key: int) -> tuple[bytes, ...]:
    """Register 0 = the place of the value for the 4 bytes in register `key`, or 0."""
    return (
        store(STACK, -4, key),
        load_map(1, descriptor),
        move(2, STACK),
        add_value(2, -4),
        call(MAP_LOOKUP_ELEM),
    )
