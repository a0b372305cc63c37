"""What a call takes here: once before and once after attaching, that tells what a trace costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

CALLS = 2000
ROUNDS = 20


def call_ns(call: Callable[[], int] = os.getppid, calls: int = CALLS, rounds: int = ROUNDS) -> float:
    """Nanoseconds for a call, by default a system call that does next to nothing, in the fastest of some rounds."""
    return min(_round_ns(call, calls) for _ in range(rounds)) / calls


def _round_ns(call: Callable[[], int], calls: int) -> int:
    started_ns = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return time.perf_counter_ns() - started_ns
