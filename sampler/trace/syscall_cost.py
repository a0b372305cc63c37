"""What tracing system calls costs here: measured on a call of our own before the trace begins."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sampler.bpf.tracefs import TraceFs
from sampler.trace.call_cost import call_ns
from sampler.trace.filters import Filters
from sampler.trace.syscall_layout import By, MeasureKind
from sampler.trace.syscall_names import find_calls
from sampler.trace.syscalls import WHAT, Question, SyscallTrace


@dataclass(frozen=True, slots=True)
class SyscallCost:
    """How much longer calls take, in nanoseconds: those that are counted, and all others of the machine."""

    counted_ns: float
    other_ns: float


def measure_syscall_cost(tracefs: TraceFs) -> SyscallCost:
    """Traces getppid(2) for a moment, and takes the time of our own calls. Raises `LockflameError` and `OSError`."""
    question = Question(find_calls(tracefs, ("getppid",), WHAT), (MeasureKind.LATENCY,), ((None,),), By.PID)
    counted_before, other_before = call_ns(os.getppid), call_ns(os.getuid)
    trace = SyscallTrace(question, Filters(), tracefs)
    try:
        trace.start()
        counted, other = call_ns(os.getppid), call_ns(os.getuid)
    finally:
        trace.close()
    return SyscallCost(max(counted - counted_before, 0.0), max(other - other_before, 0.0))
