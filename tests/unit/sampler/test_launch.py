from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockflame.errors import LockflameError
from sampler import launch
from sampler.signals import stop_signals
from sampler.spool import open_spool

SHOW_SIGPIPE = "import signal; print(signal.getsignal(signal.SIGPIPE).name)"


def test_a_command_waits_for_the_word(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child = launch.start(("touch", str(trace)))
    try:
        assert not child.has_ended()
        assert not trace.exists()
        child.go("touch")
        assert child.wait() == 0
        assert trace.exists()
    finally:
        child.close()


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)])
def test_status_is_what_a_shell_says(script: str, status: int) -> None:
    child = launch.start(("sh", "-c", script))
    child.go("sh")
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
    with pytest.raises(LockflameError, match="cannot run program"):
        child.go("program")
    assert child.has_ended()
    child.close()


@pytest.mark.xfail(
    strict=True, raises=BrokenPipeError, reason="sampler/launch.py:go: a child killed before its exec is a traceback"
)
def test_a_child_that_was_killed_before_it_ran_is_one_error() -> None:
    child = launch.start(("true",))
    try:
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LockflameError):
            child.go("true")
    finally:
        child.close()


def test_a_command_gets_the_files_and_signals_that_we_got() -> None:
    read_end, write_end = os.pipe()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.set_inheritable(write_end, True)
    child = launch.start(("sh", "-c", f"(ulimit -Sn; {sys.executable} -Ic '{SHOW_SIGPIPE}'; trap) >&{write_end}"))
    try:
        os.close(write_end)
        child.go("sh")
        with open(read_end) as output:
            assert output.read().split() == [str(limits[0]), "SIG_IGN"]  # Python's own again, in the command
        assert child.wait() == 0
    finally:
        child.close()


def test_signals_are_collected_and_wake_a_poll() -> None:
    with stop_signals() as stop:
        assert stop.take() == []
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert sorted(stop.take()) == [signal.SIGINT, signal.SIGTERM]
        assert stop.take() == []


def test_handlers_are_as_they_were_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with stop_signals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
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
    with pytest.raises(LockflameError, match="set TMPDIR"):
        open_spool()


def test_a_started_command_does_not_hold_our_files_open() -> None:
    with open_spool() as spool:
        child = launch.start(("sh", "-c", "ls -l /proc/self/fd | grep -c ' -> .*#'"))
        listing = subprocess.run(["ls", "-l", f"/proc/{child.pid}/fd"], capture_output=True, text=True, check=False)
        child.go("sh")
        try:
            assert listing.returncode == 0
            assert not os.get_inheritable(spool.fileno())
            assert child.wait() == 1  # grep found none
        finally:
            child.close()
