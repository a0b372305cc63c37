"""Names come from the files that the target sees in its own namespaces; each thread says which container it is in."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lockflame.profile import CPU, Profile
from tests.support.cgroups import remove_cgroup
from tests.support.needs import CannotTest, find_program
from tests.support.process import running
from tests.support.recording import function_names, lockflame_session, record, recorded, weight_of
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root, pytest.mark.side_by_side]

INSIDE, OUTSIDE = "seventy_inside", "work_seventy"
BASE_FLAGS = ("-O2", "-g", "-static")
INSIDE_FLAGS = (*BASE_FLAGS, f"-Dwork_seventy={INSIDE}", "-Dwork_thirty=thirty_inside")
# A mount namespace of its own, then a pid namespace in which the program is the first process.
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
BIND = 'mount --bind "$1/inside/prog" "$1/seen/prog" && exec "$1/seen/prog"'
OVERLAY = """
mount -t tmpfs none "$1/upper" && mkdir "$1/upper/files" "$1/upper/work" &&
mount -t overlay none -o lowerdir="$1/inside",upperdir="$1/upper/files",workdir="$1/upper/work" "$1/seen" &&
exec "$1/seen/prog"
"""
CHROOT = 'exec chroot "$1/inside" /prog'
LATER = f"""
echo ready; sleep 1
unshare --mount sh -c '{BIND}' sh "$1" & sleep 30
"""
CONTAINER_ID = "0123456789ab" + "cdef" * 13


@pytest.fixture(params=["build-id", "no-build-id"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """`seen/prog` is the host's program; `inside/prog` has the same code at the same addresses under other names."""
    more = ("-Wl,--build-id=none",) if request.param == "no-build-id" else ("-Wl,--build-id",)
    for place, flags in (("inside", INSIDE_FLAGS), ("seen", BASE_FLAGS)):
        put_program(tmp_path / place / "prog", (*flags, *more))
    (tmp_path / "upper").mkdir()
    return tmp_path


def put_program(path: Path, flags: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build_target("split_70_30.c", flags=flags).read_bytes())
    path.chmod(0o755)


def in_namespace(script: str, folder: Path) -> list[str]:
    return [*UNSHARE, "sh", "-c", script, "sh", str(folder)]


def assert_names_from_inside(profile: Profile, share: float = 0.5) -> None:
    assert weight_of(profile, INSIDE) > share * profile.total(CPU)
    assert OUTSIDE not in function_names(profile)


@pytest.mark.parametrize("script", [BIND, OVERLAY, CHROOT], ids=["bind", "overlay", "chroot"])
def test_the_target_sees_another_file_at_the_path(folder: Path, script: str) -> None:
    with running(in_namespace(script, folder)) as target:
        profile = record(folder / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 499).profile
    assert_names_from_inside(profile)


def test_a_child_that_enters_its_namespace_during_the_recording(folder: Path) -> None:
    with running(["sh", "-c", LATER, "sh", str(folder)]) as target:
        profile = record(folder / "p.pb.gz", "-p", target.pid, "-d", 2.5, "-F", 499).profile
    assert_names_from_inside(profile)


def test_the_target_has_ended_before_its_frames_are_named(folder: Path) -> None:
    output = folder / "p.pb.gz"
    with (
        running(in_namespace(BIND, folder)) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 499, "-o", output) as session,
    ):
        session.wait_until_recording()
        time.sleep(1)
        target.process.kill()
        profile = recorded(session.finish(), output).profile
    assert_names_from_inside(profile)


def test_a_file_that_nobody_can_open_any_more_is_not_mistaken_for_the_hosts(folder: Path) -> None:
    """A command of ours: what it mapped after its start was never held, and its namespace is gone by the end."""
    command = in_namespace(BIND + " --seconds 1", folder)
    profile = record(folder / "p.pb.gz", "-F", 499, "--", *command).profile
    assert OUTSIDE not in function_names(profile)
    reasons = {location.unresolved_reason for location in profile.locations}
    assert any("not the mapped one" in reason for reason in reasons)


def test_a_program_that_is_replaced_on_disk(folder: Path) -> None:
    with running([folder / "inside" / "prog"]) as target:
        (folder / "seen" / "prog").replace(folder / "inside" / "prog")
        profile = record(folder / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 499).profile
    assert_names_from_inside(profile)


def test_a_debug_file_in_the_container(tmp_path: Path) -> None:
    """The program is stripped; its debug file is where the container's packages put it, and nowhere on the host."""
    program = tmp_path / "prog"
    put_program(program, (*INSIDE_FLAGS, "-Wl,--build-id"))
    objcopy, readelf = find_program("objcopy"), find_program("readelf")
    notes = subprocess.run([readelf, "-n", program], capture_output=True, text=True, check=True).stdout
    build_id = notes.partition("Build ID: ")[2].split()[0]
    debug_file = tmp_path / f"usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    debug_file.parent.mkdir(parents=True)
    subprocess.run([objcopy, "--only-keep-debug", program, debug_file], check=True)
    subprocess.run([objcopy, "--strip-all", program], check=True)
    with running(["chroot", str(tmp_path), "/prog"]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 499).profile
    assert_names_from_inside(profile)


@pytest.fixture
def container_group() -> Iterator[Path]:
    """A control group that is called as Docker calls a container's."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = [Path(line.split()[4]) for line in lines if " - cgroup2 " in line]
    if not mounts:
        raise CannotTest("no version 2 control groups are mounted")
    outer = mounts[0] / f"lockflame-test-{os.getpid()}"
    group = outer / f"docker-{CONTAINER_ID}.scope"
    try:
        group.mkdir(parents=True)
    except OSError as error:
        raise CannotTest(f"no control group can be made: {error}") from error
    yield group
    for folder in (group, outer):
        remove_cgroup(folder)


def test_threads_tell_their_container(tmp_path: Path, container_group: Path) -> None:
    """The target and its children are in it; Lockflame's own process isn't."""
    output = tmp_path / "p.pb.gz"
    command = [build_target("fork_storm.c"), "--rate", "100", "--seconds", "4", "--burn-us", "5000"]
    with running(command, wait_ready=False) as target:
        (container_group / "cgroup.procs").write_text(str(target.pid))
        profile = record(output, "-p", target.pid, "-d", 1.5, "-F", 999).profile
    assert len({thread.pid for thread in profile.threads}) > 10
    late = [thread for thread in profile.threads if thread.container != CONTAINER_ID[:12]]
    assert late == []


def test_a_child_that_is_moved_into_a_container(tmp_path: Path, container_group: Path) -> None:
    program = build_target("split_70_30.c")
    script = 'echo ready; sleep 1; (echo 0 > "$1/cgroup.procs"; exec "$2") & sleep 30'
    with running(["sh", "-c", script, "sh", str(container_group), str(program)]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 2, "-F", 499).profile
    burning = {thread.container for thread in profile.threads if thread.comm == "split_70_30"}
    assert burning == {CONTAINER_ID[:12]}
    assert {thread.container for thread in profile.threads if thread.pid == target.pid} <= {""}
