"""Whom a signal was for, by what the kernel's programs tell and what /proc says."""

from __future__ import annotations

import os
import subprocess
import threading

from hypothesis import given
from hypothesis import strategies as st

from sampler.trace.signal_layout import (
    EVENT,
    FLAG_TARGET_IS_OURS,
    Call,
    Kind,
    SignalEvent,
    events_of,
    text_of,
)
from sampler.trace.signal_targets import Scope, SignalTarget, TargetLookup

COMM = "a name"
OWN = os.getpid()
NOBODY = 2**22 + 1
"""More than any process can have (PID_MAX_LIMIT)."""


def event(
    kind: Kind = Kind.GENERATED,
    target: int = OWN,
    target_pid: int = 0,
    call: Call = Call.KILL,
    *,
    is_group: bool = False,
    is_ours: bool = True,
) -> SignalEvent:
    """A signal from process 1 to whom it may concern."""
    record = EVENT.pack(
        *(1, kind, 15, 0, 0, 1, 1, target, target_pid, 1, call, is_group),
        FLAG_TARGET_IS_OURS if is_ours else 0,
        b"init".ljust(16, b"\0"),
        COMM.encode().ljust(16, b"\0"),
    )
    return events_of([record])[0]


def test_thread_of_a_process() -> None:
    seen: list[SignalTarget] = []
    lookup = TargetLookup()
    thread = threading.Thread(target=lambda: seen.append(lookup.target_of(event(target=threading.get_native_id()))))
    thread.start()
    thread.join()
    assert seen[0].scope is Scope.THREAD
    assert (seen[0].comm, seen[0].pid) == (COMM, OWN)
    assert seen[0].tid not in (None, OWN)


def test_process_that_is_gone() -> None:
    """Its first thread's number is its own; of another thread nobody can tell."""
    lookup = TargetLookup()
    assert lookup.target_of(event(target=NOBODY, is_group=True)) == SignalTarget(Scope.PROCESS, COMM, NOBODY)
    assert lookup.target_of(event(target=NOBODY)) == SignalTarget(Scope.THREAD, COMM, None, NOBODY)
    assert lookup.target_of(event(target=NOBODY, target_pid=7)) == SignalTarget(Scope.THREAD, COMM, 7, NOBODY)


def test_failed_calls() -> None:
    lookup = TargetLookup()
    ended = Kind.CALL_ENDED
    comm = TargetLookup().target_of(event(ended)).comm
    assert comm
    assert lookup.target_of(event(ended)) == SignalTarget(Scope.PROCESS, comm, OWN)
    assert lookup.target_of(event(ended, NOBODY)) == SignalTarget(Scope.PROCESS, "", NOBODY)
    assert lookup.target_of(event(ended, -1)) == SignalTarget(Scope.ALL, "", None)
    assert lookup.target_of(event(ended, 0)) == SignalTarget(Scope.GROUP, "", None)
    assert lookup.target_of(event(ended, -77)) == SignalTarget(Scope.GROUP, "", 77)
    assert lookup.target_of(event(ended, NOBODY, 5, Call.TGKILL)) == SignalTarget(Scope.THREAD, "", 5, NOBODY)


def test_numbers_of_another_namespace_mean_nothing_here() -> None:
    target = TargetLookup().target_of(event(Kind.CALL_ENDED, OWN, is_ours=False))
    assert target == SignalTarget(Scope.PROCESS, "", OWN, is_inner=True)


def test_descriptor_of_a_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    descriptor = os.pidfd_open(child.pid)
    try:
        told = event(Kind.CALL_ENDED, descriptor, call=Call.PIDFD_SEND_SIGNAL)._replace(sender_pid=OWN)
        assert TargetLookup().target_of(told) == SignalTarget(Scope.PROCESS, "sleep", child.pid, descriptor=descriptor)
        no_process = told._replace(target=0)
        assert TargetLookup().target_of(no_process) == SignalTarget(Scope.PROCESS, "", None, descriptor=0)
    finally:
        os.close(descriptor)
        child.kill()
        child.wait()


@given(st.binary(max_size=200))
def test_records_of_another_size_are_left_out(record: bytes) -> None:
    assert len(events_of([record])) == (len(record) == EVENT.size)


@given(st.binary(min_size=16, max_size=16))
def test_names_end_at_the_first_zero(comm: bytes) -> None:
    text = text_of(comm)
    assert "\0" not in text
    assert text == comm.partition(b"\0")[0].decode(errors="replace")
