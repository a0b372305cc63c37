"""The headers of a 64-bit little-endian ELF file (gABI, "ELF Header", "Section Header" and "Program Header").

Read with `struct`, each table at once: a profile of one server needs those of twenty files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

PT_LOAD, PT_NOTE = 1, 4
SHT_NOBITS = 8
ENTRIES_MOST = 1 << 16
_CLASS_64, _LITTLE_ENDIAN = 2, 1
# From e_type on; what stands before is e_ident, of which the class and the byte order matter here.
_ELF_HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
# Numbers that have no room in the header stand in the first section's (gABI, e_shnum, e_phnum and e_shstrndx).
_PN_XNUM = _SHN_XINDEX = 0xFFFF

Read = Callable[[int, int], bytes]
"""Reads so many bytes at an offset of the file; fewer where it ends."""


class DamagedHeaders(Exception):
    """The headers contradict themselves or the file; the message says how."""


class ProgramHeader(NamedTuple):
    """An entry of the program header table, by the names of the gABI without their prefix."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class SectionHeader(NamedTuple):
    """An entry of the section header table, by the names of the gABI without their prefix."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


@dataclass(frozen=True, slots=True)
class ElfHeaders:
    """What the headers say. `names_section` is the index of the section that holds the sections' names."""

    entry: int
    segments: list[ProgramHeader]
    sections: list[SectionHeader]
    names_section: int


def read_headers(read: Read) -> ElfHeaders | None:
    """The headers; None for another class or byte order. Raises `DamagedHeaders`."""
    content = read(0, _ELF_HEADER.size)
    if len(content) < _ELF_HEADER.size:
        raise DamagedHeaders("cut off")
    (_, elf_class, order, _, _, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx) = (
        _ELF_HEADER.unpack(content)
    )
    if (elf_class, order) != (_CLASS_64, _LITTLE_ENDIAN):
        return None
    if shoff and (not shnum or phnum == _PN_XNUM or shstrndx == _SHN_XINDEX):
        _, _, _, _, _, size, link, info, _, _ = _table(read, _SECTION_HEADER, shoff, 1, shentsize)[0]
        shnum = shnum or size
        phnum = info if phnum == _PN_XNUM else phnum
        shstrndx = link if shstrndx == _SHN_XINDEX else shstrndx
    return ElfHeaders(
        entry,
        [ProgramHeader(*row) for row in _table(read, _PROGRAM_HEADER, phoff, phnum, phentsize)],
        [SectionHeader(*row) for row in _table(read, _SECTION_HEADER, shoff, shnum if shoff else 0, shentsize)],
        shstrndx,
    )


def _table(read: Read, entry: struct.Struct, offset: int, count: int, entry_size: int) -> list[tuple[int, ...]]:
    """The rows of a table. A damaged header may claim any number of entries, of any size."""
    if not count:
        return []
    if count > ENTRIES_MOST:
        raise DamagedHeaders("too many entries")
    if entry_size != entry.size:
        raise DamagedHeaders("entries of another size")
    content = read(offset, count * entry.size)
    if len(content) < count * entry.size:
        raise DamagedHeaders("cut off")
    return list(entry.iter_unpack(content))
