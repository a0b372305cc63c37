"""What keeps lock waits from being recorded: one line that says so, nothing written, nothing left attached."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import run_lockflame
from tests.support.needs import find_program
from tests.support.process import Target, running, wait_until
from tests.support.recording import lockflame_session, record, recorded, session_members
from tests.support.targets import build_target
from tests.support.tracefs import MOUNT_TRACEFS

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

BCC = "/usr/lib/python3/dist-packages/bcc"
HIDE = 'for folder in {folders}; do mount -t tmpfs none "$folder" || exit 99; done; exec "$@"'
BPF_SYSCALL, PROG_GET_FD_BY_ID = 321, 13


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A process whose threads wait for one lock."""
    with running([build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", "4"]) as started:
        yield started


@pytest.fixture(scope="module")
def _compiled(target: Target, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The programs are in the cache."""
    record(tmp_path_factory.mktemp("warm") / "p.pb.gz", "-p", target.pid, "-d", 0.1, "--locks")


def in_mount_namespace(script: str) -> list[str]:
    """A launcher that runs a script of sh before, in a mount namespace of its own."""
    return [str(find_program("unshare")), "--mount", "sh", "-c", script, "sh"]


def fails(target: Target, folder: Path, **options: object) -> str:
    """Records, which must fail with one line and write nothing. Returns the line."""
    output = folder / "p.pb.gz"
    arguments = ("record", "-p", target.pid, "-d", 30, "--locks", "-o", output)
    with lockflame_session(*arguments, **options) as session:  # type: ignore[arg-type]
        result = session.finish()
    assert result.status == 1, result
    assert result.stderr.startswith("lockflame: error: cannot record lock waits. "), result.stderr
    assert result.stderr.endswith(".\n")
    assert result.stderr.count("\n") == 1
    assert not output.exists()
    return result.stderr


@pytest.mark.parametrize(
    ("folders", "why"),
    [
        (BCC, "BCC is not installed"),
        ("/usr/src /lib/modules", "No kernel headers are installed"),
    ],
    ids=["no-bcc", "no-headers"],
)
def test_nothing_to_compile_with(target: Target, tmp_path: Path, folders: str, why: str) -> None:
    launcher = in_mount_namespace(HIDE.format(folders=folders))
    line = fails(target, tmp_path, launcher=launcher, env={"XDG_CACHE_HOME": str(tmp_path / "cold")})
    assert f" {why}" in line
    assert "apt-get install" in line


@pytest.mark.usefixtures("_compiled")
def test_compiled_programs_need_no_compiler(target: Target, tmp_path: Path) -> None:
    """What was compiled once works where BCC and headers are gone."""
    launcher = in_mount_namespace(HIDE.format(folders=f"{BCC} /usr/src /lib/modules"))
    profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 0.3, "--locks", launcher=launcher).profile
    assert [lock.name for lock in profile.locks] == ["LOCK_kinds"]


def test_no_privileges(tmp_path: Path) -> None:
    """For another user, of a process of its own."""
    with running(["sh", "-c", "echo ready; sleep 30"], user="nobody") as target:
        result = run_lockflame("record", "-p", str(target.pid), "--locks", "-o", "/tmp/p.pb.gz", user="nobody")
    assert result.status == 1
    assert result.stderr.count("\n") == 1
    assert "cannot record lock waits. " in result.stderr
    assert result.stderr.endswith("Run as root.\n")


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize(
    ("call", "is_compiled"), [("bpf", True), ("bpf", False), ("perf_of_all", True)], ids=["bpf", "bpf-cold", "perf"]
)
def test_a_container_that_forbids_it_to_root(target: Target, tmp_path: Path, call: str, is_compiled: bool) -> None:
    launcher = [sys.executable, "-m", "tests.support.refuse_perf", f"EPERM:{call}"]
    env = {} if is_compiled else {"XDG_CACHE_HOME": str(tmp_path / "cold")}
    assert "seccomp" in fails(target, tmp_path, launcher=launcher, env=env)


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "not-mounted"])
def test_tracefs(target: Target, tmp_path: Path, is_mounted: bool) -> None:
    """It is read where it is mounted; else it is opened without being mounted."""
    before = Path("/proc/mounts").read_text()
    launcher = in_mount_namespace(MOUNT_TRACEFS if is_mounted else 'umount -q /sys/kernel/tracing; exec "$@"')
    profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 0.3, "--locks", launcher=launcher).profile
    assert [lock.name for lock in profile.locks] == ["LOCK_kinds"]
    assert Path("/proc/mounts").read_text() == before


def test_ctrl_c_while_the_probes_are_compiled(target: Target, tmp_path: Path) -> None:
    """As a terminal sends it: to the compiler too."""
    output, cache = tmp_path / "p.pb.gz", tmp_path / "cold"
    arguments = ("record", "-p", target.pid, "--locks", "-o", output)
    with lockflame_session(*arguments, env={"XDG_CACHE_HOME": str(cache)}) as session:
        wait_until(lambda: len(session_members(session.pid)) > 1, "the compiler runs", pause=0.01)
        time.sleep(0.3)
        os.killpg(session.pid, signal.SIGINT)
        result = session.finish(timeout=10)
    assert result.status == 130, result
    assert result.stderr.strip() == "lockflame: error: interrupted. A file is written whole or not at all."
    assert not output.exists()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def programs_of(pid: int) -> list[int]:
    """The ids of the BPF programs that a process holds (fdinfo in proc(5))."""
    lines = [line for info in Path(f"/proc/{pid}/fdinfo").iterdir() for line in info.read_text().splitlines()]
    return [int(line.split()[1]) for line in lines if line.startswith("prog_id:")]


def has_program(identifier: int) -> bool:
    """Whether the kernel has a BPF program of this id, whoever holds it."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("<III", identifier, 0, 0)
    descriptor = libc.syscall(BPF_SYSCALL, PROG_GET_FD_BY_ID, attributes, len(attributes))
    if descriptor < 0:
        assert ctypes.get_errno() == errno.ENOENT
        return False
    os.close(descriptor)
    return True


def test_a_killed_recording_leaves_no_probe(tmp_path: Path) -> None:
    """And the next one counts each wait once."""
    options = "--mode changed --waits 20000 --long-ms 1 --go signal"
    command = [build_target("lock_million.c"), *options.split()]
    with running(command) as target:
        arguments = ("-p", target.pid, "-d", 60, "--locks")
        with lockflame_session("record", "-o", tmp_path / "killed.pb.gz", *arguments) as session:
            session.wait_until_recording()
            programs = programs_of(session.pid)
            assert len(programs) > 5
            assert all(map(has_program, programs))
            session.process.kill()
            assert session.finish().status == -signal.SIGKILL
        wait_until(lambda: not any(map(has_program, programs)), "the programs are gone", timeout=5)
        output = tmp_path / "p.pb.gz"
        with lockflame_session("record", "-o", output, *arguments) as session:
            session.wait_until_recording()
            target.process.send_signal(signal.SIGUSR1)
            target.wait()
            profile = recorded(session.finish(), output).profile
    assert not (tmp_path / "killed.pb.gz").exists()
    (lock,) = [lock for lock in profile.locks if lock.name == "LOCK_million"]
    assert lock.ends.value_changed == target.last_json()["LOCK_million"]["value_changed"]
