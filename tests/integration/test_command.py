"""`record -- COMMAND`: the command runs as it does without Lockflame, and all of it is in the profile."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli import lockflame_command
from tests.support.needs import find_program
from tests.support.paths import REPO
from tests.support.recording import (
    Session,
    function_names,
    lockflame_session,
    record,
    recorded,
    weight_of,
    weight_where,
)
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

SURROUNDINGS = """
grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|Seccomp|Umask):' /proc/self/status
ulimit -Sn; ulimit -Hn; ulimit -c; pwd; umask; nice
env | grep -v '^_=' | sort
ls /proc/self/fd
"""
IGNORES_SIGTERM = "trap '' TERM; echo ready; while :; do :; done"
COUNTS_SIGINTS = """
import signal, time
taken = []
signal.signal(signal.SIGINT, lambda *_: taken.append(1))
print("ready", flush=True)
end = time.monotonic() + 30
while not taken and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
print(f"interrupts: {len(taken)}\\n", end="", flush=True)  # one write: the bar shares the terminal
"""


def wait_for_ready(session: Session) -> None:
    """The command's first line; what follows is left for `finish`."""
    assert session.process.stdout is not None
    assert session.process.stdout.readline() == "ready\n"


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -SEGV $$", 139), ("kill -KILL $$", 137)],
)
def test_exit_status_is_the_commands(tmp_path: Path, script: str, status: int) -> None:
    result = record(tmp_path / "p.pb.gz", "--", "sh", "-c", script, status=status)
    assert "Traceback" not in result.stderr


def test_stdin_and_stdout_are_untouched(tmp_path: Path) -> None:
    text = "one\ntwo <&>\n" * 10_000
    arguments = ("record", "-o", tmp_path / "p.pb.gz", "--", "cat")
    with lockflame_session(*arguments, stdin=subprocess.PIPE) as session:
        result = session.finish(text)
    assert result.status == 0
    assert result.stdout == text


@pytest.mark.parametrize("soft_limit", [200, 1024])
def test_surroundings_are_as_without_lockflame(tmp_path: Path, soft_limit: int) -> None:
    launcher = [str(find_program("prlimit")), f"--nofile={soft_limit}:2000", "--core=0", "--"]
    command = ["sh", "-c", SURROUNDINGS]
    env = {"LC_ALL": "C", "PYTHONPATH": f"{REPO}", "TMPDIR": "/var/tmp", "ODD": "a\nb=ü"}
    plain = subprocess.run(
        [*launcher, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO,
        env={**os.environ, **env},
        start_new_session=True,
    ).stdout
    arguments = ("record", "-o", tmp_path / "p.pb.gz", "--", *command)
    with lockflame_session(*arguments, launcher=launcher, env={**env, "PYTHONPATH": f"{REPO}"}) as session:
        result = session.process.communicate(timeout=60)
    assert result[0] == plain


def test_inherited_files_reach_the_command(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    try:
        command = ("sh", "-c", f"echo through >/proc/self/fd/{write_end}")
        with lockflame_session("record", "-o", tmp_path / "p.pb.gz", "--", *command, pass_fds=[write_end]) as session:
            assert session.finish().status == 0
        assert os.read(read_end, 100) == b"through\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_first_function_is_seen(tmp_path: Path) -> None:
    profile = record(tmp_path / "p.pb.gz", "-F", 999, "--", build_target("burn_first.c")).profile
    assert weight_of(profile, "first_work") == pytest.approx(50e6, rel=0.15)


def test_names_before_and_after_exec(tmp_path: Path) -> None:
    command = [build_target("exec_chain.c"), "--ms", "400", "--end"]
    profile = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command).profile
    stages = ("before_exec", "between_execs", "after_exec")
    for stage in stages:
        assert weight_of(profile, stage) == pytest.approx(400e6, rel=0.15)
    assert weight_where(profile, lambda stack: len(set(stages).intersection(stack)) > 1) == 0
    assert profile.recording.unresolved < 0.02 * profile.recording.samples


def test_nothing_before_the_commands_exec_is_in_the_profile(tmp_path: Path) -> None:
    profile = record(tmp_path / "p.pb.gz", "-F", 4999, "--", "/bin/true").profile
    assert not [mapping.path for mapping in profile.mappings if "python" in mapping.path.lower()]


def test_sigterm_reaches_the_command_and_the_profile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with lockflame_session("record", "-o", output, "--", build_target("split_70_30.c")) as session:
        wait_for_ready(session)
        time.sleep(1)
        session.process.terminate()
        result = recorded(session.finish(), output)  # the target ends with 0 at SIGTERM
    assert "work_seventy" in result.stdout
    assert weight_of(result.profile, "work_seventy") > 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=lambda value: value
)
def test_a_command_that_ends_by_the_signal(tmp_path: Path, number: signal.Signals, status: int) -> None:
    output = tmp_path / "p.pb.gz"
    command = ("sh", "-c", "echo ready; exec sleep 60")
    with lockflame_session("record", "-o", output, "--", *command) as session:
        wait_for_ready(session)
        time.sleep(0.2)
        session.process.send_signal(number)
        recorded(session.finish(timeout=20), output, status)


def test_a_command_that_ignores_sigterm_is_ended_by_the_second(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with lockflame_session("record", "-o", output, "--", "bash", "-c", IGNORES_SIGTERM) as session:
        wait_for_ready(session)
        session.process.terminate()
        time.sleep(0.5)
        assert session.process.poll() is None
        session.process.terminate()
        profile = recorded(session.finish(), output, 137).profile
    assert profile.recording.samples > 0


def test_ctrl_c_on_a_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPO)
        command = lockflame_command("record", "-o", output, "--", sys.executable, "-c", COUNTS_SIGINTS)
        os.execv(command[0], command)
    shown = b""
    try:
        while b"ready" not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # EIO: all that had the terminal open have ended
                break
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert b"interrupts: 1\r\n" in shown
    assert output.exists()


def test_duration_shorter_than_the_command(tmp_path: Path) -> None:
    command = [build_target("split_70_30.c"), "--seconds", "3"]
    start = time.monotonic()
    result = record(tmp_path / "p.pb.gz", "-d", 1, "-F", 99, "--", *command)
    assert time.monotonic() - start > 2.9
    assert 0.95e9 < result.profile.recording.duration_ns < 2.5e9
    assert "cpu_ns" in result.stdout


def test_duration_longer_than_the_command(tmp_path: Path) -> None:
    profile = record(tmp_path / "p.pb.gz", "-d", 60, "--", "sh", "-c", "sleep 0.5").profile
    assert profile.recording.duration_ns < 5e9


def test_exit_status_after_the_duration(tmp_path: Path) -> None:
    record(tmp_path / "p.pb.gz", "-d", 0.2, "--", "sh", "-c", "sleep 1; exit 9", status=9)


def test_what_the_command_left_running_is_not_waited_for(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    command = ("sh", "-c", "sleep 30 >/dev/null 2>&1 & exit 3")
    with lockflame_session("record", "-o", output, "--", *command) as session:
        assert session.process.wait(20) == 3
        assert output.exists()


def test_options_of_the_command_are_its_own(tmp_path: Path) -> None:
    result = record(tmp_path / "p.pb.gz", "--", "echo", "-p", "1", "--help", "-o", "x.svg")
    assert result.stdout == "-p 1 --help -o x.svg\n"


def test_a_shells_children_are_named(tmp_path: Path) -> None:
    profile = record(tmp_path / "p.pb.gz", "-F", 999, "--", "sh", "-c", f"{build_target('burn_first.c')}; :").profile
    assert "first_work" in function_names(profile)


@pytest.mark.parametrize("kind", ["missing", "not-executable", "folder", "no-format"])
def test_a_command_that_cannot_run(tmp_path: Path, kind: str) -> None:
    program = tmp_path / "program"
    if kind == "folder":
        program.mkdir()
    elif kind != "missing":
        program.write_bytes(b"\x7fno program\n")
        program.chmod(0o755 if kind == "no-format" else 0o644)
    work = tmp_path / "work"
    work.mkdir()
    for output in ([], ["-o", work / "p.pb.gz"]):
        with lockflame_session("record", *output, "--", program, "argument", cwd=work) as session:
            result = session.finish()
        assert result.status == 1
        assert result.stderr.startswith(f"lockflame: error: cannot run {program}. ")
        assert result.stderr.count("\n") == 1
        assert list(work.iterdir()) == []


def test_an_empty_command_is_no_command(tmp_path: Path) -> None:
    with lockflame_session("record", "--", "", cwd=tmp_path) as session:
        result = session.finish()
    assert result.status in (1, 2)
    assert result.stderr.startswith("lockflame: error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "2>/dev/full"])
def test_messages_that_cannot_be_written_change_nothing(tmp_path: Path, redirection: str) -> None:
    """The profile is what was asked for: it is written, and the exit status is still the command's."""
    output = tmp_path / "p.pb.gz"
    launcher = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    with lockflame_session("record", "-o", output, "--", "sh", "-c", "exit 7", launcher=launcher) as session:
        result = session.finish()
    assert output.exists()
    assert "Traceback" not in result.stderr
    assert result.status == 7
