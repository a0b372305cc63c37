"""Writes small ELF files for x86-64, so that tests need no binaries: the layout is that of elf(5).

There is no code in them, only what says where code would be: segments, sections, symbols, notes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
TEXT, DATA = 1, 2
"""The numbers of the sections `.text` and `.data`."""
PF_X, PF_W, PF_R = 1, 2, 4

_ET_EXEC, _ET_DYN, _EM_X86_64 = 2, 3, 62
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOTE, _SHT_NOBITS, _SHT_DYNSYM = 1, 2, 3, 7, 8, 11
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_PT_LOAD, _PT_NOTE = 1, 4
_EHDR_BYTES, _PHDR_BYTES, _SHDR_BYTES = 64, 56, 64
_NT_GNU_BUILD_ID = 3


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """A row of a symbol table."""

    name: str | bytes
    value: int
    size: int = 0
    kind: int = STT_FUNC
    binding: int = STB_GLOBAL
    section: int = TEXT


@dataclass(frozen=True, slots=True)
class ElfSegment:
    """A PT_LOAD segment."""

    file_offset: int
    elf_address: int
    size: int
    flags: int = PF_R | PF_X


@dataclass(frozen=True, slots=True)
class ElfFile:
    """What is in the file; `bytes(...)` of it writes it.

    `.text` is `text_size` bytes at `text_offset` of the file and `text_address` as linked; `.data` follows
    in memory. Without `segments` there is one for each of the two.
    """

    symbols: Sequence[ElfSymbol] = ()
    dynamic_symbols: Sequence[ElfSymbol] = ()
    is_pie: bool = True
    text_address: int = 0x2000
    text_offset: int = 0x1000
    text_size: int = 0x1000
    data_address: int = 0x8000
    data_size: int = 0x100
    segments: Sequence[ElfSegment] | None = None
    build_id: str = ""
    build_id_section: str = ".note.gnu.build-id"
    debuglink: tuple[str, int] | None = None
    """The debug file's name and its CRC; see `debug_crc`."""
    extra_sections: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Sections that nothing is known of here, and their bytes."""
    is_debug_file: bool = False
    """As `objcopy --only-keep-debug` makes it: `.text` and `.data` have addresses and sizes but no bytes."""

    def __bytes__(self) -> bytes:
        return _Writer(self).content()


def debug_crc(content: bytes) -> int:
    """The checksum of a debug file that stands in `.gnu_debuglink`: that of zlib."""
    return zlib.crc32(content)


def build_id_note(build_id: str) -> bytes:
    """The note NT_GNU_BUILD_ID."""
    payload = bytes.fromhex(build_id)
    return struct.pack("<III4s", 4, len(payload), _NT_GNU_BUILD_ID, b"GNU\0") + payload


class _Writer:
    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._names = bytearray(b"\0")
        self._headers = [bytes(_SHDR_BYTES)]
        self._body = bytearray(elf.text_offset + (0 if elf.is_debug_file else elf.text_size))
        self._note_at = 0
        self._add_code()
        if elf.build_id:
            self._note_at = len(self._body)
            self._add(elf.build_id_section, _SHT_NOTE, build_id_note(elf.build_id))
        if elf.debuglink:
            name, crc = elf.debuglink
            field = name.encode() + b"\0"
            self._add(".gnu_debuglink", _SHT_PROGBITS, field + bytes(-len(field) % 4) + struct.pack("<I", crc))
        for section, content in elf.extra_sections.items():
            self._add(section, _SHT_PROGBITS, content)
        if elf.symbols:
            self._add_symbols(".symtab", _SHT_SYMTAB, ".strtab", elf.symbols)
        if elf.dynamic_symbols:
            self._add_symbols(".dynsym", _SHT_DYNSYM, ".dynstr", elf.dynamic_symbols)

    def content(self) -> bytes:
        strings_index = len(self._headers)
        self._name(".shstrtab")
        self._add(".shstrtab", _SHT_STRTAB, bytes(self._names))
        self._align()
        segments = self._program_headers()
        elf_header = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            _ET_DYN if self._elf.is_pie else _ET_EXEC,
            _EM_X86_64,
            1,
            self._elf.text_address,
            _EHDR_BYTES,
            len(self._body),
            0,
            _EHDR_BYTES,
            _PHDR_BYTES,
            len(segments),
            _SHDR_BYTES,
            len(self._headers),
            strings_index,
        )
        front = elf_header + b"".join(segments)
        assert len(front) <= self._elf.text_offset, "text_offset leaves no room for the headers"
        self._body[: len(front)] = front
        return bytes(self._body) + b"".join(self._headers)

    def _program_headers(self) -> list[bytes]:
        elf = self._elf
        loads = elf.segments
        if loads is None:
            loads = (
                ElfSegment(elf.text_offset, elf.text_address, elf.text_size),
                ElfSegment(elf.text_offset + elf.text_size, elf.data_address, elf.data_size, PF_R | PF_W),
            )
        headers = [
            _program_header(_PT_LOAD, load.flags, load.file_offset, load.elf_address, load.size) for load in loads
        ]
        if self._note_at:
            note_bytes = len(build_id_note(elf.build_id))
            headers.append(_program_header(_PT_NOTE, PF_R, self._note_at, self._note_at, note_bytes))
        return headers

    def _add_code(self) -> None:
        elf = self._elf
        kind = _SHT_NOBITS if elf.is_debug_file else _SHT_PROGBITS
        for name, flags, address, offset, size in (
            (".text", _SHF_ALLOC | _SHF_EXECINSTR, elf.text_address, elf.text_offset, elf.text_size),
            (".data", _SHF_ALLOC | _SHF_WRITE, elf.data_address, elf.text_offset + elf.text_size, elf.data_size),
        ):
            self._headers.append(
                struct.pack("<IIQQQQIIQQ", self._name(name), kind, flags, address, offset, size, 0, 0, 16, 0)
            )
        if not elf.is_debug_file:
            self._body += bytes(elf.data_size)

    def _add_symbols(self, name: str, kind: int, strings_name: str, symbols: Sequence[ElfSymbol]) -> None:
        strings = bytearray(b"\0")
        rows = bytearray(24)
        for symbol in symbols:
            text = symbol.name.encode() if isinstance(symbol.name, str) else symbol.name
            info = symbol.binding << 4 | symbol.kind
            rows += struct.pack(
                "<IBBHQQ", len(strings) if text else 0, info, 0, symbol.section, symbol.value, symbol.size
            )
            strings += text + b"\0"
        self._add(name, kind, bytes(rows), link=len(self._headers) + 1, entry_size=24)
        self._add(strings_name, _SHT_STRTAB, bytes(strings))

    def _add(self, name: str, kind: int, content: bytes, link: int = 0, entry_size: int = 0) -> None:
        self._align()
        self._headers.append(
            struct.pack(
                "<IIQQQQIIQQ", self._name(name), kind, 0, 0, len(self._body), len(content), link, 0, 8, entry_size
            )
        )
        self._body += content

    def _name(self, name: str) -> int:
        field = name.encode() + b"\0"
        at = self._names.find(b"\0" + field)
        if at >= 0:
            return at + 1
        self._names += field
        return len(self._names) - len(field)

    def _align(self) -> None:
        self._body += bytes(-len(self._body) % 8)


def _program_header(kind: int, flags: int, offset: int, address: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 0x1000)
