"""What the kernel lets the sampler do, found by trying it on our own process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from lockflame.checks import Check, State
from lockflame.errors import LockflameError, reason_of
from sampler.attach import EventChoice, choose_events, online_cpus, open_rings, system_wide
from sampler.bpf import syscall
from sampler.bpf.compile import bcc_folder, kernel_headers
from sampler.bpf.tracefs import TraceFs
from sampler.limits import max_sample_rate_hz, paranoid_level
from sampler.recorder import may_filter, ring_bytes

PROBE_FREQUENCY_HZ = 99
PROBE_STACK_BYTES = 32768


def sampler_checks() -> Iterator[Check]:
    """CPU sampling first, then what lock probes need, then the tracers."""
    yield from _perf_checks()
    yield _bpf_check()
    yield _bcc_check()
    yield _headers_check()
    yield from _tracing_checks()
    yield _probes_check()
    yield _traced("trace locks", _try_lock_trace)
    yield _traced("trace signals", _try_signal_trace)
    yield _traced("trace syscalls", _try_syscall_trace)


def _perf_checks() -> Iterator[Check]:
    level = paranoid_level()
    try:
        choice = choose_events(os.getpid(), PROBE_FREQUENCY_HZ, PROBE_STACK_BYTES)
    except LockflameError as error:
        yield Check("CPU sampling", State.MISSING, error.why, error.what_to_do)
        return
    if choice.use_hardware:
        yield Check("CPU sampling", State.OK, "samples on CPU cycles, with stack copies")
    else:
        yield Check("CPU sampling", State.OK, "samples on cpu-clock, with stack copies")
    yield _events_check(choice)
    if choice.kernel_frames:
        yield Check("kernel frames", State.OK, f"allowed (kernel.perf_event_paranoid is {level})")
    else:
        yield Check(
            "kernel frames",
            State.LIMITED,
            f"user frames only (kernel.perf_event_paranoid is {level})",
            "run as root, or: sysctl kernel.perf_event_paranoid=1",
        )
    if os.geteuid() == 0:
        yield Check("other users' processes", State.OK, "allowed for root")
    else:
        yield Check("other users' processes", State.LIMITED, "only this user's own", "run as root")
    yield _buffers_check()
    rate_hz = max_sample_rate_hz()
    if rate_hz is not None:
        yield Check("highest rate", State.OK, f"{rate_hz} Hz (kernel.perf_event_max_sample_rate)")


def _events_check(choice: EventChoice) -> Check:
    """Whether `record -p` can do with one event for each CPU."""
    cost = "one for each thread, which costs at each switch of threads"
    if not may_filter(choice):
        return Check("CPU events", State.OK if choice.use_hardware else State.LIMITED, cost)
    from sampler.cpu_filter import CpuFilter

    try:
        rings = open_rings(online_cpus(), 0)
    except LockflameError as error:  # of which the check of buffers says more
        return Check("CPU events", State.LIMITED, f"not known: {error.why}", error.what_to_do)
    try:
        CpuFilter(os.getpid(), system_wide(choice), rings).close()
    except OSError as error:
        mend = "run as root" if os.geteuid() else "in a container, add the capabilities BPF and PERFMON"
        return Check("CPU events", State.LIMITED, f"{cost} ({reason_of(error)})", mend)
    finally:
        for ring in rings:
            ring.close()
    return Check("CPU events", State.OK, "one for each CPU, filtered in the kernel")


def _buffers_check() -> Check:
    cpus = online_cpus()
    wanted = ring_bytes(PROBE_FREQUENCY_HZ, PROBE_STACK_BYTES, len(cpus))
    try:
        rings = open_rings(cpus, wanted)
    except LockflameError as error:
        return Check("buffers", State.MISSING, error.why, error.what_to_do)
    size = min(ring.size for ring in rings)
    for ring in rings:
        ring.close()
    detail = f"{size >> 10} KiB for each of {len(rings)} CPUs"
    if size < wanted:
        return Check(
            "buffers", State.LIMITED, detail, "ulimit -l unlimited, or: sysctl kernel.perf_event_mlock_kb=2048"
        )
    return Check("buffers", State.OK, detail)


def _bpf_check() -> Check:
    """Asks for a map, the least that BPF can do."""
    try:
        os.close(syscall.create_map(syscall.MAP_ARRAY, 4, 8, 1, 0))
    except OSError as error:
        return Check("BPF", State.MISSING, f"bpf(2): {reason_of(error)}; needed for lock probes only", "run as root")
    return Check("BPF", State.OK, "allowed")


def _bcc_check() -> Check:
    folder = bcc_folder()
    if folder is None:
        return Check("BCC", State.MISSING, "needed for lock probes only", "apt-get install python3-bpfcc")
    return Check("BCC", State.OK, str(folder / "bcc"))


def _headers_check() -> Check:
    headers = kernel_headers()
    if headers is None:
        mend = "apt-get install linux-headers-amd64"
        return Check("kernel headers", State.MISSING, "needed for lock probes only", mend)
    return Check("kernel headers", State.OK, str(headers[0]))


def _tracing_checks() -> Iterator[Check]:
    try:
        with TraceFs() as tracefs:
            has_futex, has_kprobes = tracefs.has("events/syscalls/sys_enter_futex"), tracefs.has("kprobe_events")
    except OSError as error:
        mend = "run as root" if os.geteuid() else "mount -t tracefs tracefs /sys/kernel/tracing"
        yield Check("futex tracepoints", State.MISSING, f"tracefs: {reason_of(error)}; for lock probes only", mend)
        yield Check("kprobes", State.LIMITED, "not known without tracefs", mend)
        return
    if has_futex:
        yield Check("futex tracepoints", State.OK, "available")
    else:
        yield Check("futex tracepoints", State.MISSING, "the kernel has no CONFIG_FTRACE_SYSCALLS")
    if has_kprobes:
        yield Check("kprobes", State.OK, "available")
    else:
        yield Check("kprobes", State.LIMITED, "the kernel has none (CONFIG_KPROBES); lock probes use tracepoints")


def _probes_check() -> Check:
    """Attaches the lock probes to ourselves. Compiles them where that wasn't done yet: the next recording is faster."""
    from sampler.futex.attachment import ProbeKind
    from sampler.futex.probes import FutexProbes

    try:
        choice = choose_events(os.getpid(), PROBE_FREQUENCY_HZ, PROBE_STACK_BYTES)
        rings = open_rings(online_cpus(), 0)
        try:
            probes = FutexProbes(os.getpid(), ProbeKind.AUTO, PROBE_FREQUENCY_HZ, choice.attr(), rings)
            names = probes.names
            probes.close()
        finally:
            for ring in rings:
                ring.close()
    except LockflameError as error:
        return Check("lock probes", State.MISSING, error.why, error.what_to_do)
    return Check("lock probes", State.OK, f"attached: {names}")


def _traced(name: str, attempt: Callable[[], str]) -> Check:
    """Loads a tracer's programs, which `attempt` says something of; they are compiled where that wasn't done yet."""
    try:
        return Check(name, State.OK, attempt())
    except LockflameError as error:
        return Check(name, State.MISSING, error.why, error.what_to_do)
    except OSError as error:
        return Check(name, State.MISSING, reason_of(error), "run as root" if os.geteuid() else "")


def _try_lock_trace() -> str:
    from sampler.trace.lock_probes import LockPrograms

    programs = LockPrograms(max(online_cpus()) + 1)
    programs.close()
    return "by uprobes, all set and taken away at once" if programs.as_links else "by uprobes, one by one"


def _try_signal_trace() -> str:
    from sampler.trace.filters import Filters
    from sampler.trace.signals import SignalChoice, SignalTrace

    SignalTrace(SignalChoice(Filters())).close()
    return "by tracepoints"


def _try_syscall_trace() -> str:
    from sampler.trace.filters import Filters
    from sampler.trace.syscall_layout import By, MeasureKind
    from sampler.trace.syscall_names import find_calls
    from sampler.trace.syscalls import WHAT, Question, SyscallTrace

    with TraceFs() as tracefs:
        calls = find_calls(tracefs, ("getppid",), WHAT)
        for by in (By.PID, By.USTACK):
            SyscallTrace(Question(calls, (MeasureKind.LATENCY,), ((None,),), by), Filters(), tracefs).close()
    return "by tracepoints"
