from __future__ import annotations

import os
from pathlib import Path

import pytest

from lockflame.events import FileMapping
from symbolize.binaries import Binary, open_binary, open_debug_file
from symbolize.symbols import SymbolTable
from tests.support.elf_writer import ElfFile, ElfSymbol, debug_crc
from tests.unit.symbolize.deadline import seconds_at_most

BUILD_ID, OTHER_ID = "ab" * 20, "cd" * 20
NO_PID = 2**22 + 1
"""No process has it, so that only the path leads to the file."""


def write_elf(path: Path, elf: ElfFile) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(elf))
    return path


def mapping_of(path: Path | str, inode: int = 0, build_id: str = "") -> FileMapping:
    return FileMapping(0x7000, 0x8000, 0x1000, str(path), (8, 1), inode, build_id)


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


def test_a_deleted_file_is_gone(tmp_path: Path) -> None:
    binary = opened(f"{tmp_path / 'server'} (deleted)", 7)
    assert (binary.image, binary.path, binary.reason) == (None, str(tmp_path / "server"), "the file is gone")


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


DEBUG_SYMBOL = ElfSymbol("from_debug_file", 0x2100, 8)


def name_in_debug_file(binary: Binary, debug_root: Path) -> str | None:
    image = open_debug_file(binary, str(debug_root))
    symbol = SymbolTable(image).find(0x2100) if image is not None else None
    return symbol.linkage_name if symbol else None


def debug_file(build_id: str = "") -> ElfFile:
    return ElfFile(symbols=[DEBUG_SYMBOL], build_id=build_id, is_debug_file=True)


def test_debug_file_by_build_id(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "bin/server", ElfFile(build_id=BUILD_ID)))
    write_elf(tmp_path / f"debug/.build-id/ab/{BUILD_ID[2:]}.debug", debug_file(BUILD_ID))
    assert name_in_debug_file(binary, tmp_path / "debug") == "from_debug_file"


@pytest.mark.parametrize("folder", ["bin", "bin/.debug", "debug{folder}"])
def test_debug_file_by_its_name(tmp_path: Path, folder: str) -> None:
    elf = ElfFile(build_id=BUILD_ID, debuglink=("server.debug", debug_crc(bytes(debug_file(BUILD_ID)))))
    binary = opened(write_elf(tmp_path / "bin/server", elf))
    write_elf(tmp_path / folder.format(folder=f"{tmp_path}/bin") / "server.debug", debug_file(BUILD_ID))
    assert name_in_debug_file(binary, tmp_path / "debug") == "from_debug_file"


def test_no_debug_file(tmp_path: Path) -> None:
    elf = ElfFile(build_id=BUILD_ID, debuglink=("server.debug", 1))
    assert name_in_debug_file(opened(write_elf(tmp_path / "server", elf)), tmp_path) is None
    assert open_debug_file(opened(tmp_path / "missing")) is None


def test_the_debug_file_of_another_build_is_not_taken(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID, debuglink=("server.debug", 1))))
    write_elf(tmp_path / "server.debug", debug_file(OTHER_ID))
    write_elf(tmp_path / f".build-id/ab/{BUILD_ID[2:]}.debug", debug_file(OTHER_ID))
    assert name_in_debug_file(binary, tmp_path) is None


def test_a_debug_file_with_another_checksum_is_not_taken(tmp_path: Path) -> None:
    crc = debug_crc(bytes(debug_file())) ^ 1
    binary = opened(write_elf(tmp_path / "server", ElfFile(debuglink=("server.debug", crc))))
    write_elf(tmp_path / "server.debug", debug_file())
    assert name_in_debug_file(binary, tmp_path) is None


def test_a_debuglink_does_not_lead_out_of_its_folders(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "bin/server", ElfFile(build_id=BUILD_ID, debuglink=("../x.debug", 1))))
    write_elf(tmp_path / "x.debug", debug_file(BUILD_ID))
    assert name_in_debug_file(binary, tmp_path) is None


def test_a_fifo_in_place_of_a_debug_file_does_not_block(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "server", ElfFile(debuglink=("server.debug", 1))))
    os.mkfifo(tmp_path / "server.debug")
    with seconds_at_most(5):
        assert name_in_debug_file(binary, tmp_path) is None
