"""What only a kernel with kprobes shows: that they are chosen, what they miss, and that they go."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sampler.bpf import hooks, syscall
from sampler.bpf.hooks import Kprobes
from sampler.bpf.tracefs import TraceFs
from tests.kprobes.by_kprobes import EXACT, KPROBE_EVENTS, assert_by_kprobes, our_probes, probes_by_kind
from tests.support.lock_truth import watch
from tests.support.needs import CannotTest
from tests.support.process import kill_group, running
from tests.support.recording import lockflame_session
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

SLEEPERS = 50
FUNCTION = "__x64_sys_futex"
# r0 = 1; exit
RETURN_ONE = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
COMPILE_SECONDS = 300


def need_kprobes() -> None:
    if not KPROBE_EVENTS.exists():
        raise CannotTest("this kernel has no kprobes: make test-kprobes runs this on one that has them")


@pytest.fixture
def program() -> Iterator[int]:
    """A program for kprobes that does nothing."""
    descriptor = syscall.load_program(syscall.PROG_KPROBE, RETURN_ONE)
    with open(descriptor, "rb", closefd=True):
        yield descriptor


def test_a_killed_recording_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """The next one takes away what was left. It is by kprobes, as it may choose, and misses no sleeper."""
    need_kprobes()
    with running(["sleep", "1000"], wait_ready=False) as target:
        output = tmp_path / "killed.pb.gz"
        arguments = ("record", "-o", output, "-p", target.pid, "-d", 1000, "--locks", "--probe", "kprobe")
        with lockflame_session(*arguments) as session:
            session.wait_until_recording(COMPILE_SECONDS)
            kill_group(session.process)
    left = our_probes()
    assert left
    assert all(f"lockflame_{session.pid}/" in line for line in left)

    watched = watch(tmp_path, build_target("lock_kinds.cpp"), "--kind", "condition", "--threads", 4, "--idle", SLEEPERS)
    assert our_probes() == []
    assert_by_kprobes(watched.profile.recording)
    pool = [lock for lock in watched.profile.locks if lock.is_idle and lock.name.startswith("COND_pool")]
    assert sum(lock.total_ns for lock in pool) == pytest.approx(
        watched.truth.time_ns(watched.waits(), "idle"), rel=EXACT
    )


def test_tracepoints_work_beside_kprobes(tmp_path: Path) -> None:
    need_kprobes()
    options = ("--probe", "tracepoint")
    watched = watch(tmp_path, build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", 6, arguments=options)
    assert set(probes_by_kind(watched.profile.recording.probes)) == {"tracepoints"}
    assert watched.lock("LOCK_kinds").total_ns == pytest.approx(
        watched.truth.time_ns(watched.waits(), "reader", "writer"), rel=EXACT
    )


def test_missed_returns_are_counted_for_each_recording(monkeypatch: pytest.MonkeyPatch, program: int) -> None:
    """More threads in a call than are provided for: the kernel passes some by, and tells whose probe it was."""
    need_kprobes()
    with TraceFs() as tracefs, closing(Kprobes(tracefs)) as enough, closing(Kprobes(tracefs)) as too_few:
        assert enough.attach(FUNCTION, program, at_return=True)
        monkeypatch.setattr(hooks, "CALLS_MOST", 1)
        monkeypatch.setattr(os, "getpid", lambda: 1)  # as another process would
        assert too_few.attach(FUNCTION, program, at_return=True)
        command = [build_target("lock_kinds.cpp"), "--kind", "condition", "--threads", "4", "--idle", str(SLEEPERS)]
        with running(command) as target:
            target.stop()
        assert too_few.missed() >= SLEEPERS - 1
        assert enough.missed() == 0
        assert len(our_probes()) == 2
    assert our_probes() == []
