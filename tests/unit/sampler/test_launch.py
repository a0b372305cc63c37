from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from lockflame.errors import LockflameError
from sampler import launch
from sampler.signals import StopSignals
from sampler.spool import open_spool


def test_a_command_waits_for_the_word(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child = launch.start(("touch", str(trace)))
    try:
        assert not child.has_ended()
        assert not trace.exists()
        child.go()
        assert child.wait() == 0
        assert trace.exists()
    finally:
        child.close()


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)])
def test_status_is_what_a_shell_says(script: str, status: int) -> None:
    child = launch.start(("sh", "-c", script))
    child.go()
    assert child.wait() == status
    assert child.has_ended()
    child.send(signal.SIGTERM)  # to nobody
    child.close()


def test_a_command_that_was_never_let_go_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child = launch.start(("touch", str(trace)))
    child.close()
    assert child.has_ended()
    assert not trace.exists()


@pytest.mark.parametrize("content", [None, b"not a program"])
def test_what_cannot_be_executed_is_one_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "program"
    if content is not None:
        path.write_bytes(content)
    child = launch.start((str(path),))
    with pytest.raises(LockflameError, match="cannot run"):
        child.go()
    assert child.has_ended()
    child.close()


def test_a_child_that_was_killed_before_it_ran_is_one_error() -> None:
    child = launch.start(("true",))
    try:
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LockflameError):
            child.go()
    finally:
        child.close()


def test_a_command_gets_the_limits_and_signals_that_we_got() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    child = launch.start(("sh", "-c", f"(ulimit -Sn; grep SigIgn /proc/self/status) > /proc/self/fd/{write_end}"))
    try:
        os.close(write_end)
        child.go()
        with open(read_end) as output:
            limit, _, ignored = output.read().split()
        assert int(limit) == soft
        assert not int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
        assert child.wait() == 0
    finally:
        child.close()


def test_signals_are_collected_and_wake_a_poll() -> None:
    with StopSignals() as stop:
        assert stop.take() == []
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert sorted(stop.take()) == [signal.SIGINT, signal.SIGTERM]
        assert stop.take() == []


def test_handlers_are_as_they_were_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with StopSignals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_released_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        stop.release()
        assert signal.getsignal(signal.SIGTERM) == before
        assert stop.descriptor == -1
        stop.release()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.take() == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_spool_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with open_spool() as spool:
        spool.write(b"x")
        assert list(tmp_path.iterdir()) == []


def test_no_folder_for_the_spool_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(LockflameError, match="Set TMPDIR"):
        open_spool()
