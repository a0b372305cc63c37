"""What a trace of locks says beside its results: what it costs, and what it didn't see."""

from __future__ import annotations

from collections.abc import Iterator

from flame.text import amount, counted
from sampler.trace import lock_layout as layout
from sampler.trace.lock_probes import RawLockTrace
from symbolize.lock_functions import LockFunctions


def start_line(name: str, functions: LockFunctions, pair_ns: float | None) -> str:
    """What is attached to, and what that costs."""
    names = sorted({function.name for function in functions.functions})
    cost = (
        f"As measured here now, to take a lock and give it back takes {amount(pair_ns, 'nanoseconds')} more meanwhile"
        if pair_ns is not None
        else "What each call costs couldn't be measured beforehand, as its libc is another one than ours"
    )
    files = ", ".join(functions.files)
    return f"lockflame: tracing {counted(len(names), 'lock function')} of {name} ({files}). {cost}. Ctrl-C ends it"


def first_second(rate: float, share: float | None) -> str:
    """What the trace costs the target."""
    cost = "too little CPU time to tell what that costs it" if share is None else _cost(share)
    return f"lockflame: {rate:,.0f} lock calls and returns a second: {cost}"


def _cost(share: float) -> str:
    return f"about {share * 100:.0f} % of the CPU time that it uses now goes into the trace"


def loss_notes(trace: RawLockTrace, lost: int = 0) -> Iterator[str]:
    """What wasn't seen, or is counted elsewhere. `lost` records found no room in the buffers."""
    if lost:
        yield f"{counted(lost, 'stack')} or pieces of news of the process were lost: the buffers were full"
    counts = trace.counts
    waits, holds = trace.beyond_table
    if waits or holds:
        yield (
            f"{counted(waits, 'wait')} and {counted(holds, 'hold')} were by more than {layout.PLACE_ENTRIES:,} paths "
            "and locks, for which the kernel's table has no room: they are counted together. Fewer are had by --lock"
        )
    if counts["no_thread_entry"]:
        calls = counted(counts["no_thread_entry"], "call")
        yield f"not followed: {calls}, of more than {layout.THREAD_ENTRIES:,} threads"
    if counts["no_hold_entry"]:
        holds_of = counted(counts["no_hold_entry"], "hold")
        yield f"not followed: {holds_of}, of more than {layout.HOLD_ENTRIES:,} locks at a time"
    if counts["missed_release"]:
        yield (
            f"{counted(counts['missed_release'], 'time')} a thread took a lock that it had: how it gave it back wasn't "
            "seen, and that hold isn't counted"
        )
    if counts["unknown_hold"]:
        yield (
            f"{counted(counts['unknown_hold'], 'time')} a lock was given back that hadn't been seen taken (before the "
            "trace, by another thread, by a condition that was cancelled, or in code that no probe is in): such holds "
            "aren't counted"
        )
    if counts["short"]:
        yield f"not counted: {counted(counts['short'], 'wait')} shorter than --min-wait"
    if counts["refused"]:
        yield f"{counted(counts['refused'], 'attempt')} didn't get the lock (trylock), and waited for nothing"
    if trace.open_waits or trace.open_holds:
        yield (
            f"{counted(trace.open_waits, 'wait')} and {counted(trace.open_holds, 'hold')} weren't over at the end: "
            "they aren't counted"
        )
