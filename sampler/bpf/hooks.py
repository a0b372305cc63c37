"""Attaches loaded programs to tracepoints and kprobes. All of them end with their descriptors, however we end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sampler import perf_event
from sampler.bpf.tracefs import TraceFs, Tracepoint
from sampler.perf_event import AttrFlags, PerfEventAttr

PERF_TYPE_TRACEPOINT = 2
IOC_SET_BPF = 0x40042408
KPROBE_EVENTS = "kprobe_events"
KPROBE_GROUP = "lockflame_"
KPROBE_COUNTS = "kprobe_profile"
# The most that the kernel takes (KRETPROBE_MAXACTIVE_MAX): as many calls may be under way at a time.
CALLS_MOST = 4096


def attach_tracepoint(tracepoint: Tracepoint, program: int) -> int:
    """Runs a program whenever a tracepoint is passed; returns the descriptor that keeps it so. Raises `OSError`."""
    # Programs run for all processes on all CPUs; of what else the event could do on its CPU, it does nothing.
    attr = PerfEventAttr(type=PERF_TYPE_TRACEPOINT, config=tracepoint.number, flags=AttrFlags.DISABLED)
    descriptor = perf_event.open_event(attr, -1, _some_cpu())
    try:
        fcntl.ioctl(descriptor, IOC_SET_BPF, program)
        fcntl.ioctl(descriptor, perf_event.IOC_ENABLE, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def close_all(descriptors: Sequence[int]) -> None:
    """Detaches from tracepoints, all at once: for each the kernel waits until no CPU can be within it any more."""
    if descriptors:
        with ThreadPoolExecutor(len(descriptors)) as pool:
            pool.map(os.close, descriptors)


def _some_cpu() -> int:
    return min(os.sched_getaffinity(0))


class Kprobes:
    """Probes of ours on the kernel's functions, which `close` takes away again."""

    def __init__(self, tracefs: TraceFs) -> None:
        """Takes away what a Lockflame left behind that was killed."""
        self._tracefs = tracefs
        self._group = f"{KPROBE_GROUP}{os.getpid()}"
        self._names: list[str] = []
        self._descriptors: list[int] = []
        remove_orphans(tracefs)

    def attach(self, function: str, program: int, *, at_return: bool) -> bool:
        """Runs a program at each call of a function, or at each return; False where there is no such function.

        Raises `OSError`.
        """
        # With our number, as the counts of what was missed have no groups.
        name = f"{function}_{'return' if at_return else 'call'}_{os.getpid()}"
        kind = f"r{CALLS_MOST}" if at_return else "p"
        try:
            self._tracefs.append(KPROBE_EVENTS, f"{kind}:{self._group}/{name} {function}\n")
        except (FileNotFoundError, ValueError):
            return False
        self._names.append(name)
        tracepoint = self._tracefs.tracepoint(f"{self._group}:{name}")
        if tracepoint is None:
            raise FileNotFoundError(2, f"the kernel made no event for {function}")
        self._descriptors.append(attach_tracepoint(tracepoint, program))
        return True

    def missed(self) -> int:
        """Calls and returns that the kernel passed our probes by for, because too many were under way."""
        count = 0
        for line in self._tracefs.read(KPROBE_COUNTS).decode(errors="replace").splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[0] in self._names and fields[2].isdigit():
                count += int(fields[2])
        return count

    def close(self) -> None:
        """Detaches and takes away all probes of ours."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        for name in self._names:
            _remove(self._tracefs, self._group, name)
        self._names = []


def remove_orphans(tracefs: TraceFs) -> int:
    """Takes away kprobes whose Lockflame has ended without doing so (killed); returns how many."""
    removed = 0
    with suppress(OSError):
        for line in tracefs.read(KPROBE_EVENTS).decode(errors="replace").splitlines():
            # Such as r4096:lockflame_4711/__x64_sys_futex_return_4711 __x64_sys_futex
            event = line.partition(" ")[0].partition(":")[2]
            group, _, name = event.partition("/")
            owner = group.removeprefix(KPROBE_GROUP)
            if group.startswith(KPROBE_GROUP) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
                removed += _remove(tracefs, group, name)
    return removed


def _remove(tracefs: TraceFs, group: str, name: str) -> bool:
    try:
        tracefs.append(KPROBE_EVENTS, f"-:{group}/{name}\n")
    except OSError:
        return False
    return True
