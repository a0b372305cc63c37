"""Follows lock waits in the kernel: loads the programs of `futex.bpf.c`, attaches them, and reads what they counted."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lockflame.errors import LockflameError, reason_of
from sampler import perf_event, procfs
from sampler.bpf import syscall
from sampler.bpf.hooks import IOC_SET_BPF, Kprobes, attach_tracepoint, close_all
from sampler.bpf.program import Compiled, LoadedPrograms, compiled
from sampler.bpf.syscall import VerifierError
from sampler.bpf.tracefs import TraceFs
from sampler.futex import layout
from sampler.futex.open_waits import OpenWait, waits_open_now
from sampler.futex.unseen import is_32_bit, is_in_our_pid_namespace, note_of_32_bit, note_of_inner
from sampler.perf_event import AttrFlags, PerfEventAttr, SampleFields
from sampler.ring import RingBuffer

SOURCE = Path(__file__).with_name("futex.bpf.c")
WHAT = "cannot record lock waits"
MACHINE_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the first pid namespace (PROC_PID_INIT_INO in linux/proc_ns.h)."""
FIRST_PERIOD_NS = 10_000_000
FAMILY_SCANS = 3
NOTICE_NS = 200_000

# What runs when a system call of this name begins, as the kernel calls it in tracepoints and in functions.
CALLS = {
    "futex": "on_futex",
    "futex_wait": "on_futex_wait",
    "futex_waitv": "on_futex_waitv",
    "futex_wake": "on_futex_wake",
    "futex_requeue": "on_futex_requeue",
    "restart_syscall": "on_restart",
}
WAITING_CALLS = ("futex", "futex_wait", "futex_waitv", "restart_syscall")
END_PROGRAM = "on_wait_end"
CPU_SAMPLE_PROGRAM = "on_cpu_sample"
PROCESS_TRACEPOINTS = {
    "task:task_newtask": "on_new_task",
    "sched:sched_process_exec": "on_exec",
    "sched:sched_process_exit": "on_exit",
}
# What the kernel calls the function of a system call depends on the machine (arch/*/include/asm/syscall_wrapper.h).
FUNCTION_PREFIXES = ("__x64_sys_", "__arm64_sys_", "__se_sys_")


class ProbeKind(Enum):
    """How the futex system calls are seen."""

    AUTO = "auto"
    KPROBE = "kprobe"
    TRACEPOINT = "tracepoint"


@dataclass(frozen=True, slots=True)
class RawLocks:
    """What the programs counted, undecoded: see `layout` for the entries, (key, value) each.

    `places` has all keys and all values, one after the other.

    `sample_ids` are in the samples' IDENTIFIER; `maps` has /proc/PID/maps of the processes; `inner_tids` the threads'
    ids in their own pid namespace, where that is another one: (pid, id there) to tid here; `threads` all (pid, tid)
    that live at the end.
    """

    entries: tuple[tuple[bytes, bytes], ...]
    places: tuple[bytes, bytes]
    rest: bytes
    losses: dict[str, int]
    open_waits: tuple[OpenWait, ...]
    families: dict[int, int]
    sample_ids: frozenset[int]
    maps: dict[int, bytes]
    inner_tids: dict[tuple[int, int], int]
    threads: frozenset[tuple[int, int]]
    probes: str


class FutexProbes:
    """The probes of one recording: attached on creation, counting between `start` and `finish`."""

    def __init__(
        self, pid: int, kind: ProbeKind, frequency_hz: int, attr: PerfEventAttr, rings: list[RingBuffer]
    ) -> None:
        """Attaches for process `pid` and its children. Samples go into the rings, with the fields of `attr`.

        `attr` is that of CPU samples, system-wide: they are filtered here, and enabled with all else.

        Raises `LockflameError`; then nothing is left attached.
        """
        self._pid = pid
        self._interval_ns = 10**9 // frequency_hz
        self._in_namespace = os.stat("/proc/self/ns/pid").st_ino != MACHINE_PID_NAMESPACE
        self._tracefs = _open_tracefs()
        self._kprobes: Kprobes | None = None
        self._hooks: list[int] = []
        self._outputs: list[int] = []
        self._loaded: LoadedPrograms | None = None
        self._attached: list[str] = []
        self._sample_ids: set[int] = set()
        self._started_ns = 0
        self._32_bit: set[int] = set()
        self._inner: set[int] = set()
        self.notes: list[str] = []
        try:
            self._attach_some(kind, rings)
            self._open_outputs(attr, rings)
            self._open_cpu_samplers(attr, rings)
            self._seed()
        except OSError as error:
            self.close()
            raise _refusal(error) from error
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Takes down which threads wait already: what of that falls into the recording counts."""
        threads = self._maps["threads"]
        for wait in waits_open_now(procfs.family(self._pid)):
            target = self._maps["targets"].get(wait.pid.to_bytes(4, "little"))
            if target is None:
                continue
            tid = wait.tid.to_bytes(4, "little")
            try:
                threads.put(tid, wait.entry(*layout.TARGET.unpack(target)), syscall.UPDATE_NOEXIST)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.E2BIG):
                    raise
                continue
            # It may have ended between the look and the entry, and begun to do something else.
            if not wait.is_still_open():
                threads.delete(tid)

    def start(self, started_ns: int) -> None:
        """Counts from now on."""
        self._started_ns = started_ns
        self._set_control(started_ns, layout.NEVER_NS)
        for descriptor in self._outputs:
            fcntl.ioctl(descriptor, perf_event.IOC_ENABLE, 0)

    def end(self) -> int:
        """Ends the counting; returns when that was, by CLOCK_MONOTONIC."""
        # Said beforehand, so that all programs on all CPUs agree on what was before.
        ended_ns = time.monotonic_ns() + NOTICE_NS
        self._set_control(self._started_ns, ended_ns)
        time.sleep(NOTICE_NS / 1e9)
        return ended_ns

    def open_waits(self, ended_ns: int) -> tuple[OpenWait, ...]:
        """Detaches, and returns the waits that were open at the end."""
        self._detach()
        self._note_unseen()
        entries = self._maps["threads"].items()
        waits = (OpenWait.from_entry(int.from_bytes(tid, "little"), value) for tid, value in entries)
        return tuple(wait for wait in waits if 0 < wait.start_ns < ended_ns)

    def counted(self, open_waits: tuple[OpenWait, ...]) -> RawLocks:
        """All that was counted."""
        maps = self._maps
        losses = {
            name: int.from_bytes(maps["losses"].get(number.to_bytes(4, "little")) or b"", "little")
            for number, name in enumerate(layout.LOSSES)
        }
        targets = {int.from_bytes(key, "little"): layout.TARGET.unpack(value) for key, value in maps["targets"].items()}
        return RawLocks(
            entries=tuple(maps["locks"].items()),
            places=maps["places"].dump(),
            rest=maps["rest"].get(bytes(4)) or b"",
            losses=losses,
            open_waits=open_waits,
            families={family: pid for pid, (_, family, _, _) in targets.items()},
            sample_ids=self.sample_ids,
            maps=procfs.memory_maps(targets),
            inner_tids=procfs.inner_tids(targets),
            threads=frozenset((pid, tid) for pid in targets for tid in procfs.threads(pid)),
            probes=self.names,
        )

    @property
    def names(self) -> str:
        """What was attached to, briefly."""
        kinds: dict[str, list[str]] = {}
        for name in self._attached:
            kind, _, where = name.partition(" ")
            kinds.setdefault(kind, []).append(where.removeprefix("syscalls:"))
        return "; ".join(f"{kind}s {', '.join(places)}" for kind, places in kinds.items())

    @property
    def sample_ids(self) -> frozenset[int]:
        """What the samples that the programs take have in their IDENTIFIER."""
        return frozenset(self._sample_ids)

    def close(self) -> None:
        """Detaches everything and gives it up."""
        self._detach()
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = []
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        self._tracefs.close()

    @property
    def _maps(self) -> dict[str, syscall.Map]:
        assert self._loaded is not None
        return self._loaded.maps

    def _detach(self) -> None:
        if self._kprobes is not None:
            with suppress(OSError):
                missed = self._kprobes.missed()
                if missed:
                    self.notes.append(f"The kernel passed {missed:,} calls by without asking our kprobes.")
            self._kprobes.close()
            self._kprobes = None
        close_all(self._hooks)
        self._hooks = []

    def _attach_some(self, kind: ProbeKind, rings: list[RingBuffer]) -> None:
        """Attaches kprobes where they are wanted and there, else tracepoints."""
        if kind is not ProbeKind.TRACEPOINT and self._tracefs.has("kprobe_events"):
            try:
                self._load(rings, with_kprobes=True)
                self._attach_kprobes()
            except (OSError, LockflameError):
                if kind is ProbeKind.KPROBE:
                    raise
                self._give_up_hooks()
            else:
                return
        elif kind is ProbeKind.KPROBE:
            raise LockflameError(WHAT, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)", "use --probe tracepoint")
        self._load(rings, with_kprobes=False)
        self._attach_tracepoints()

    def _give_up_hooks(self) -> None:
        self._detach()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        self._attached = []

    def _load(self, rings: list[RingBuffer], *, with_kprobes: bool) -> None:
        newtask = self._tracefs.tracepoint("task:task_newtask")
        if newtask is None:
            raise LockflameError(WHAT, "the kernel has no tracepoint task:task_newtask", "run: lockflame doctor")
        definitions = {
            "WAIT_ENTRIES": layout.WAIT_ENTRIES,
            "LOCK_ENTRIES": layout.LOCK_ENTRIES,
            "PLACE_ENTRIES": layout.PLACE_ENTRIES,
            "TARGET_ENTRIES": layout.TARGET_ENTRIES,
            "NEWTASK_PID": newtask.fields["pid"][0],
            "NEWTASK_FLAGS": newtask.fields["clone_flags"][0],
        }
        if self._in_namespace:
            definitions["IN_NAMESPACE"] = 1
        if with_kprobes:
            self._loaded = self._loaded_from(compiled(SOURCE, definitions | {"WITH_KPROBES": 1}), rings, with_kprobes)
            return
        try:
            source = compiled(SOURCE, definitions | {"WITH_REGISTERS": 1})
            self._loaded = self._loaded_from(source, rings, with_kprobes)
        except VerifierError as error:
            if error.errno != errno.EINVAL or "unknown func" not in error.log:
                raise
            # Before Linux 5.15; then stacks of waits that are still open at the end may be cut short.
            self._loaded = self._loaded_from(compiled(SOURCE, definitions), rings, with_kprobes)

    def _loaded_from(self, source: Compiled, rings: list[RingBuffer], with_kprobes: bool) -> LoadedPrograms:
        on_calls = syscall.PROG_KPROBE if with_kprobes else syscall.PROG_TRACEPOINT
        kinds = dict.fromkeys((*CALLS.values(), END_PROGRAM), on_calls)
        kinds[CPU_SAMPLE_PROGRAM] = syscall.PROG_PERF_EVENT
        kinds |= {name: syscall.PROG_TRACEPOINT for name in PROCESS_TRACEPOINTS.values() if name in source.programs}
        loaded = LoadedPrograms(source, kinds, max(ring.cpu for ring in rings) + 1)
        self._loaded = loaded
        self._set_control(layout.NEVER_NS, layout.NEVER_NS)
        for index in range(layout.BUDGETS):
            loaded.maps["budgets"].put(index.to_bytes(4, "little"), layout.BUDGET.pack(FIRST_PERIOD_NS, 0, 0, 0))
        return loaded

    def _attach_tracepoints(self) -> None:
        assert self._loaded is not None
        # Ends first, so that no wait begins whose end isn't seen.
        for call in WAITING_CALLS:
            self._attach_tracepoint(f"syscalls:sys_exit_{call}", self._loaded.programs[END_PROGRAM])
        for call, program in CALLS.items():
            self._attach_tracepoint(f"syscalls:sys_enter_{call}", self._loaded.programs[program])
        if not self._attached:
            raise LockflameError(
                WHAT, "the kernel has no tracepoints on system calls (CONFIG_FTRACE_SYSCALLS)", "use --probe kprobe"
            )
        self._attach_process_tracepoints()

    def _attach_kprobes(self) -> None:
        assert self._loaded is not None
        self._kprobes = Kprobes(self._tracefs)
        for call, program in CALLS.items():
            for prefix in FUNCTION_PREFIXES:
                function = f"{prefix}{call}"
                # Its return first here too.
                ends = call not in WAITING_CALLS or self._attach_kprobe(function, END_PROGRAM, at_return=True)
                if ends and self._attach_kprobe(function, program, at_return=False):
                    break
        if not any(name.endswith("_sys_futex") for name in self._attached):
            raise LockflameError(
                WHAT, "the kernel has no function for futex that a kprobe can be set on", "use --probe tracepoint"
            )
        self._attach_process_tracepoints()

    def _attach_kprobe(self, function: str, program: str, *, at_return: bool) -> bool:
        assert self._loaded is not None
        assert self._kprobes is not None
        if not self._kprobes.attach(function, self._loaded.programs[program], at_return=at_return):
            return False
        self._attached.append(f"{'kretprobe' if at_return else 'kprobe'} {function}")
        return True

    def _attach_tracepoint(self, name: str, program: int) -> None:
        tracepoint = self._tracefs.tracepoint(name)
        if tracepoint is not None:
            self._hooks.append(attach_tracepoint(tracepoint, program))
            self._attached.append(f"tracepoint {name}")

    def _attach_process_tracepoints(self) -> None:
        assert self._loaded is not None
        for name, program in PROCESS_TRACEPOINTS.items():
            if program in self._loaded.programs:
                self._attach_tracepoint(name, self._loaded.programs[program])
        if self._in_namespace:
            self.notes.append(
                "Processes that began during the recording have no lock waits in it, as it was taken "
                "within a pid namespace."
            )

    def _open_outputs(self, attr: PerfEventAttr, rings: list[RingBuffer]) -> None:
        """An event on each CPU that the programs have samples taken by, with the CPU samples' fields and their own."""
        attr = _output_attr(attr)
        for ring in rings:
            descriptor = perf_event.open_event(attr, -1, ring.cpu)
            self._outputs.append(descriptor)
            perf_event.redirect_output(descriptor, ring.descriptor)
            self._sample_ids.add(perf_event.event_id(descriptor))
            self._maps["samples"].put(ring.cpu.to_bytes(4, "little"), descriptor.to_bytes(4, "little"))

    def _open_cpu_samplers(self, attr: PerfEventAttr, rings: list[RingBuffer]) -> None:
        assert self._loaded is not None
        for ring in rings:
            descriptor = perf_event.open_event(attr, -1, ring.cpu)
            self._outputs.append(descriptor)
            perf_event.redirect_output(descriptor, ring.descriptor)
            fcntl.ioctl(descriptor, IOC_SET_BPF, self._loaded.programs[CPU_SAMPLE_PROGRAM])

    def _seed(self) -> None:
        """Names the processes to follow. Those that were forked, and run the same program still, are of one family."""
        targets = self._maps["targets"]
        if self._in_namespace and not is_in_our_pid_namespace(self._pid):
            raise LockflameError(
                WHAT, f"process {self._pid} is in another pid namespace than Lockflame", "run it outside of containers"
            )
        for _ in range(FAMILY_SCANS):
            for pid in procfs.family(self._pid):
                if self._in_namespace and not is_in_our_pid_namespace(pid):
                    self._inner.add(pid)
                    continue
                key = pid.to_bytes(4, "little")
                if targets.get(key) is None:
                    with suppress(FileExistsError):
                        entry = layout.TARGET.pack(0, procfs.first_of_program(pid), *procfs.program_code(pid))
                        targets.put(key, entry, syscall.UPDATE_NOEXIST)
                    if is_32_bit(pid):
                        self._32_bit.add(pid)

    def _note_unseen(self) -> None:
        """Notes which processes the probes were blind to, of those that live and those that were seen at the start."""
        known = (int.from_bytes(key, "little") for key, _ in self._maps["targets"].items())
        self._32_bit.update(pid for pid in known if is_32_bit(pid))
        self.notes += filter(None, (note_of_32_bit(self._32_bit), note_of_inner(self._inner)))

    def _set_control(self, started_ns: int, ended_ns: int) -> None:
        namespace = os.stat("/proc/self/ns/pid")
        control = layout.CONTROL.pack(started_ns, ended_ns, self._interval_ns, namespace.st_dev, namespace.st_ino)
        self._maps["this_control"].put(bytes(4), control)


def _output_attr(attr: PerfEventAttr) -> PerfEventAttr:
    """Like the CPU samples' event, but written by programs, with bytes of theirs."""
    output = PerfEventAttr.from_buffer_copy(attr)
    output.type, output.config = perf_event.PERF_TYPE_SOFTWARE, perf_event.PERF_COUNT_SW_BPF_OUTPUT
    output.sample_freq = 1  # as a period: each one counts
    output.sample_type |= SampleFields.RAW
    output.flags = AttrFlags.DISABLED | AttrFlags.SAMPLE_ID_ALL | AttrFlags.USE_CLOCKID
    return output


def _open_tracefs() -> TraceFs:
    try:
        return TraceFs()
    except OSError as error:
        if os.geteuid() != 0:
            why, what_to_do = f"tracefs cannot be opened ({reason_of(error)})", "run as root"
        else:
            why = f"tracefs can neither be found at /sys/kernel/tracing nor opened ({reason_of(error)})"
            what_to_do = "mount it with: mount -t tracefs tracefs /sys/kernel/tracing"
        raise LockflameError(WHAT, why, what_to_do) from error


def _refusal(error: OSError) -> LockflameError:
    if isinstance(error, VerifierError) and error.log:
        last = [line for line in error.log.splitlines() if line.strip()][-2:]
        return LockflameError(WHAT, f"the kernel refuses the probes: {' '.join(last)}", "run: lockflame doctor")
    if error.errno in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return LockflameError(WHAT, f"the kernel refuses BPF to this user ({reason_of(error)})", "run as root")
        return LockflameError(
            WHAT,
            f"the kernel refuses BPF to root here ({reason_of(error)})",
            "in a container, add the capabilities BPF and PERFMON (or SYS_ADMIN) and a seccomp profile with bpf; "
            "kernel lockdown forbids it altogether",
        )
    return LockflameError(WHAT, f"the probes cannot be attached: {reason_of(error)}", "run: lockflame doctor")
