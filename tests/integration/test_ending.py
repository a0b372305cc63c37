"""How a recording ends: early by a signal, with its process, or after a time in which records were lost."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from lockflame.pprof import read
from lockflame.profile import SAMPLES
from sampler.decode import decode
from sampler.recorder import Recorder
from sampler.signals import StopSignals
from tests.support.process import running
from tests.support.recording import Recorded, lockflame_session, process_cpu_ns, recorded, weight_of
from tests.support.targets import build_target

pytestmark = pytest.mark.integration

FREQUENCY_HZ = 4999
IGNORE_SIGINT = "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_the_recording_and_keeps_it(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "p.pb.gz"
    with running([build_target("split_70_30.c")]) as target:
        with lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session:
            session.wait_until_recording()
            time.sleep(1)
            session.process.send_signal(number)
            profile = recorded(session.finish(timeout=20), output).profile
        assert target.process.poll() is None
    assert 0.9e9 < profile.recording.duration_ns < 10e9
    assert weight_of(profile, "work_seventy") > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("gap_s", [0.05, 0.3, 0.6, 0.9])
def test_a_second_signal_leaves_a_whole_file_or_none(tmp_path: Path, number: signal.Signals, gap_s: float) -> None:
    """The second one ends what comes after the recording, wherever that is."""
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session,
    ):
        session.wait_until_recording()
        session.process.send_signal(number)
        time.sleep(gap_s)
        session.process.send_signal(number)
        result = session.finish(timeout=20)
    assert "Traceback" not in result.stderr
    assert [path for path in tmp_path.iterdir() if path != output] == []
    if output.exists():
        assert weight_of(read(str(output)), "work_seventy") >= 0
        assert "Nothing was written" not in result.stderr
    else:
        assert result.status in (130, -number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_target_that_ends_while_it_is_recorded(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session,
    ):
        session.wait_until_recording()
        time.sleep(1)
        target.process.send_signal(number)  # a zombie at first: pytest takes its status later
        profile = recorded(session.finish(timeout=20), output).profile
    assert 0.9e9 < profile.recording.duration_ns < 10e9
    assert weight_of(profile, "work_seventy") > 0
    assert profile.recording.unresolved < 0.05 * profile.recording.samples


def test_a_target_that_ends_right_after_the_start(tmp_path: Path) -> None:
    """Wherever in the attach it ends: a profile, or one line."""
    for delay_s in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        output = tmp_path / f"{delay_s}.pb.gz"
        with (
            running([build_target("split_70_30.c")]) as target,
            lockflame_session("record", "-p", target.pid, "-d", 60, "-o", output) as session,
        ):
            time.sleep(delay_s)
            target.process.kill()
            target.process.wait()
            result = session.finish(timeout=20)
        if result.status:
            assert re.fullmatch(r"lockflame: error: .*\n", result.stderr), result.stderr
            assert result.status == 1
        assert output.exists() == (result.status == 0)


def assert_losses_are_counted(result: Recorded, cpu_ns: int) -> None:
    """Taken and lost samples together are as many as the CPU time asks for."""
    info = result.profile.recording
    assert info.lost > 0
    assert f"{info.lost:,} lost" in result.stderr
    assert result.profile.total(SAMPLES) + info.lost == pytest.approx(cpu_ns * FREQUENCY_HZ / 1e9, rel=0.15)


@pytest.mark.parametrize("wakes_up", ["before-the-end", "after-the-end"])
def test_records_lost_while_stopped_are_counted(tmp_path: Path, wakes_up: str) -> None:
    output = tmp_path / "p.pb.gz"
    arguments = ("-d", 4, "-F", FREQUENCY_HZ, "-o", output)
    with (
        running([build_target("many_threads.c"), "--threads", "8", "--working", "8"]) as target,
        lockflame_session("record", "-p", target.pid, *arguments) as session,
    ):
        session.wait_until_recording()
        before_ns, start = process_cpu_ns(target.pid), time.monotonic()
        time.sleep(0.5)
        session.process.send_signal(signal.SIGSTOP)
        time.sleep(2 if wakes_up == "before-the-end" else 4)
        session.process.send_signal(signal.SIGCONT)
        while session.is_recording():
            time.sleep(0.005)
        cpu_ns = process_cpu_ns(target.pid) - before_ns
        elapsed_s = time.monotonic() - start
        result = recorded(session.finish(), output)
    assert 3.9 < elapsed_s < 40
    assert_losses_are_counted(result, cpu_ns)


def test_records_lost_before_the_targets_end_are_counted(tmp_path: Path) -> None:
    """All that wrote into the full buffers is gone when Lockflame wakes up."""
    output = tmp_path / "p.pb.gz"
    with running([build_target("many_threads.c"), "--threads", "8", "--working", "8"]) as target:
        arguments = ("-p", target.pid, "-d", 60, "-F", FREQUENCY_HZ, "-o", output)
        with lockflame_session("record", *arguments) as session:
            session.wait_until_recording()
            before_ns = process_cpu_ns(target.pid)
            time.sleep(0.5)
            session.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            cpu_ns = process_cpu_ns(target.pid) - before_ns
            target.process.kill()
            target.process.wait()
            session.process.send_signal(signal.SIGCONT)
            result = recorded(session.finish(), output)
    assert_losses_are_counted(result, cpu_ns)


def test_records_lost_while_a_drain_is_held_up_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow when the recording ends; here a pipe that nobody reads until the target stands still."""
    read_end, write_end = os.pipe()
    spool = os.fdopen(write_end, "wb", buffering=0)
    monkeypatch.setattr("sampler.recorder.open_spool", lambda: spool)
    pieces: list[bytes] = []

    def read_late(pid: int) -> None:
        time.sleep(2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)  # until the last of its threads stands
        while piece := os.read(read_end, 1 << 20):
            pieces.append(piece)

    with running([build_target("many_threads.c"), "--threads", "8", "--working", "8"]) as target:
        reader = threading.Thread(target=read_late, args=(target.pid,))
        recorder = Recorder(target.pid, FREQUENCY_HZ, 32768)
        with StopSignals() as stop:
            recorder.start()
            before_ns = process_cpu_ns(target.pid)
            reader.start()
            recorder.run(1, stop, lambda _: True, None)
            cpu_ns = process_cpu_ns(target.pid) - before_ns
        raw = recorder.finish()
        recorder.close()
        raw.close()
        reader.join()
    os.close(read_end)
    decoded = decode(b"".join(pieces), True, {})
    assert len(decoded.samples) + decoded.lost == pytest.approx(cpu_ns * FREQUENCY_HZ / 1e9, rel=0.15)


def test_a_killed_recording_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-o", output) as session,
    ):
        session.wait_until_recording()
        session.process.kill()
        assert session.finish().status == -signal.SIGKILL
        assert target.process.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_sigint_is_ignored_where_the_parent_ignores_it(tmp_path: Path) -> None:
    """As in a script's background job: `lockflame record … &` must not end by a Ctrl-C meant for others."""
    output = tmp_path / "p.pb.gz"
    launcher = [sys.executable, "-c", IGNORE_SIGINT]
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 1.5, "-o", output, launcher=launcher) as session,
    ):
        session.wait_until_recording()
        session.process.send_signal(signal.SIGINT)
        profile = recorded(session.finish(), output).profile
    assert profile.recording.duration_ns > 1.45e9


def test_the_summary_goes_to_a_closed_pipe(tmp_path: Path) -> None:
    """Whoever read the messages has gone: the files are kept all the same."""
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 1, "-F", 999, "-o", output) as session,
    ):
        assert session.process.stderr is not None
        session.process.stderr.close()
        status = session.process.wait(30)
    assert output.exists()
    assert status == 0


@pytest.mark.parametrize("kind", ["pid", "command"])
@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.3, 0.4])
def test_a_signal_while_it_starts(tmp_path: Path, kind: str, delay_s: float) -> None:
    """Before there is a recording, a signal ends it as any program, without a word; later it ends the recording."""
    output = tmp_path / "p.pb.gz"
    with running([build_target("split_70_30.c")]) as target:
        what = ("-p", target.pid) if kind == "pid" else ("--", "sleep", "60")
        with lockflame_session("record", "-o", output, *what) as session:
            time.sleep(delay_s)
            session.process.terminate()
            result = session.finish(timeout=20)
    assert "Traceback" not in result.stderr
    assert result.status in (-signal.SIGTERM, 0 if kind == "pid" else 128 + signal.SIGTERM)
    assert output.exists() == (result.status >= 0)


def test_a_duration_of_weeks_is_no_error(tmp_path: Path) -> None:
    """poll(2) can't wait that long at once."""
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("split_70_30.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 3_000_000, "-o", output) as session,
    ):
        session.wait_until_recording()
        time.sleep(0.3)
        session.process.send_signal(signal.SIGINT)
        result = session.finish(timeout=20)
    assert (result.status, output.exists()) == (0, True), result.stderr
