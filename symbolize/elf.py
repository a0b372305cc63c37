"""An ELF file as the other modules of `symbolize` need it: sections, segments, build-id, bytes.

pyelftools reads the headers; tables with many rows are read in bulk elsewhere.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import IO, Any, cast

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

PF_X = 1
NT_GNU_BUILD_ID = 3
SHF_EXECINSTR = 4
SHF_COMPRESSED = 0x800
NOTE_BYTES_MOST = 1 << 16
ENTRIES_MOST = 1 << 16
NAMES_BYTES_MOST = 1 << 24
CHECKSUM_BYTES = 1 << 20

_HEADER_ERRORS = (
    *(ELFError, ValueError, OverflowError, UnicodeError),
    *(AttributeError, KeyError, TypeError, IndexError),
)


class ElfProblem(Exception):
    """A file is not ELF or damaged; the message says how. Its frames stay unnamed for that reason."""


class NotElf(ElfProblem):
    """Something else than an ELF file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD segment: what the loader maps. `elf_address` is its address as linked."""

    file_offset: int
    elf_address: int
    file_size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A section and where its bytes are."""

    name: str
    index: int
    elf_address: int
    file_offset: int
    size: int
    is_executable: bool
    is_compressed: bool
    """SHF_COMPRESSED: a header that says how, then the bytes."""
    has_bytes: bool
    """False for `.bss` and, in a debug file, for all that stayed in the binary."""


def open_regular(path: str) -> IO[bytes]:
    """Opens a file for reading. Raises `OSError`, and `ElfProblem` for all but regular files.

    Not blocking: the path comes from outside and may be a FIFO by now.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ElfProblem("not a regular file")
    return open(descriptor, "rb")


class ElfImage:
    """One ELF file (or one from memory, such as the vdso), read-only.

    Files are read, not mapped: one that is cut off meanwhile would end us by SIGBUS.
    """

    def __init__(self, source: bytes | IO[bytes], path: str = "") -> None:
        """Raises `ElfProblem` when `source` isn't a 64-bit little-endian ELF image, and `OSError`.

        `entry` is where a program begins, as linked; 0 in a library. `path` is where the file was opened.
        """
        self._source = source
        self.path = path
        self._size = len(source) if isinstance(source, bytes) else os.fstat(source.fileno()).st_size
        if self.read(0, 4) != b"\x7fELF":
            raise NotElf("not an ELF file" if self._size else "an empty file")
        try:
            elf = ELFFile(io.BytesIO(source) if isinstance(source, bytes) else source)
            if elf.elfclass != 64 or not elf.little_endian:
                raise ElfProblem("not a 64-bit little-endian ELF file")
            _check_tables(elf)
            self.entry: int = elf["e_entry"]
            self.segments = tuple(_segments(elf))
            self._notes = [(header["p_offset"], header["p_filesz"]) for header in _program_headers(elf, "PT_NOTE")]
            self.sections = {section.name: section for section in self._read_sections(elf)}
        except _HEADER_ERRORS as error:
            # pyelftools lets the errors of its parts through when a header holds nonsense.
            raise ElfProblem(f"damaged ELF headers ({error or type(error).__name__})") from error
        self.build_id = self._read_build_id()

    @classmethod
    def open(cls, path: str) -> ElfImage:
        """Opens the file at a path. Raises `OSError` or `ElfProblem`."""
        return cls(open_regular(path), path)

    @property
    def descriptor(self) -> int | None:
        """The open file; None for an image from memory."""
        return None if isinstance(self._source, bytes) else self._source.fileno()

    def is_same_file(self, other: ElfImage) -> bool:
        """Whether both are one file, under whatever paths."""
        ours, theirs = self.descriptor, other.descriptor
        return ours is not None and theirs is not None and os.path.sameopenfile(ours, theirs)

    def read(self, file_offset: int, size: int) -> bytes:
        """Some bytes of the file; fewer where it ends, or where the disk or the memory doesn't give more.

        Nothing here trusts a file to be whole; one that can't be read is as one that is cut off.
        """
        size = max(0, min(size, self._size - file_offset))
        if isinstance(self._source, bytes):
            return self._source[file_offset : file_offset + size]
        try:
            return os.pread(self._source.fileno(), size, file_offset) if size else b""
        except (OSError, MemoryError, OverflowError):
            return b""

    def data(self, section: Section) -> memoryview:
        """The bytes of a section, cut off where the file ends."""
        return memoryview(self.read(section.file_offset, section.size) if section.has_bytes else b"")

    def checksum(self) -> int:
        """The CRC-32 of the whole file, as `.gnu_debuglink` has it."""
        checksum = 0
        for offset in range(0, self._size, CHECKSUM_BYTES):
            checksum = zlib.crc32(self.read(offset, CHECKSUM_BYTES), checksum)
        return checksum

    def segment_address(self, file_offset: int) -> int:
        """The address as linked that belongs to a place in the file, also just before or behind a segment.

        Mappings begin at a page's border, which may lie before the segment that they are for.
        """
        executable = [segment for segment in self.segments if segment.executable] or self.segments
        for segment in executable:
            if file_offset < segment.file_offset + segment.file_size:
                break
        else:
            if not executable:
                return file_offset
            segment = executable[-1]
        return file_offset - segment.file_offset + segment.elf_address

    def _read_build_id(self) -> str:
        """From its own section, or from any note that is loaded (debug files keep only the section)."""
        section = self.sections.get(".note.gnu.build-id")
        places = [(section.file_offset, section.size)] if section is not None else []
        notes = (self.read(offset, min(size, NOTE_BYTES_MOST)) for offset, size in [*places, *self._notes])
        return next((found for note in notes if (found := _build_id(note))), "")

    def _read_sections(self, elf: ELFFile) -> list[Section]:
        # Not by iter_sections(), which reads whole hash tables on its way.
        headers = [
            _header(elf, elf.structs.Elf_Shdr, elf["e_shoff"] + index * elf["e_shentsize"])
            for index in range(elf.num_sections())
        ]
        if not headers:
            return []
        strings = headers[elf.get_shstrndx()]
        names = self.read(strings["sh_offset"], min(strings["sh_size"], NAMES_BYTES_MOST))
        return [_section(header, index, names) for index, header in enumerate(headers)]


def _build_id(notes: bytes) -> str:
    """The build-id among notes (gABI, "Note Section"): sizes of name and content, type, name, content."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        name_at = at + 12
        content_at = name_at + (name_size + 3) // 4 * 4
        if kind == NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[content_at : content_at + size].hex()
        at = content_at + (size + 3) // 4 * 4
    return ""


def _check_tables(elf: ELFFile) -> None:
    """A damaged header may claim any number of entries, of any size."""
    if elf.num_sections() > ENTRIES_MOST or elf.num_segments() > ENTRIES_MOST:
        raise ElfProblem("damaged ELF headers (too many entries)")
    if (elf.num_sections() and elf["e_shentsize"] < 64) or (elf.num_segments() and elf["e_phentsize"] < 56):
        raise ElfProblem("damaged ELF headers (entries too small)")


def _program_headers(elf: ELFFile, kind: str) -> list[dict[str, Any]]:
    places = [elf["e_phoff"] + index * elf["e_phentsize"] for index in range(elf.num_segments())]
    headers = [_header(elf, elf.structs.Elf_Phdr, place) for place in places]
    return [header for header in headers if header["p_type"] == kind]


def _segments(elf: ELFFile) -> list[Segment]:
    return [
        Segment(header["p_offset"], header["p_vaddr"], header["p_filesz"], bool(header["p_flags"] & PF_X))
        for header in _program_headers(elf, "PT_LOAD")
    ]


def _section(header: dict[str, Any], index: int, names: bytes) -> Section:
    end = names.find(b"\0", header["sh_name"])
    return Section(
        name=os.fsdecode(names[header["sh_name"] : end]),
        index=index,
        elf_address=header["sh_addr"],
        file_offset=header["sh_offset"],
        size=header["sh_size"],
        is_executable=bool(header["sh_flags"] & SHF_EXECINSTR),
        is_compressed=bool(header["sh_flags"] & SHF_COMPRESSED),
        has_bytes=header["sh_type"] != "SHT_NOBITS",
    )


def _header(elf: ELFFile, structure: Any, file_offset: int) -> dict[str, Any]:
    return cast("dict[str, Any]", struct_parse(structure, elf.stream, file_offset))
