"""Whom a signal was for: what the kernel's programs couldn't tell of it, looked up in /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import Enum

from sampler import procfs
from sampler.trace.signal_layout import Call, Kind, SignalEvent

KEPT_MOST = 4096
KEPT_NS = 1_000_000_000
"""A number is another thread's sooner or later, though hardly within a second: numbers are given in turn."""


class Scope(Enum):
    """How many a signal was for."""

    PROCESS = "process"
    THREAD = "thread"
    GROUP = "process group"
    ALL = "all processes"


@dataclass(frozen=True, slots=True)
class SignalTarget:
    """`pid` of a process, or a group's number; None if it isn't known. `tid` of a thread alone. `comm` may be empty.

    `is_inner`: the numbers are those of the sender's pid namespace, which isn't ours. `descriptor`: of a pidfd.
    """

    scope: Scope
    comm: str
    pid: int | None
    tid: int | None = None
    is_inner: bool = False
    descriptor: int | None = None


class TargetLookup:
    """Looks up processes, and keeps for a moment what it has found."""

    def __init__(self) -> None:
        self._pids: dict[int, int | None] = {}
        self._kept_since_ns = 0

    def target_of(self, event: SignalEvent) -> SignalTarget:
        """The target of a signal, or of a call that sent none."""
        if event.kind == Kind.GENERATED:
            return self._of_signal(event)
        return self._of_call(event)

    def _of_signal(self, event: SignalEvent) -> SignalTarget:
        pid = event.target_pid or (self._process_of(event.target) if event.target_is_ours else None)
        if event.is_group:
            # It may be gone: then its thread's number, which is most often that of the process.
            return SignalTarget(Scope.PROCESS, event.target_comm, pid or event.target)
        return SignalTarget(Scope.THREAD, event.target_comm, pid, event.target)

    def _of_call(self, event: SignalEvent) -> SignalTarget:
        if event.call == Call.PIDFD_SEND_SIGNAL:
            pid = _process_of_descriptor(event.sender_pid, event.target)
            return SignalTarget(Scope.PROCESS, _comm(pid), pid, descriptor=event.target)
        is_inner = not event.target_is_ours
        if event.target == -1:
            return SignalTarget(Scope.ALL, "", None)
        if event.target <= 0:
            return SignalTarget(Scope.GROUP, "", -event.target or None, is_inner=is_inner)
        comm = "" if is_inner else _comm(event.target)
        if not is_inner and event.target in (event.sender_pid, event.sender_tid):
            comm = event.sender_comm  # which may have ended by now
        if event.call in (Call.TKILL, Call.TGKILL, Call.RT_TGSIGQUEUEINFO):
            pid = event.target_pid or (None if is_inner else self._process_of(event.target))
            return SignalTarget(Scope.THREAD, comm, pid, event.target, is_inner)
        return SignalTarget(Scope.PROCESS, comm, event.target, is_inner=is_inner)

    def _process_of(self, tid: int) -> int | None:
        now_ns = time.monotonic_ns()
        if now_ns - self._kept_since_ns > KEPT_NS or len(self._pids) >= KEPT_MOST:
            self._pids, self._kept_since_ns = {}, now_ns
        if tid not in self._pids:
            self._pids[tid] = procfs.process_of_thread(tid)
        return self._pids[tid]


def _comm(pid: int | None) -> str:
    if pid is None:
        return ""
    status = procfs.process_status(pid)
    return os.fsencode(status.comm).decode(errors="replace") if status else ""


def _process_of_descriptor(sender_pid: int, descriptor: int) -> int | None:
    """The process that a pidfd of the sender's is of, if both are there still (fdinfo of pidfd_open(2))."""
    try:
        with open(f"/proc/{sender_pid}/fdinfo/{descriptor}", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read(4096).splitlines() if b":" in line)
        pid = int(fields[b"Pid"])
    except (OSError, KeyError, ValueError):
        return None
    return pid if pid > 0 else None
