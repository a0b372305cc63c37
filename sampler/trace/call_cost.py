"""What a system call takes here: once before and once after attaching, that tells what a trace costs all others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

CALLS = 2000
ROUNDS = 20


def call_ns(call: Callable[[], int] = os.getppid) -> float:
    """Nanoseconds for a system call that does next to nothing, in the fastest of some rounds; takes milliseconds."""
    return min(_round_ns(call) for _ in range(ROUNDS)) / CALLS


def _round_ns(call: Callable[[], int]) -> int:
    started_ns = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return time.perf_counter_ns() - started_ns
