"""Opens the sampling events of a target: one for each of its threads on each CPU.

An event that children inherit can't be mapped when it follows its thread over all CPUs
(perf_mmap in kernel/events/core.c), hence one for each CPU. What the kernel allows is found by trying.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lockflame.errors import LockflameError, reason_of
from sampler import perf_event, procfs
from sampler.limits import max_sample_rate_hz, paranoid_level
from sampler.perf_event import AttrFlags, PerfEventAttr, SampleFields
from sampler.ring import MIN_PAGES, RingBuffer

SAMPLE_FIELDS = (
    SampleFields.IDENTIFIER
    | SampleFields.IP
    | SampleFields.TID
    | SampleFields.TIME
    | SampleFields.CPU
    | SampleFields.PERIOD
    | SampleFields.CALLCHAIN
)

# All of PERF_REG_X86_* but ds, es, fs and gs, which a sample of a 64-bit program can't have.
USER_REGISTERS_MASK = 0xFF0FFF

SIDEBAND_FLAGS = (
    AttrFlags.INHERIT
    | AttrFlags.MMAP
    | AttrFlags.MMAP2
    | AttrFlags.COMM
    | AttrFlags.COMM_EXEC
    | AttrFlags.TASK
    | AttrFlags.SAMPLE_ID_ALL
    | AttrFlags.USE_CLOCKID
)

# How often threads that came into being meanwhile are looked for.
MAX_SCANS = 4


@dataclass(frozen=True, slots=True)
class EventChoice:
    """What to sample on and what goes into a sample; `stack_bytes` 0: kernel callchains alone."""

    frequency_hz: int
    stack_bytes: int
    use_hardware: bool = True
    kernel_frames: bool = True
    build_ids: bool = True
    enable_on_exec: bool = False
    is_system_wide: bool = False
    """Of all that runs on a CPU, for who filters it: an event for each thread costs at each switch of threads."""

    @property
    def event_name(self) -> str:
        """The name of the event as perf tools call it."""
        return "cycles" if self.use_hardware else "cpu-clock"

    def attr(self) -> PerfEventAttr:
        """The kernel's description of this choice."""
        flags = SIDEBAND_FLAGS | AttrFlags.DISABLED | AttrFlags.FREQ | AttrFlags.EXCLUDE_HV
        flags |= AttrFlags.BUILD_ID if self.build_ids else 0
        flags |= 0 if self.kernel_frames else AttrFlags.EXCLUDE_KERNEL
        flags |= AttrFlags.ENABLE_ON_EXEC if self.enable_on_exec else 0
        if self.is_system_wide:
            flags = (flags | AttrFlags.EXCLUDE_IDLE) & ~(AttrFlags.INHERIT | AttrFlags.ENABLE_ON_EXEC)
        fields = SAMPLE_FIELDS
        if self.stack_bytes:
            fields |= SampleFields.REGS_USER | SampleFields.STACK_USER
        return PerfEventAttr(
            type=perf_event.PERF_TYPE_HARDWARE if self.use_hardware else perf_event.PERF_TYPE_SOFTWARE,
            config=perf_event.PERF_COUNT_HW_CPU_CYCLES if self.use_hardware else perf_event.PERF_COUNT_SW_CPU_CLOCK,
            sample_freq=self.frequency_hz,
            sample_type=fields,
            read_format=perf_event.PERF_FORMAT_TOTAL_TIME_RUNNING,
            flags=flags,
            sample_regs_user=USER_REGISTERS_MASK if self.stack_bytes else 0,
            sample_stack_user=self.stack_bytes,
            clockid=perf_event.CLOCK_MONOTONIC,
        )


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """A thread's event on one CPU. `late_id` is set for threads that weren't there at the first look.

    Such a thread may have inherited its parent's events too: then only samples with its own ids count.
    """

    descriptor: int
    tid: int
    late_id: int | None


def system_wide(choice: EventChoice) -> EventChoice:
    """The same of all that runs on a CPU, on its clock; files are known by inode.

    One event that asks for build-ids makes the kernel say so of everybody's records of the same mapping, which hold
    none (seen up to 6.18: perf_event_mmap_output in kernel/events/core.c sets PERF_RECORD_MISC_MMAP_BUILD_ID and
    doesn't take it back). `perf record` aborts on them.
    """
    return replace(choice, use_hardware=False, build_ids=False, is_system_wide=True)


def choose_events(pid: int, frequency_hz: int, stack_bytes: int, enable_on_exec: bool = False) -> EventChoice:
    """Finds the best event that the kernel grants for `pid` by opening it once.

    Raises `LockflameError` where it grants none.
    """
    limit_hz = max_sample_rate_hz()
    if limit_hz is not None and frequency_hz > limit_hz:
        raise LockflameError(
            f"cannot sample at {frequency_hz} Hz",
            f"the kernel's limit is {limit_hz} Hz (kernel.perf_event_max_sample_rate)",
            f"use -F {limit_hz} or less",
        )
    choice = EventChoice(frequency_hz, stack_bytes, enable_on_exec=enable_on_exec)
    tids = procfs.threads(pid) or [pid]
    while True:
        try:
            os.close(perf_event.open_event(choice.attr(), tids[-1], -1))
            return choice
        except OSError as error:
            if error.errno == errno.ESRCH and len(tids) > 1:
                tids.pop()  # a thread that has ended, perhaps the main one
                continue
            lesser = _lesser_choice(choice, error)
            if lesser is None:
                raise _refusal(pid, error) from error
            choice = lesser


def _lesser_choice(choice: EventChoice, error: OSError) -> EventChoice | None:
    if error.errno in (errno.EACCES, errno.EPERM) and choice.kernel_frames:
        # Cycles in user code alone don't tell how much of the CPU time was spent there; cpu-clock does.
        return replace(choice, kernel_frames=False, use_hardware=False)
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.ENXIO) and choice.use_hardware:
        return replace(choice, use_hardware=False)
    if error.errno == errno.EINVAL and choice.build_ids:
        return replace(choice, build_ids=False)  # kernels before 5.12
    return None


def _refusal(pid: int, error: OSError) -> LockflameError:
    what = f"cannot profile process {pid}"
    if error.errno == errno.ESRCH:
        return LockflameError(what, "it has ended", "check the PID with: ps -e")
    owner = procfs.owner_uid(pid)
    if error.errno in (errno.EACCES, errno.EPERM) and owner not in (None, os.geteuid()):
        return LockflameError(
            what, f"it belongs to another user (uid {owner}), and this user has no right to look into it", "run as root"
        )
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() == 0:
        return LockflameError(
            what,
            f"the kernel refuses perf events to root here ({reason_of(error)})",
            "in a container, add the capability PERFMON and a seccomp profile that allows perf_event_open",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        level = paranoid_level()
        setting = f"kernel.perf_event_paranoid is {level}" if level is not None else "perf events are refused"
        return LockflameError(
            what,
            f"the kernel refuses perf events to this user ({reason_of(error)}; {setting})",
            "run as root or with CAP_PERFMON, or lower it with: sysctl kernel.perf_event_paranoid=2",
        )
    if error.errno == errno.ENOSYS:
        return LockflameError(
            what,
            f"perf_event_open is not available ({reason_of(error)})",
            "it needs x86-64 and a kernel with CONFIG_PERF_EVENTS, and must not be blocked by seccomp",
        )
    return LockflameError(what, f"perf_event_open failed: {reason_of(error)}", "run: lockflame doctor")


def open_rings(cpus: Iterable[int], bytes_each: int) -> list[RingBuffer]:
    """A ring buffer for each CPU. Raises `LockflameError`."""
    pages = max(MIN_PAGES, bytes_each // os.sysconf("SC_PAGESIZE"))
    rings: list[RingBuffer] = []
    try:
        for cpu in cpus:
            rings.append(RingBuffer(cpu, pages))
    except OSError as error:
        for ring in rings:
            ring.close()
        raise LockflameError(
            "cannot map the sampler's buffers",
            reason_of(error),
            "raise the locked memory with: ulimit -l unlimited, or sysctl kernel.perf_event_mlock_kb=2048",
        ) from error
    return rings


def attach(pid: int, rings: list[RingBuffer], choice: EventChoice) -> tuple[list[OpenEvent], list[str]]:
    """Opens (disabled) events for all threads of a process and of its children.

    Returns them and notes on what isn't covered. Raises `LockflameError`; then no event is left open.
    """
    attr = choice.attr()
    events: list[OpenEvent] = []
    covered: set[int] = set()
    refused: set[int] = set()
    notes: list[str] = []
    try:
        for scan in range(MAX_SCANS):
            found = [(process, tid) for process in procfs.family(pid) for tid in procfs.threads(process)]
            new = [(process, tid) for process, tid in found if tid not in covered]
            for process, tid in new:
                if not _open_thread(events, attr, tid, rings, is_late=scan > 0, may_refuse=process != pid):
                    refused.add(process)
            covered.update(tid for _, tid in new)
            if not new:
                break
        else:
            notes.append("Threads came into being all the time while attaching: some may not be covered.")
    except BaseException:
        close_events(events)
        raise
    if not events:
        raise LockflameError(f"cannot profile process {pid}", "it has ended", "check the PID with: ps -e")
    if refused:
        notes.append(f"{len(refused)} child processes of other users are not covered: run as root to see them.")
    return events, notes


def close_events(events: Iterable[OpenEvent]) -> None:
    """Closes events, which ends them in the kernel."""
    for event in events:
        os.close(event.descriptor)


def _open_thread(
    events: list[OpenEvent], attr: PerfEventAttr, tid: int, rings: list[RingBuffer], is_late: bool, may_refuse: bool
) -> bool:
    """Opens a thread's events on all CPUs; False where the kernel refuses and it `may_refuse`."""
    for ring in rings:
        try:
            descriptor = perf_event.open_event(attr, tid, ring.cpu)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return True  # the thread has ended meanwhile
            if error.errno in (errno.EACCES, errno.EPERM) and may_refuse:
                return False
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise _too_many_files(len(events)) from error
            raise _refusal(tid, error) from error
        late_id = perf_event.event_id(descriptor) if is_late else None
        events.append(OpenEvent(descriptor, tid, late_id))
        perf_event.redirect_output(descriptor, ring.descriptor)
    return True


def _too_many_files(opened: int) -> LockflameError:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LockflameError(
        "cannot open events for all threads",
        f"one file for each thread on each CPU is needed; {opened} are open and the limit is {hard}",
        "raise the hard limit with: ulimit -Hn 1048576",
    )


def raise_file_limit() -> None:
    """Raises this process's soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def online_cpus() -> list[int]:
    """The numbers of all CPUs that are online."""
    with open("/sys/devices/system/cpu/online") as file:
        ranges = [part.partition("-") for part in file.read().strip().split(",")]
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]
