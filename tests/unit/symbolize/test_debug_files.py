"""A binary's debug file is found where GDB finds it, is the right one, and what is wrong with it is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from symbolize.binaries import Binary
from symbolize.debug_files import NOTES_MOST, DebugFiles
from symbolize.symbols import SymbolTable
from tests.support.elf_writer import ElfFile, ElfSymbol, debug_crc
from tests.unit.symbolize.deadline import seconds_at_most
from tests.unit.symbolize.test_binaries import BUILD_ID, NO_PID, OTHER_ID, opened, write_elf

DEBUG_SYMBOL = ElfSymbol("from_debug_file", 0x2100, 8)
SHARED_ID = "0123" * 10
BY_BUILD_ID = f".build-id/ab/{BUILD_ID[2:]}.debug"
SHARED_BY_BUILD_ID = f".build-id/01/{SHARED_ID[2:]}.debug"


class Servers:
    """In place of `Debuginfod`: has files by build-id, and notes what it is asked for."""

    def __init__(self, files: dict[str, Path] | None = None) -> None:
        self.files = files or {}
        self.asked: list[str] = []

    def find(self, build_id: str, name: str) -> Path | None:
        assert name
        self.asked.append(build_id)
        return self.files.get(build_id)


def files_in(folder: Path, servers: Servers | None = None) -> DebugFiles:
    return DebugFiles((str(folder),), servers)


def name_in(files: DebugFiles, binary: Binary) -> str | None:
    image = files.symbols_of(binary, NO_PID)
    symbol = SymbolTable(image).find(0x2100) if image is not None else None
    return symbol.linkage_name if symbol else None


def name_in_debug_file(binary: Binary, debug_root: Path) -> str | None:
    return name_in(files_in(debug_root), binary)


def notes_on(binary: Binary, debug_root: Path) -> list[str]:
    files = files_in(debug_root)
    assert files.symbols_of(binary, NO_PID) is None
    return list(files.notes())


def debug_file(build_id: str = "", **sections: bytes) -> ElfFile:
    named = {f".{name}": content for name, content in sections.items()}
    return ElfFile(symbols=[DEBUG_SYMBOL], build_id=build_id, is_debug_file=True, extra_sections=named)


def stripped(path: Path, build_id: str = BUILD_ID) -> Binary:
    return opened(write_elf(path, ElfFile(build_id=build_id)))


def test_debug_file_by_build_id(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "bin/server")
    write_elf(tmp_path / "debug" / BY_BUILD_ID, debug_file(BUILD_ID))
    files = files_in(tmp_path / "debug")
    assert name_in(files, binary) == "from_debug_file"
    assert list(files.notes()) == []


@pytest.mark.parametrize("folder", ["bin", "bin/.debug", "debug{folder}"])
def test_debug_file_by_its_name(tmp_path: Path, folder: str) -> None:
    elf = ElfFile(build_id=BUILD_ID, debuglink=("server.debug", debug_crc(bytes(debug_file(BUILD_ID)))))
    binary = opened(write_elf(tmp_path / "bin/server", elf))
    write_elf(tmp_path / folder.format(folder=f"{tmp_path}/bin") / "server.debug", debug_file(BUILD_ID))
    assert name_in_debug_file(binary, tmp_path / "debug") == "from_debug_file"


def test_a_checksum_stands_for_a_build_id_that_is_missing(tmp_path: Path) -> None:
    elf = ElfFile(debuglink=("server.debug", debug_crc(bytes(debug_file()))))
    binary = opened(write_elf(tmp_path / "server", elf))
    write_elf(tmp_path / "server.debug", debug_file())
    assert name_in_debug_file(binary, tmp_path / "debug") == "from_debug_file"


def test_the_first_folder_wins(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "server")
    for number in (1, 2):
        elf = ElfFile(symbols=[ElfSymbol(f"of_folder_{number}", 0x2100, 8)], build_id=BUILD_ID)
        write_elf(tmp_path / str(number) / BY_BUILD_ID, elf)
    assert name_in(DebugFiles((f"{tmp_path}/2", f"{tmp_path}/1")), binary) == "of_folder_2"


def test_no_debug_file(tmp_path: Path) -> None:
    elf = ElfFile(build_id=BUILD_ID, debuglink=("server.debug", 1))
    assert notes_on(opened(write_elf(tmp_path / "server", elf)), tmp_path) == []
    assert notes_on(opened(tmp_path / "missing"), tmp_path) == []


def test_none_is_looked_for_where_none_is_needed(tmp_path: Path) -> None:
    own = debug_file(BUILD_ID, debug_info=b"\0" * 16)
    elf = ElfFile(symbols=own.symbols, build_id=BUILD_ID, extra_sections=own.extra_sections)
    binary = opened(write_elf(tmp_path / "server", elf))
    write_elf(tmp_path / BY_BUILD_ID, debug_file(BUILD_ID))
    servers = Servers()
    files = files_in(tmp_path, servers)
    assert files.symbols_of(binary, NO_PID) is None
    assert servers.asked == []
    assert not files.may_come_later(binary)
    info = files.debug_info_of(binary, NO_PID)
    assert info is not None
    assert (info.path, info.image, info.supplementary) == (str(tmp_path / "server"), binary.image, None)


def test_the_debug_file_of_another_build_is_not_taken(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "server", ElfFile(build_id=BUILD_ID, debuglink=("server.debug", 1))))
    for place in ("server.debug", BY_BUILD_ID):
        write_elf(tmp_path / place, debug_file(OTHER_ID))
    assert sorted(notes_on(binary, tmp_path)) == sorted(
        f"{tmp_path}/{place} is not used for {tmp_path}/server: its build-id differs."
        for place in ("server.debug", BY_BUILD_ID)
    )


def test_a_debug_file_with_another_checksum_is_not_taken(tmp_path: Path) -> None:
    crc = debug_crc(bytes(debug_file())) ^ 1
    binary = opened(write_elf(tmp_path / "server", ElfFile(debuglink=("server.debug", crc))))
    write_elf(tmp_path / "server.debug", debug_file())
    assert notes_on(binary, tmp_path) == [
        f"{tmp_path}/server.debug is not used for {tmp_path}/server: its checksum differs."
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"debug symbols\n" * 100, "not an ELF file"),
        (bytes(debug_file(BUILD_ID))[:100], "damaged ELF headers"),
    ],
)
def test_a_damaged_debug_file_is_not_taken(tmp_path: Path, content: bytes, reason: str) -> None:
    binary = stripped(tmp_path / "server")
    path = tmp_path / BY_BUILD_ID
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (note,) = notes_on(binary, tmp_path)
    assert note.startswith(f"{path} is not used for {tmp_path}/server: {reason}")


def test_a_damaged_one_does_not_hide_a_good_one(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "server")
    write_elf(tmp_path / "1" / BY_BUILD_ID, debug_file(OTHER_ID))
    write_elf(tmp_path / "2" / BY_BUILD_ID, debug_file(BUILD_ID))
    files = DebugFiles((f"{tmp_path}/1", f"{tmp_path}/2"))
    assert name_in(files, binary) == "from_debug_file"
    assert len(list(files.notes())) == 1


def test_many_notes_are_summed_up(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(NOTES_MOST + 3)]
    for folder in folders:
        write_elf(folder / BY_BUILD_ID, debug_file(OTHER_ID))
    files = DebugFiles(tuple(map(str, folders)))
    assert files.symbols_of(stripped(tmp_path / "server"), NO_PID) is None
    notes = list(files.notes())
    assert len(notes) == NOTES_MOST + 1
    assert notes[-1] == "3 more debug files couldn't be used."


def test_a_debuglink_does_not_lead_out_of_its_folders(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "bin/server", ElfFile(build_id=BUILD_ID, debuglink=("../x.debug", 1))))
    write_elf(tmp_path / "x.debug", debug_file(BUILD_ID))
    assert name_in_debug_file(binary, tmp_path) is None


def test_a_fifo_in_place_of_a_debug_file_does_not_block(tmp_path: Path) -> None:
    binary = opened(write_elf(tmp_path / "server", ElfFile(debuglink=("server.debug", 1))))
    os.mkfifo(tmp_path / "server.debug")
    with seconds_at_most(5):
        (note,) = notes_on(binary, tmp_path)
    assert "not a regular file" in note


def test_a_binary_is_not_its_own_debug_file(tmp_path: Path) -> None:
    """Neither by a link with its own name, nor where a distribution links its build-id to itself."""
    elf = ElfFile(symbols=[DEBUG_SYMBOL], build_id=BUILD_ID, debuglink=("server", 1))
    binary = opened(write_elf(tmp_path / "server", elf))
    link = tmp_path / BY_BUILD_ID
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "server")
    assert notes_on(binary, tmp_path) == []


def test_a_link_to_itself_is_noted(tmp_path: Path) -> None:
    link = tmp_path / BY_BUILD_ID
    link.parent.mkdir(parents=True)
    link.symlink_to(link)
    (note,) = notes_on(stripped(tmp_path / "server"), tmp_path)
    assert "symbolic links" in note


def test_a_link_section_of_any_size_and_content_does_no_harm(tmp_path: Path) -> None:
    for content in (b"", b"\0", b"x", b"\0\0\0\0", b"\xff" * 10, b"." * 100_000, b"..\0\0\0\0\0\0"):
        elf = ElfFile(extra_sections={".gnu_debuglink": content})
        files = files_in(tmp_path)
        assert files.symbols_of(opened(write_elf(tmp_path / "server", elf)), NO_PID) is None
        assert all(len(note) < 10_000 for note in files.notes())


CHANGES: list[Callable[[Path], object]] = [
    lambda path: write_elf(path, debug_file(OTHER_ID)),
    lambda path: write_elf(path.with_name("new"), debug_file(BUILD_ID)).rename(path),
    lambda path: os.utime(path, ns=(1, 1)),
    lambda path: path.write_bytes(b"longer or shorter"),
    lambda path: path.unlink(),
]
"""Installs, replaces, touches, overwrites and removes a file."""


@pytest.mark.parametrize("place", [f"debug/{BY_BUILD_ID}", "bin/server.debug", "bin/.debug/server.debug"])
def test_the_identity_changes_with_every_debug_file_that_comes_or_goes(tmp_path: Path, place: str) -> None:
    elf = ElfFile(build_id=BUILD_ID, debuglink=("server.debug", 1))
    binary = opened(write_elf(tmp_path / "bin/server", elf))
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = [files_in(tmp_path / "debug").identity(binary, NO_PID)]
    for change in CHANGES:
        change(path)
        seen.append(files_in(tmp_path / "debug").identity(binary, NO_PID))
    assert seen[-1] == seen[0]
    assert len(set(seen)) == len(CHANGES)
    assert files_in(tmp_path / "debug").identity(binary, NO_PID) == seen[0]


def test_the_identity_differs_with_servers(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "server")
    asked = files_in(tmp_path, Servers()).identity(binary, NO_PID)
    assert files_in(tmp_path).identity(binary, NO_PID) != asked
    assert files_in(tmp_path).identity(opened(tmp_path / "gone"), NO_PID) == ""


def test_servers_are_asked_last(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "server")
    servers = Servers({BUILD_ID: write_elf(tmp_path / "downloaded", debug_file(BUILD_ID))})
    files = files_in(tmp_path / "debug", servers)
    assert name_in(files, binary) == "from_debug_file"
    assert not files.may_come_later(binary)
    assert servers.asked == [BUILD_ID]
    write_elf(tmp_path / "debug" / BY_BUILD_ID, debug_file(BUILD_ID))
    assert name_in(files_in(tmp_path / "debug", servers), binary) == "from_debug_file"
    assert servers.asked == [BUILD_ID]


def test_what_servers_do_not_have_may_come_later(tmp_path: Path) -> None:
    binary = stripped(tmp_path / "server")
    files = files_in(tmp_path, Servers())
    assert name_in(files, binary) is None
    assert files.may_come_later(binary)
    alone = files_in(tmp_path)
    assert name_in(alone, binary) is None
    assert not alone.may_come_later(binary)


def test_what_was_downloaded_and_is_gone_since_is_no_debug_file(tmp_path: Path) -> None:
    servers = Servers({BUILD_ID: tmp_path / "gone"})
    assert name_in(files_in(tmp_path, servers), stripped(tmp_path / "server")) is None


def shared_link(path: str) -> bytes:
    return path.encode() + b"\0" + bytes.fromhex(SHARED_ID)


@pytest.mark.parametrize("place", ["beside", "absolute", "below", SHARED_BY_BUILD_ID])
def test_the_supplementary_file(tmp_path: Path, place: str) -> None:
    """By a path from the debug file, by a whole one, or by its build-id, wherever its path leads."""
    path = {
        "beside": "shared.debug",
        "absolute": f"{tmp_path}/elsewhere/shared.debug",
        "below": "../../.dwz/shared.debug",
        SHARED_BY_BUILD_ID: "/nowhere/shared.debug",
    }[place]
    shared = write_elf(
        tmp_path / SHARED_BY_BUILD_ID if place == SHARED_BY_BUILD_ID else tmp_path / ".build-id/ab" / path,
        debug_file(SHARED_ID),
    )
    write_elf(tmp_path / BY_BUILD_ID, debug_file(BUILD_ID, debug_info=b"\0" * 16, gnu_debugaltlink=shared_link(path)))
    files = files_in(tmp_path)
    info = files.debug_info_of(stripped(tmp_path / "server"), NO_PID)
    assert info is not None
    assert info.path == str(tmp_path / BY_BUILD_ID)
    assert info.supplementary is not None
    assert os.path.samefile(info.supplementary.path, shared)
    assert list(files.notes()) == []


def test_a_relative_path_counts_from_where_the_debug_file_really_is(tmp_path: Path) -> None:
    real = tmp_path / "real/server.debug"
    write_elf(real, debug_file(BUILD_ID, debug_info=b"\0" * 16, gnu_debugaltlink=shared_link("shared.debug")))
    write_elf(tmp_path / "real/shared.debug", debug_file(SHARED_ID))
    link = tmp_path / BY_BUILD_ID
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    info = files_in(tmp_path).debug_info_of(stripped(tmp_path / "server"), NO_PID)
    assert info is not None
    assert info.supplementary is not None


@pytest.mark.parametrize("build_id", ["", OTHER_ID])
def test_a_missing_supplementary_file_is_noted(tmp_path: Path, build_id: str) -> None:
    """One of another build counts as missing. The rest of the debug file is of use all the same."""
    link = shared_link("shared.debug")
    write_elf(tmp_path / BY_BUILD_ID, debug_file(BUILD_ID, debug_info=b"\0" * 16, gnu_debugaltlink=link))
    if build_id:
        write_elf((tmp_path / BY_BUILD_ID).with_name("shared.debug"), debug_file(build_id))
    binary = stripped(tmp_path / "server")
    files = files_in(tmp_path)
    info = files.debug_info_of(binary, NO_PID)
    assert info is not None
    assert info.supplementary is None
    (note,) = files.notes()
    assert note.startswith(f"{tmp_path / BY_BUILD_ID} needs {(tmp_path / BY_BUILD_ID).parent}/shared.debug, which")
    assert files.may_come_later(binary)


def test_a_supplementary_file_is_asked_for_at_servers(tmp_path: Path) -> None:
    link = shared_link("/nowhere/shared.debug")
    write_elf(tmp_path / BY_BUILD_ID, debug_file(BUILD_ID, debug_info=b"\0" * 16, gnu_debugaltlink=link))
    servers = Servers({SHARED_ID: write_elf(tmp_path / "downloaded", debug_file(SHARED_ID))})
    files = files_in(tmp_path, servers)
    info = files.debug_info_of(stripped(tmp_path / "server"), NO_PID)
    assert info is not None
    assert info.supplementary is not None
    assert servers.asked == [SHARED_ID]


@pytest.mark.parametrize("link", [b"\0", b"\0\0\0", b"shared", b"\xff\xff\0\1", b"x" * 1_000_000, b"/\0\1"])
def test_a_damaged_link_to_a_supplementary_file_is_a_note(tmp_path: Path, link: bytes) -> None:
    write_elf(tmp_path / BY_BUILD_ID, debug_file(BUILD_ID, debug_info=b"\0" * 16, gnu_debugaltlink=link))
    files = files_in(tmp_path)
    info = files.debug_info_of(stripped(tmp_path / "server"), NO_PID)
    assert info is not None
    assert info.supplementary is None
    (note,) = files.notes()
    assert len(note) < 10_000
