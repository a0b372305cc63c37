from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from lockflame.events import FileMapping
from symbolize import binaries
from symbolize.binaries import (
    ANOTHER,
    FORBIDDEN,
    GONE,
    GONE_WITH_PROCESS,
    PLAIN_FILE_SYSTEMS,
    Binary,
    open_binary,
)
from symbolize.symbols import SymbolTable
from tests.support.elf_writer import ElfFile
from tests.support.needs import find_program
from tests.unit.symbolize.deadline import seconds_at_most

BUILD_ID, OTHER_ID = "ab" * 20, "cd" * 20
NO_PID = 2**22 + 1
"""No process has it, so that only the path leads to the file."""


def write_elf(path: Path, elf: ElfFile) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(elf))
    return path


def mapping_of(path: Path | str, inode: int = 0, build_id: str = "") -> FileMapping:
    folder = Path(path).parent
    device = os.stat(folder if folder.is_dir() else "/").st_dev
    return FileMapping(0x7000, 0x8000, 0x1000, str(path), (os.major(device), os.minor(device)), inode, build_id)


def file_system_of(path: Path) -> str:
    """As findmnt(8) says."""
    command = [find_program("findmnt"), "--noheadings", "--output", "FSTYPE", "--target", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def opened(path: Path | str, inode: int = 0, build_id: str = "") -> Binary:
    return open_binary(mapping_of(path, inode, build_id), NO_PID)


def test_the_file_that_was_mapped_is_opened(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID))
    for binary in (opened(path, path.stat().st_ino), opened(path, build_id=BUILD_ID), opened(path)):
        assert binary.image is not None
        assert (binary.path, binary.build_id, binary.reason) == (str(path), BUILD_ID, "")


def test_another_build_id_is_another_file(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile(build_id=OTHER_ID))
    binary = opened(path, path.stat().st_ino, BUILD_ID)
    assert binary.image is None
    assert binary.build_id == BUILD_ID
    assert "build-id" in binary.reason


def test_another_inode_is_another_file_where_no_build_id_is_known(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID))
    binary = opened(path, path.stat().st_ino + 1)
    assert binary.image is None
    assert "replaced" in binary.reason


def test_the_build_id_counts_more_than_the_inode(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID))
    assert opened(path, path.stat().st_ino + 1, BUILD_ID).image is not None


def test_the_same_inode_of_another_file_system_is_another_file(tmp_path: Path) -> None:
    """The inodes of two small file systems, such as two containers' tmpfs, often have the same numbers."""
    path = write_elf(tmp_path / "server", ElfFile())
    if file_system_of(path) not in PLAIN_FILE_SYSTEMS:
        pytest.skip(f"the device of a mapping says nothing on {file_system_of(path)}")
    mapping = replace(mapping_of(path, path.stat().st_ino), device=(8, 1))
    assert open_binary(mapping, NO_PID).reason == ANOTHER
    assert open_binary(replace(mapping, device=(0, 0)), NO_PID).image is not None


@pytest.mark.parametrize("build_id", ["", BUILD_ID])
def test_a_process_whose_files_may_not_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_id: str
) -> None:
    """What lies at the same path here is another file, but the right one may be in the process's own root."""
    path = write_elf(tmp_path / "server", ElfFile(build_id=OTHER_ID))
    open_any = binaries.open_regular

    def refuse_processes(name: str) -> IO[bytes]:
        if name.startswith("/proc/"):
            raise PermissionError(13, "refused")
        return open_any(name)

    monkeypatch.setattr(binaries, "open_regular", refuse_processes)
    mapping = mapping_of(path, path.stat().st_ino + 1, build_id)
    assert open_binary(mapping, os.getpid()).reason == FORBIDDEN
    assert open_binary(replace(mapping, path=f"{path}.gone"), os.getpid()).reason == FORBIDDEN
    assert open_binary(mapping_of(path, path.stat().st_ino), os.getpid()).image is not None


def test_a_living_process_that_removed_its_file(tmp_path: Path) -> None:
    assert open_binary(mapping_of(tmp_path / "server", 7), os.getpid()).reason == GONE


def test_a_deleted_file_is_gone(tmp_path: Path) -> None:
    binary = opened(f"{tmp_path / 'server'} (deleted)", 7)
    assert (binary.image, binary.path, binary.reason) == (None, str(tmp_path / "server"), GONE_WITH_PROCESS)


def test_a_file_of_the_same_name_does_not_stand_for_a_deleted_one(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile())
    assert opened(f"{path} (deleted)", path.stat().st_ino + 1).image is None


def test_a_held_file_is_found_after_its_deletion(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        inode = path.stat().st_ino
        path.unlink()
        binary = open_binary(mapping_of(path, inode), NO_PID, descriptor)
        assert binary.build_id == BUILD_ID
        os.fstat(descriptor)  # it stays the caller's
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["//anon", "[heap]", "[vsyscall]", "anon_inode:[perf]", ""])
def test_memory_without_a_file(path: str) -> None:
    binary = opened(path)
    assert (binary.image, binary.path) == (None, path)
    assert binary.reason == "not backed by a file"


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with seconds_at_most(5):
        binaries = [opened(path) for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"))]
    assert [(binary.image, binary.reason) for binary in binaries] == [(None, "not a regular file")] * 3


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", bytes(ElfFile())[:200]])
def test_a_file_that_is_no_elf_file_has_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "script"
    path.write_bytes(content)
    binary = opened(path)
    assert binary.image is None
    assert binary.reason


def test_the_vdso_has_the_kernels_functions() -> None:
    binary = opened("[vdso]")
    if binary.image is None:
        pytest.skip(f"no vdso: {binary.reason}")
    code = binary.image.sections[".text"]
    table = SymbolTable(binary.image)
    symbols = [table.find(address) for address in range(code.elf_address, code.elf_address + code.size)]
    assert any("clock_gettime" in symbol.linkage_name for symbol in symbols if symbol)
