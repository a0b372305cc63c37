"""Lockflame as user nobody: own processes with user frames, nobody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockflame.pprof import read
from lockflame.profile import FrameKind
from tests.support.cli import CliResult
from tests.support.process import running
from tests.support.recording import frame_kinds, weight_of
from tests.support.targets import build_target
from tests.support.workdir import server_folder

pytestmark = [pytest.mark.integration, pytest.mark.requires_root, pytest.mark.side_by_side]

USER = "nobody"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that belongs to nobody, which pytest's own don't."""
    with server_folder("nobody", USER) as path:
        yield path


@pytest.fixture
def paranoid() -> int:
    """The kernel's setting; where it refuses or allows everything, these tests have nothing to look at."""
    level = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if level != 2:
        pytest.skip(f"kernel.perf_event_paranoid is {level}, these tests need its default, 2")
    return level


def test_own_process_has_user_frames_only(lockflame: Callable[..., CliResult], folder: Path, paranoid: int) -> None:
    output = folder / "p.pb.gz"
    env = {"TMPDIR": str(folder)}
    with running([build_target("split_70_30.c")], user=USER) as target:
        arguments = ("record", "-p", str(target.pid), "-d", "2", "-F", "999", "-o", output)
        result = lockflame(*arguments, user=USER, cwd=folder, env=env)
        truth = target.stop()
    assert result.status == 0, result.stderr
    profile = read(str(output))
    assert FrameKind.KERNEL not in frame_kinds(profile)
    assert profile.recording.kernel_frames is False
    assert "kernel.perf_event_paranoid" in result.stderr
    seventy, thirty = (weight_of(profile, name) for name in ("work_seventy", "work_thirty"))
    assert seventy / (seventy + thirty) == pytest.approx(truth["work_seventy"], abs=0.04)
    assert output.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [output.name]


def test_the_picture_says_that_kernel_frames_are_missing(
    lockflame: Callable[..., CliResult], folder: Path, paranoid: int
) -> None:
    output = folder / "p.svg"
    env = {"TMPDIR": str(folder)}
    with running([build_target("split_70_30.c")], user=USER) as target:
        result = lockflame("record", "-p", str(target.pid), "-d", "1", "-o", output, user=USER, cwd=folder, env=env)
    assert result.status == 0, result.stderr
    assert "ernel frames" in output.read_text()


def test_own_command(lockflame: Callable[..., CliResult], folder: Path, paranoid: int) -> None:
    output = folder / "p.pb.gz"
    command = (str(build_target("burn_first.c")),)
    result = lockflame("record", "-F", "999", "-o", output, "--", *command, user=USER, cwd=folder)
    assert result.status == 0, result.stderr
    assert weight_of(read(str(output)), "first_work") == pytest.approx(50e6, rel=0.2)


def test_a_thousand_own_threads(lockflame: Callable[..., CliResult], folder: Path, paranoid: int) -> None:
    """The locked memory that an unprivileged user has is enough."""
    output = folder / "p.pb.gz"
    with running([build_target("many_threads.c"), "--threads", "1000", "--working", "2"], user=USER) as target:
        result = lockflame("record", "-p", str(target.pid), "-d", "1", "-o", output, user=USER, cwd=folder)
    assert result.status == 0, result.stderr
    assert weight_of(read(str(output)), "worker_work") > 0


@pytest.mark.parametrize("which", ["root's program", "init"])
def test_another_users_process_is_one_line(lockflame: Callable[..., CliResult], folder: Path, which: str) -> None:
    output = folder / "p.pb.gz"
    with running([build_target("split_70_30.c")]) as target:
        pid = 1 if which == "init" else target.pid
        result = lockflame("record", "-p", str(pid), "-d", "1", "-o", output, user=USER, cwd=folder)
    assert result.status == 1
    assert result.stderr.startswith(f"lockflame: error: cannot profile process {pid}. ")
    assert "another user" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_ours_is_found_before_recording(
    lockflame: Callable[..., CliResult], folder: Path, tmp_path: Path
) -> None:
    with running([build_target("split_70_30.c")], user=USER) as target:
        arguments = ("record", "-p", str(target.pid), "-d", "60", "-o", tmp_path / "p.svg")
        result = lockflame(*arguments, user=USER, cwd=folder, timeout=20)
    assert result.status == 1
    assert result.stderr.startswith(f"lockflame: error: cannot write {tmp_path / 'p.svg'}. Permission denied. ")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_doctor(lockflame: Callable[..., CliResult], folder: Path, paranoid: int, as_json: bool) -> None:
    result = lockflame("doctor", *(["--json"] if as_json else []), user=USER, cwd=folder)
    assert result.status == 0
    assert result.stderr == ""
    assert "sysctl kernel.perf_event_paranoid=1" in result.stdout
    if as_json:
        states = {check["name"]: check["state"] for check in json.loads(result.stdout)}
        assert states["kernel frames"] == "limited"
        assert states["other users' processes"] == "limited"
