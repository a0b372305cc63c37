"""What to say where the kernel refuses tracing."""

from __future__ import annotations

import errno
import os

from lockflame.errors import LockflameError, reason_of
from sampler.bpf.syscall import VerifierError
from sampler.bpf.tracefs import TraceFs


def open_tracefs(what: str) -> TraceFs:
    """The kernel's folder of tracepoints. Raises `LockflameError`, in which `what` is said to fail."""
    try:
        return TraceFs()
    except OSError as error:
        if os.geteuid() != 0:
            why, what_to_do = f"tracefs cannot be opened ({reason_of(error)})", "run as root"
        else:
            why = f"tracefs can neither be found at /sys/kernel/tracing nor opened ({reason_of(error)})"
            what_to_do = "mount it with: mount -t tracefs tracefs /sys/kernel/tracing"
        raise LockflameError(what, why, what_to_do) from error


def refusal(error: OSError, what: str) -> LockflameError:
    """What to say of an error that the kernel gave, by which `what` fails."""
    if isinstance(error, VerifierError) and error.log:
        last = [line for line in error.log.splitlines() if line.strip()][-2:]
        return LockflameError(what, f"the kernel refuses the probes: {' '.join(last)}", "run: lockflame doctor")
    if error.errno in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return LockflameError(what, f"the kernel refuses BPF to this user ({reason_of(error)})", "run as root")
        return LockflameError(
            what,
            f"the kernel refuses BPF to root here ({reason_of(error)})",
            "in a container, add the capabilities BPF and PERFMON (or SYS_ADMIN) and a seccomp profile with bpf; "
            "kernel lockdown forbids it altogether",
        )
    return LockflameError(what, f"the probes cannot be attached: {reason_of(error)}", "run: lockflame doctor")
