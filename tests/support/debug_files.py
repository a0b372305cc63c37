"""Other forms of a program's debug info, made with binutils and dwz: split off, compressed, shared."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.needs import CannotTest, find_program

SHARED = "shared.debug"
PAGE_BYTES = 4096
SH_OFFSET = 24
"""Of the offset within a section's header."""
CH_SIZE = 8
"""Of the size within a compressed section's own header."""


def build_id_of(program: Path) -> str:
    """A file's build-id, in hex. Raises ValueError where it has none."""
    found = re.search(r"Build ID: ([0-9a-f]+)", _run("readelf", "--notes", str(program)))
    if found is None:
        raise ValueError(f"{program} has no build-id")
    return found.group(1)


def build_id_path(folder: Path, build_id: str) -> Path:
    """Where a folder of debug files keeps that of a build-id (GDB manual, "Separate Debug Files")."""
    return folder / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"


def split_debug(program: Path, stripped: Path, debug: Path, *, link: bool) -> None:
    """Write `program` without debug info to `stripped`, which keeps its symbols, and what is not code to `debug`.

    With `link`, `stripped` names `debug` in its `.gnu_debuglink`, without its folder.
    """
    debug.parent.mkdir(parents=True, exist_ok=True)
    _run("objcopy", "--only-keep-debug", str(program), str(debug))
    options = [f"--add-gnu-debuglink={debug}"] if link else []
    _run("objcopy", "--strip-debug", *options, str(program), str(stripped))


def compress_debug(program: Path, compressed: Path, method: str) -> None:
    """Write `program` to `compressed` with its debug sections so: `zlib`, `zlib-gnu`, `zstd` or `none`.

    Raises CannotTest where this objcopy doesn't know the method (zstd: binutils 2.40 and later).
    """
    command = [str(find_program("objcopy")), f"--compress-debug-sections={method}", str(program), str(compressed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotTest(f"objcopy doesn't compress with {method}: {done.stderr.strip()}")


def share_debug(programs: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of `programs` in `folder`, whose debug info keeps what they have in common in `folder/shared.debug`."""
    copies = [
        Path(shutil.copy2(program, folder / f"{number}-{program.name}")) for number, program in enumerate(programs)
    ]
    _run("dwz", "-m", SHARED, "-r", *(copy.name for copy in copies), cwd=folder)
    return copies


def function_ranges(program: Path) -> dict[str, tuple[int, int]]:
    """The first address as linked and the size of each function in a file's symbol table."""
    rows = [line.split() for line in _run("nm", "--defined-only", "--print-size", str(program)).splitlines()]
    return {row[3]: (int(row[0], 16), int(row[1], 16)) for row in rows if len(row) == 4 and row[2] in "tTwW"}


def code_segments(program: Path) -> list[tuple[int, int, int]]:
    """The file offset, the address as linked and the size of each executable segment, in whole pages as mapped."""
    rows = re.findall(
        r"^ *LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ .*E", _run("readelf", "-lW", str(program)), re.MULTILINE
    )
    segments = [(int(offset, 16), int(address, 16), int(size, 16)) for offset, address, size in rows]
    return [
        (offset & -PAGE_BYTES, address & -PAGE_BYTES, (address % PAGE_BYTES + size + PAGE_BYTES - 1) & -PAGE_BYTES)
        for offset, address, size in segments
    ]


def move_section(file: Path, section: str, offset: int) -> None:
    """Let a section's header say that the section begins at `offset` of the file; in place."""
    content = bytearray(file.read_bytes())
    struct.pack_into("<Q", content, _header(content, section) + SH_OFFSET, offset)
    file.write_bytes(content)


def claim_size(file: Path, section: str, size: int) -> None:
    """Let a compressed section say that it has `size` bytes when decompressed (elf(5), Elf64_Chdr); in place."""
    content = bytearray(file.read_bytes())
    (start,) = struct.unpack_from("<Q", content, _header(content, section) + SH_OFFSET)
    struct.pack_into("<Q", content, start + CH_SIZE, size)
    file.write_bytes(content)


def _header(content: bytes | bytearray, section: str) -> int:
    """Where the header of a section stands in a 64-bit ELF file (elf(5), Elf64_Ehdr and Elf64_Shdr)."""
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", content, 0x3A)
    (names,) = struct.unpack_from("<Q", content, table + names_index * size + SH_OFFSET)
    for header in range(table, table + count * size, size):
        (name,) = struct.unpack_from("<I", content, header)
        if content.startswith(section.encode() + b"\0", names + name):
            return header
    raise ValueError(f"no section {section}")


def _run(tool: str, *arguments: str, cwd: Path | None = None) -> str:
    command = [str(find_program(tool)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
