"""What a recording shows and writes: files, terminal, memory; and the commands `flame` and `doctor`."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lockflame.pprof import read
from tests.support.cli import CliResult, lockflame_command
from tests.support.paths import REPO
from tests.support.process import Target, running
from tests.support.recording import lockflame_session, record, recorded, samples_by_pid
from tests.support.targets import build_target

pytestmark = pytest.mark.integration

DEFAULT_NAME = r"lockflame-split_70_30-{pid}-\d{{8}}-\d{{6}}"
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[25];[\d;]+)m")
MEMORY_MOST_KB = 60 * 1024


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A process at work."""
    with running([build_target("split_70_30.c")]) as started:
        yield started


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Path:
    """A profile of the process."""
    output = tmp_path_factory.mktemp("profile") / "p.pb.gz"
    record(output, "-p", target.pid, "-d", 1, "-F", 999)
    return output


def on_terminal(arguments: Sequence[object], env: Mapping[str, str | None], cwd: Path, timeout_s: float = 60) -> bytes:
    """All that `lockflame` shows on a terminal; it must end with status 0."""
    leader, follower = pty.openpty()
    wanted = {**os.environ, "PYTHONPATH": str(REPO), "TERM": "xterm-256color", **env}
    process = subprocess.Popen(
        lockflame_command(*map(str, arguments)),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=cwd,
        env={name: value for name, value in wanted.items() if value is not None},
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + timeout_s
    try:
        while select.select([leader], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # EIO: it has ended
                break
    finally:
        os.close(leader)
        if time.monotonic() > deadline:
            process.kill()
        status = process.wait(10)
    assert status == 0, shown
    return shown


def test_default_outputs_are_in_the_working_folder(tmp_path: Path, target: Target) -> None:
    with lockflame_session("record", "-p", target.pid, "-d", 0.5, cwd=tmp_path) as session:
        result = session.finish()
    assert result.status == 0
    assert result.stdout == ""
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = DEFAULT_NAME.format(pid=target.pid)
    assert len(names) == 2
    assert re.fullmatch(stem + r"\.pb\.gz", names[0])
    assert re.fullmatch(stem + r"\.svg", names[1])
    for name in names:
        assert f"wrote {name}" in result.stderr


def test_default_outputs_of_a_command_with_an_odd_name(tmp_path: Path) -> None:
    program = tmp_path / "odd <&> näme"
    program.symlink_to("/bin/true")
    work = tmp_path / "work"
    work.mkdir()
    with lockflame_session("record", "--", program, cwd=work) as session:
        assert session.finish().status == 0
    names = sorted(path.name for path in work.iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"lockflame-[A-Za-z0-9._-]+-\d+-\d{8}-\d{6}\.(pb\.gz|svg)", name) for name in names), names


def test_files_are_their_owners_only(tmp_path: Path, target: Target) -> None:
    outputs = [tmp_path / f"p{suffix}" for suffix in (".pb.gz", ".svg", ".folded")]
    outputs[1].write_text("was here before")
    outputs[1].chmod(0o644)
    arguments = [argument for output in outputs for argument in ("-o", output)]
    launcher = ["sh", "-c", 'umask 0; exec "$@"', "sh"]
    with lockflame_session("record", "-p", target.pid, "-d", 0.5, *arguments, launcher=launcher) as session:
        assert session.finish().status == 0
    assert [stat.S_IMODE(output.stat().st_mode) for output in outputs] == [0o600] * 3
    assert sorted(tmp_path.iterdir()) == sorted(outputs)


def test_outputs_agree_with_each_other(tmp_path: Path, target: Target) -> None:
    profile, svg, folded = (tmp_path / f"p{suffix}" for suffix in (".pb.gz", ".svg", ".folded"))
    arguments = ("-p", target.pid, "-d", 1, "-F", 999, "-o", profile, "-o", svg, "-o", folded)
    with lockflame_session("record", *arguments) as session:
        result = session.finish()
    assert result.status == 0
    info = read(str(profile)).recording
    assert f"recorded {info.samples:,} samples" in result.stderr
    text = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "work_seventy" in text
    for count in (f"{info.samples:,} samples", f"{info.lost:,} lost", f"{info.truncated:,} truncated"):
        assert count in text
    assert any("work_seventy" in line for line in folded.read_text().splitlines())


def test_a_device_stays_a_device(target: Target) -> None:
    with lockflame_session("record", "-p", target.pid, "-d", 0.5, "-o", "/dev/null") as session:
        assert session.finish().status == 2  # no suffix tells the format
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_stays_a_link(tmp_path: Path, target: Target) -> None:
    (tmp_path / "real.svg").write_text("old")
    (tmp_path / "link.svg").symlink_to("real.svg")
    with lockflame_session("record", "-p", target.pid, "-d", 0.5, "-o", tmp_path / "link.svg") as session:
        assert session.finish().status == 0
    assert (tmp_path / "link.svg").is_symlink()
    ElementTree.parse(tmp_path / "real.svg")


@pytest.mark.parametrize("suffix", [".svg", ".folded"])
def test_flame_renders_the_file(tmp_path: Path, profile_file: Path, suffix: str) -> None:
    output = tmp_path / f"p{suffix}"
    with lockflame_session("flame", profile_file, "-o", output, "--title", 'before <the> "fix" &') as session:
        result = session.finish()
    assert (result.status, result.stdout) == (0, "")
    assert "work_seventy" in output.read_text()
    if suffix == ".svg":
        assert 'before <the> "fix" &' in "".join(ElementTree.parse(output).getroot().itertext())


def test_flame_draws_the_same_twice(tmp_path: Path, profile_file: Path) -> None:
    for name in ("one.svg", "two.svg"):
        with lockflame_session("flame", profile_file, "-o", tmp_path / name) as session:
            assert session.finish().status == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_doctor_prints_a_table(lockflame: Callable[..., CliResult]) -> None:
    result = lockflame("doctor")
    assert (result.status, result.stderr) == (0, "")
    for word in ("CPU sampling", "kernel frames", "BPF", "tracepoints", "kernel symbols"):
        assert word in result.stdout
    assert "\x1b" not in result.stdout


def test_doctor_prints_json(lockflame: Callable[..., CliResult]) -> None:
    result = lockflame("doctor", "--json")
    checks = json.loads(result.stdout)
    assert (result.status, result.stderr) == (0, "")
    assert all(set(check) == {"name", "state", "detail", "mend"} for check in checks)
    assert {check["state"] for check in checks} <= {"ok", "limited", "missing"}
    assert all(check["mend"] for check in checks if check["state"] == "missing" and "CONFIG" not in check["detail"])


@pytest.mark.parametrize("no_colour", [None, "1"], ids=["colour", "NO_COLOR"])
def test_doctor_on_a_terminal(tmp_path: Path, no_colour: str | None) -> None:
    shown = on_terminal(["doctor"], {"NO_COLOR": no_colour}, tmp_path)
    assert bool(ESCAPE.search(shown)) == (no_colour is None)


@pytest.mark.parametrize("no_colour", [None, "1"], ids=["colour", "NO_COLOR"])
def test_progress_on_a_terminal(tmp_path: Path, target: Target, no_colour: str | None) -> None:
    arguments = ("record", "-p", target.pid, "-d", 2, "-F", 999, "-o", tmp_path / "p.pb.gz")
    shown = on_terminal(arguments, {"NO_COLOR": no_colour}, tmp_path)
    bar, _, summary = shown.partition(b"lockflame: recorded")
    counts = [int(count.replace(b",", b"")) for count in re.findall(rb"([\d,]+) samples", bar)]
    assert len(set(counts)) > 1
    assert counts == sorted(counts)
    assert "━".encode() in bar
    assert b"spin" in summary  # inlined into the functions that count
    assert bool(COLOUR.search(shown)) == (no_colour is None)
    # The bar takes itself away: the last thing it does is to clear its line.
    assert b"\x1b[2K" in bar[-20:]


def test_nothing_but_the_summary_in_a_pipe(tmp_path: Path, target: Target) -> None:
    result = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999)
    assert result.stdout == ""
    assert result.stderr.startswith("lockflame: recorded ")
    assert "\x1b" not in result.stderr
    assert "\r" not in result.stderr


def test_memory_and_files_while_recording(tmp_path: Path, target: Target) -> None:
    output = tmp_path / "p.pb.gz"
    with lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session:
        session.wait_until_recording()
        time.sleep(5)
        peak_kb = peak_memory_kb(session.pid)
        assert list(tmp_path.iterdir()) == []  # nothing before its time
        assert os.listdir(session.temporary) == []  # the spool has no name
        session.process.terminate()
        recorded(session.finish(), output)
    print(f"peak memory while recording: {peak_kb / 1024:.1f} MB")
    assert peak_kb < MEMORY_MOST_KB


def test_memory_does_not_grow_with_the_recording(tmp_path: Path, target: Target) -> None:
    arguments = ("record", "-p", target.pid, "-d", 60, "-F", 4999, "-o", tmp_path / "p.pb.gz")
    with lockflame_session(*arguments) as session:
        session.wait_until_recording()
        time.sleep(1)
        early_kb = peak_memory_kb(session.pid)
        time.sleep(3)
        late_kb = peak_memory_kb(session.pid)
        session.process.terminate()
        assert session.finish().status == 0
    assert late_kb < early_kb + 2048


def peak_memory_kb(pid: int) -> int:
    """VmHWM of /proc/PID/status."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def test_help_has_an_example(lockflame: Callable[..., CliResult]) -> None:
    for arguments in (["--help"], ["record", "--help"], ["flame", "--help"], ["locks", "--help"], ["doctor", "--help"]):
        result = lockflame(*arguments)
        assert (result.status, result.stderr) == (0, "")
        assert "Example" in result.stdout


def test_an_idle_process_is_no_error(tmp_path: Path) -> None:
    with running(["sh", "-c", "echo ready; exec sleep 60"]) as idle:
        svg = tmp_path / "p.svg"
        result = record(tmp_path / "p.pb.gz", "-p", idle.pid, "-d", 0.5, "-o", svg)
    assert sum(samples_by_pid(result.profile).values()) == result.profile.recording.samples
    ElementTree.parse(svg)
