"""What the kernel lets the sampler do, found by trying it on our own process."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from lockflame.checks import Check, State
from lockflame.errors import LockflameError, reason_of
from sampler.attach import choose_events, online_cpus, open_rings
from sampler.limits import max_sample_rate_hz, paranoid_level
from sampler.recorder import ring_bytes

TRACEFS = Path("/sys/kernel/tracing")
BCC_FOLDERS = (Path("/usr/lib/python3/dist-packages/bcc"), Path("/usr/lib/python3/site-packages/bcc"))
BPF_SYSCALL = 321
PROBE_FREQUENCY_HZ = 99
PROBE_STACK_BYTES = 32768


def sampler_checks() -> Iterator[Check]:
    """CPU sampling first, then what lock probes need."""
    yield from _perf_checks()
    yield _bpf_check()
    yield _bcc_check()
    yield _headers_check()
    yield _tracefs_check()
    yield _kprobes_check()


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
    """Asks for a map, the least that BPF can do (bpf(2), BPF_MAP_CREATE of an array with one entry)."""
    attr = (ctypes.c_uint32 * 18)(2, 4, 8, 1)
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(ctypes.c_long(BPF_SYSCALL), 0, attr, ctypes.sizeof(attr))
    if descriptor >= 0:
        os.close(descriptor)
        return Check("BPF", State.OK, "allowed")
    reason = os.strerror(ctypes.get_errno())
    return Check("BPF", State.MISSING, f"bpf(2): {reason}; needed for lock probes only", "run as root")


def _bcc_check() -> Check:
    for folder in BCC_FOLDERS:
        if folder.is_dir():
            return Check("BCC", State.OK, str(folder))
    return Check("BCC", State.MISSING, "needed for lock probes only", "apt-get install python3-bpfcc")


def _headers_check() -> Check:
    release = platform.release()
    candidates = [Path(f"/lib/modules/{release}/build"), *sorted(Path("/usr/src").glob("linux-headers-*"))]
    for folder in candidates:
        if folder.is_dir():
            return Check("kernel headers", State.OK, str(folder))
    return Check("kernel headers", State.MISSING, "needed for lock probes only", "apt-get install linux-headers-amd64")


def _tracefs_check() -> Check:
    try:
        if (TRACEFS / "events" / "syscalls" / "sys_enter_futex").is_dir():
            return Check("futex tracepoints", State.OK, str(TRACEFS / "events/syscalls/sys_enter_futex"))
        if (TRACEFS / "events").is_dir():
            return Check("futex tracepoints", State.MISSING, "the kernel has no CONFIG_FTRACE_SYSCALLS")
        detail = f"tracefs is not mounted at {TRACEFS}; needed for lock probes only"
    except OSError as error:
        return Check("futex tracepoints", State.MISSING, f"{TRACEFS}: {reason_of(error)}", "run as root")
    return Check("futex tracepoints", State.MISSING, detail, f"mount -t tracefs tracefs {TRACEFS}")


def _kprobes_check() -> Check:
    try:
        if (TRACEFS / "kprobe_events").exists():
            return Check("kprobes", State.OK, "available")
    except OSError as error:
        return Check("kprobes", State.LIMITED, reason_of(error), "run as root")
    if not (TRACEFS / "events").is_dir():
        return Check(
            "kprobes", State.LIMITED, "not known: tracefs is not mounted", f"mount -t tracefs tracefs {TRACEFS}"
        )
    return Check("kprobes", State.LIMITED, "the kernel has none (CONFIG_KPROBES); lock probes use tracepoints")
