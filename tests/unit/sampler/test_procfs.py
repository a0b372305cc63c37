from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lockflame.events import FileMapping, ProcessSnapshot
from sampler import perf_event, procfs

NO_SUCH_PID = 2**22 + 1
"""Above the kernel's limit (PID_MAX_LIMIT)."""
MAP_SCRIPT = """
import mmap, os, sys
with open(sys.argv[1], "rb") as file:
    code = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC)
print("ready", flush=True)
sys.stdin.read()
"""

StartMapping = Callable[[bytes], int]


@pytest.fixture
def mapping_process() -> Iterator[StartMapping]:
    """Starts a process that maps a file as code; returns its pid."""
    with ExitStack() as stack:

        def start(path: bytes) -> int:
            command = [sys.executable.encode(), b"-c", MAP_SCRIPT.encode(), path]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process.pid

        yield start


def executable_file(folder: Path, name: bytes) -> bytes:
    path = os.fsencode(folder) + b"/" + name
    with open(path, "wb") as file:
        file.write(bytes(8192))
    return path


def mapping_in(pid: int, path: bytes) -> FileMapping:
    found = [mapping for mapping in procfs.snapshot(pid).mappings if os.fsencode(mapping.path) == path]
    assert found, [mapping.path for mapping in procfs.snapshot(pid).mappings]
    return found[0]


def test_status_of_this_process() -> None:
    status = procfs.process_status(os.getpid())
    assert status is not None
    assert status.parent_pid == os.getppid()
    assert status.state == "R"
    assert not status.is_kernel_thread


def test_a_comm_may_hold_parentheses_and_spaces() -> None:
    statuses: list[procfs.ProcessStatus | None] = []

    def rename() -> None:
        perf_event.set_own_comm(b"a) (b 7 \xff")
        statuses.append(procfs.process_status(threading.get_native_id()))

    thread = threading.Thread(target=rename)
    thread.start()
    thread.join()
    assert statuses[0] is not None
    assert os.fsencode(statuses[0].comm) == b"a) (b 7 \xff"
    assert statuses[0].parent_pid == os.getppid()


def test_no_such_process() -> None:
    assert procfs.process_status(NO_SUCH_PID) is None
    assert procfs.owner_uid(NO_SUCH_PID) is None
    assert procfs.threads(NO_SUCH_PID) == []
    assert procfs.command_line(NO_SUCH_PID) == ""
    snapshot = procfs.snapshot(NO_SUCH_PID)
    assert (snapshot.comms, snapshot.mappings) == ({}, ())


def test_command_line_keeps_empty_arguments_apart() -> None:
    command = ["/bin/sh", "-c", "echo ready; read line", "", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # a process just after its exec has no command line yet
        assert procfs.command_line(process.pid) == "/bin/sh -c echo ready; read line  -"


def test_family_holds_children_of_children() -> None:
    with subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.read(1)  # the grandchild runs
        family = procfs.family(os.getpid())
        assert family[0] == os.getpid()
        assert process.pid in family
        grandchildren = [pid for pid in family if (status := procfs.process_status(pid)) and status.comm == "cat"]
        assert len(grandchildren) == 1
        assert procfs.family(process.pid) == [process.pid, *grandchildren]


def test_snapshot_names_every_thread() -> None:
    is_named, may_end = threading.Event(), threading.Event()

    def run() -> None:
        perf_event.set_own_comm(b"named")
        is_named.set()
        may_end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert is_named.wait(30)
        assert procfs.snapshot(os.getpid()).comms[thread.native_id or 0] == "named"
    finally:
        may_end.set()
        thread.join()


def test_snapshot_holds_executable_mappings_alone() -> None:
    mappings = procfs.snapshot(os.getpid()).mappings
    assert any(mapping.path == "[vdso]" for mapping in mappings)
    libc = [mapping for mapping in mappings if os.path.basename(mapping.path).startswith("libc.so")]
    assert len(libc) == 1
    assert libc[0].inode == os.stat(libc[0].path).st_ino
    assert libc[0].file_offset > 0
    assert libc[0].end > libc[0].start


@pytest.mark.parametrize("name", [b"plain", b"with space ", b"line\nbreak", b"\xff\xfe"])
def test_a_mapped_files_path_may_hold_any_byte(tmp_path: Path, mapping_process: StartMapping, name: bytes) -> None:
    path = executable_file(tmp_path, name)
    mapping = mapping_in(mapping_process(path), path)
    assert mapping.inode == os.stat(path).st_ino
    assert mapping.end - mapping.start == 8192


def test_a_mapped_files_path_may_hold_a_carriage_return(tmp_path: Path, mapping_process: StartMapping) -> None:
    path = executable_file(tmp_path, b"a\rb")
    mapping_in(mapping_process(path), path)


def test_a_deleted_file_is_marked(mapping_process: StartMapping) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = executable_file(Path(folder), b"gone")
        pid = mapping_process(path)
    mapping_in(pid, path + b" (deleted)")


def test_mapped_files_are_held_without_the_privilege_for_the_kernels_links(
    tmp_path: Path, mapping_process: StartMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = executable_file(tmp_path, b"code")
    mapping = mapping_in(mapping_process(path), path)
    open_any = os.open

    def refuse_links(name: str, flags: int) -> int:
        if "map_files" in name:
            raise PermissionError
        return open_any(name, flags)

    monkeypatch.setattr(os, "open", refuse_links)
    snapshot = ProcessSnapshot(mapping.pid, {}, (mapping,))
    held = procfs.hold_files([snapshot])
    assert os.path.samestat(os.fstat(held[mapping.device, mapping.inode]), os.stat(path))
    os.close(held[mapping.device, mapping.inode])
    os.replace(executable_file(tmp_path, b"other"), path)
    assert procfs.hold_files([snapshot]) == {}
