"""Records: attaches, moves bytes from the ring buffers to a spool file, and sleeps in between.

Nothing is computed while recording: whatever time it took would be taken from the target.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from lockflame.errors import reason_of
from lockflame.events import HeldFiles, HeldJitFiles, ProcessSnapshot
from sampler import perf_event, procfs
from sampler.attach import (
    EventChoice,
    OpenEvent,
    attach,
    choose_events,
    close_events,
    online_cpus,
    open_rings,
    raise_file_limit,
    system_wide,
)
from sampler.ring import RingBuffer
from sampler.run_delay import run_delay_ns, run_delays_ns
from sampler.signals import StopSignals
from sampler.spool import open_spool

if TYPE_CHECKING:
    from sampler.futex.probes import RawLocks
    from sampler.trace.lock_probes import RawLockTrace

RING_BYTES_TOTAL = 32 << 20
RING_BYTES_LEAST = 512 << 10
RING_BYTES_MOST = 8 << 20
# No record is longer (`size` in struct perf_event_header has 16 bits).
RECORD_BYTES_MOST = 1 << 16
TICK_S = 0.5
# How often the target's end is looked for where the kernel has no pidfd (before 5.3).
NO_PIDFD_POLL_S = 0.2
# poll(2) takes milliseconds in an int, which 25 days fill.
LONGEST_SLEEP_S = 3600.0


@dataclass(frozen=True, slots=True)
class EventCount:
    """What an event counted (its inherited children too); see `OpenEvent` for `tid` and `late_id`."""

    tid: int
    late_id: int | None
    value: int
    time_running_ns: int


class Probes(Protocol):
    """Programs in the kernel that take part in a recording: attached when they are made, counting from `start` on."""

    def prepare(self) -> None:
        """Called right before `start`."""
        ...

    def start(self, started_ns: int) -> None:
        """Counts from now on."""
        ...

    def end(self) -> int:
        """Ends the counting; returns when that was, by CLOCK_MONOTONIC."""
        ...

    def finish(self, ended_ns: int, stack_bytes: int) -> tuple[RawLocks | RawLockTrace | None, list[bytes]]:
        """Detaches; returns what was counted, if anything was, and sample records to be added to the spool."""
        ...

    @property
    def notes(self) -> list[str]:
        """What the reader of the recording has to know."""
        ...

    def close(self) -> None:
        """Detaches everything and gives it up."""
        ...


MakeProbes = Callable[[int, EventChoice, list[RingBuffer]], Probes]
"""Makes the probes of a recording, of a process, whose samples go into the rings. Raises `LockflameError`."""


@dataclass(frozen=True, slots=True)
class RawRecording:
    """The bytes of a recording and what is known beside them. Times are CLOCK_MONOTONIC's.

    `spool` holds the kernel's records one after the other, each CPU's in order.
    """

    spool: IO[bytes]
    snapshots: tuple[ProcessSnapshot, ...]
    held_files: HeldFiles
    held_jit: HeldJitFiles
    choice: EventChoice
    counts: tuple[EventCount, ...]
    started_unix_ns: int
    started_ns: int
    ended_ns: int
    notes: tuple[str, ...]
    locks: RawLocks | RawLockTrace | None = None
    cpu_time_ns: int | None = None
    """The target's CPU time by the kernel's books, where `counts` don't tell it: of a system-wide choice."""
    run_delay_ns: int = 0

    def close(self) -> None:
        """Frees the spool and the mapped files."""
        self.spool.close()
        for descriptor in self.held_files.values():
            os.close(descriptor)
        procfs.close_jit_files(self.held_jit)


class Recorder:
    """One recording of a process and its children: `start`, `run`, `finish`, and `close` at the end."""

    def __init__(
        self,
        pid: int,
        frequency_hz: int,
        stack_bytes: int,
        enable_on_exec: bool = False,
        make_probes: MakeProbes | None = None,
    ) -> None:
        """Opens everything, disabled. With `enable_on_exec` the kernel starts it when `pid` calls exec.

        With `make_probes`, all events are those of the probes. Raises `LockflameError`; then nothing is left open.
        """
        self._pid = pid
        self._starts_by_itself = enable_on_exec
        cpus = online_cpus()
        self.choice = choose_events(pid, frequency_hz, stack_bytes, enable_on_exec)
        by_cpu = system_wide(self.choice)
        raise_file_limit()
        self._spool = open_spool()
        self._rings: list[RingBuffer] = []
        self._events: list[OpenEvent] = []
        self._snapshots: tuple[ProcessSnapshot, ...] = ()
        self._held_files: HeldFiles = {}
        self._held_jit: HeldJitFiles = {}
        self._notes: list[str] = []
        self._is_finished = False
        self._probes: Probes | None = None
        self._cpu_time_before_ns = 0
        self._run_delays: dict[int, int] = {}
        try:
            self._rings = open_rings(cpus, ring_bytes(frequency_hz, stack_bytes, len(cpus)))
            if make_probes is not None:
                # First: compiling them may take seconds.
                self._probes = make_probes(pid, by_cpu, self._rings)
            elif may_filter(self.choice):
                self._probes = self._cpu_filter(pid, by_cpu)
            if self._probes is not None:
                self.choice = by_cpu
            else:
                self._events, notes = attach(pid, self._rings, self.choice)
                self._notes += notes
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Enables the events; the recording's time begins."""
        if self._probes is not None:
            self._probes.prepare()
            self._cpu_time_before_ns = procfs.cpu_time_ns(self._pid)
        if not self._starts_by_itself:
            self._run_delays = run_delays_ns(self._pid)
        # Nothing between the two: a wait that began and ended there would count nowhere.
        self._started_unix_ns, self._started_ns = time.time_ns(), time.monotonic_ns()
        if self._probes is not None:
            self._probes.start(self._started_ns)
        if self._starts_by_itself:
            return
        perf_event.enable_own_events()
        # After enabling, so that no mapping falls between this look and the first event.
        self._snapshots = tuple(procfs.snapshot(member) for member in procfs.family(self._pid))
        self._held_files = procfs.hold_files(self._snapshots)
        self._held_jit = procfs.hold_jit_files(process.pid for process in self._snapshots)

    def run(
        self,
        duration_s: float | None,
        stop: StopSignals,
        on_signal: Callable[[int], bool],
        on_tick: Callable[[float, IO[bytes]], bool | None] | None,
    ) -> None:
        """Moves records to the spool until the time is over, the process has ended or a signal says so.

        `on_signal` is called with each signal's number and tells whether it ends the recording; `on_tick` twice a
        second with the seconds gone and the spool, and ends it where it says True. A spool that can't be written to
        ends the recording too, with a note.
        """
        try:
            with _Waiter(self._pid, self._rings, stop) as waiter:
                while True:
                    elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
                    left_s = float("inf") if duration_s is None else duration_s - elapsed_s
                    if left_s <= 0 or any(on_signal(number) for number in stop.take()):
                        return
                    if on_tick and on_tick(elapsed_s, self._spool):
                        return
                    ended = waiter.wait(min(left_s, TICK_S if on_tick else left_s))
                    for ring in self._rings:
                        ring.drain(self._spool.fileno())
                    if ended:
                        return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            self._notes.append(
                f"The recording ended early: the samples' temporary file cannot grow ({reason_of(error)}); "
                "set TMPDIR to a folder with more room."
            )

    def finish(self) -> RawRecording:
        """Ends the recording and returns it; the caller closes its spool."""
        ended_ns = self._probes.end() if self._probes is not None else 0
        perf_event.disable_own_events()
        ended_ns = ended_ns or time.monotonic_ns()
        cpu_time_ns = procfs.cpu_time_ns(self._pid) - self._cpu_time_before_ns if self._probes is not None else None
        delay_ns = run_delay_ns(self._run_delays, run_delays_ns(self._pid))
        try:
            self._drain_rest()
        except OSError as error:
            self._notes.append(f"The last samples are missing: {reason_of(error)}.")
        locks = self._finish_probes(ended_ns) if self._probes is not None else None
        counts = tuple(_count(event) for event in self._events)
        self._is_finished = True
        return RawRecording(
            spool=self._spool,
            snapshots=self._snapshots,
            held_files=self._held_files,
            held_jit=self._held_jit,
            choice=self.choice,
            counts=counts,
            started_unix_ns=self._started_unix_ns,
            started_ns=self._started_ns,
            ended_ns=ended_ns,
            notes=tuple(self._notes),
            locks=locks,
            cpu_time_ns=cpu_time_ns,
            run_delay_ns=delay_ns,
        )

    def _finish_probes(self, ended_ns: int) -> RawLocks | RawLockTrace | None:
        assert self._probes is not None
        counted, records = self._probes.finish(ended_ns, self.choice.stack_bytes)
        try:
            self._spool.write(b"".join(records))
        except OSError as error:
            self._notes.append(f"The stacks of waits that were open at the end are missing: {reason_of(error)}.")
        self._notes += self._probes.notes
        return counted

    def close(self) -> None:
        """Ends all events and frees the buffers; spool and held files too, unless `finish` has given them away."""
        if not self._is_finished:
            self._spool.close()
            for descriptor in self._held_files.values():
                os.close(descriptor)
            procfs.close_jit_files(self._held_jit)
            self._held_files, self._held_jit = {}, {}
        if self._probes is not None:
            self._probes.close()
            self._probes = None
        close_events(self._events)
        self._events = []
        for ring in self._rings:
            ring.close()
        self._rings = []

    def _drain_rest(self) -> None:
        for ring in self._rings:
            ring.drain(self._spool.fileno())
        for ring in self._rings:
            if ring.fullest_bytes > ring.size - RECORD_BYTES_MOST:
                try:
                    ring.flush_lost()
                except OSError as error:  # EINVAL: a CPU that our cpuset leaves out
                    reason = reason_of(error)
                    self._notes.append(f"More samples than counted may be lost on CPU {ring.cpu}: {reason}.")
                ring.drain(self._spool.fileno())

    def _cpu_filter(self, pid: int, choice: EventChoice) -> Probes | None:
        """The filter of CPU samples; None where the kernel doesn't allow it, or lacks something that it needs."""
        # Late: whoever has no right to it does without.
        from sampler.cpu_filter import CpuFilter

        try:
            return CpuFilter(pid, choice, self._rings)
        except OSError as error:
            self._notes.append(
                "An event for each thread, which costs the target more at each switch of threads: "
                f"the kernel refused a filter: {reason_of(error)} (lockflame doctor says more)."
            )
            return None


def may_filter(choice: EventChoice) -> bool:
    """Whether samples may come from events of whole CPUs, of which the kernel keeps the target's.

    Not where a command is to be seen from its first instruction, which only an event of its own can. Not with hardware
    counters, whose cycles are told in time by what each thread's event counted. Not within a pid namespace, whose ids
    aren't the kernel's.
    """
    needs_own_events = choice.enable_on_exec or choice.use_hardware or not choice.kernel_frames
    return not needs_own_events and not procfs.is_in_pid_namespace()


class _Waiter:
    """Sleeps until a ring buffer has enough to move, the process has ended, or a signal has come."""

    def __init__(self, pid: int, rings: list[RingBuffer], stop: StopSignals) -> None:
        self._pid = pid
        self._poll = select.poll()
        for ring in rings:
            self._poll.register(ring.descriptor, select.POLLIN)
        self._poll.register(stop.descriptor, select.POLLIN)
        self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pass  # `wait` finds it
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        else:
            self._poll.register(self._pidfd, select.POLLIN)

    def __enter__(self) -> _Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def wait(self, timeout_s: float) -> bool:
        """Returns whether the process has ended."""
        timeout_s = min(timeout_s, LONGEST_SLEEP_S if self._pidfd >= 0 else NO_PIDFD_POLL_S)
        ready = self._poll.poll(timeout_s * 1000)
        if self._pidfd < 0:
            status = procfs.process_status(self._pid)
            return status is None or status.state in "ZX"
        return any(descriptor == self._pidfd for descriptor, _ in ready)


def ring_bytes(frequency_hz: int, stack_bytes: int, cpus: int) -> int:
    """A ring buffer's size: about a second of samples, within bounds; a power of two."""
    wanted = frequency_hz * (stack_bytes + 1024)
    most = max(RING_BYTES_LEAST, min(RING_BYTES_MOST, RING_BYTES_TOTAL // cpus))
    size = RING_BYTES_LEAST
    while size < wanted and size * 2 <= most:
        size *= 2
    return size


def _count(event: OpenEvent) -> EventCount:
    count = perf_event.read_count(event.descriptor)
    return EventCount(event.tid, event.late_id, count.value, count.time_running_ns)
