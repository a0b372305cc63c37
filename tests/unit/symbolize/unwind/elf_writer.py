"""Writes small ELF files with call frame information, for tests: no binaries in the repo."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from symbolize.elf import ElfImage

TEXT, TEXT_SIZE = 0x1000, 0x4000
FRAMES, HEADER = 0x8000, 0x18000
SHT_PROGBITS, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4

RBX, RBP, RSP, R12, RIP = 3, 6, 7, 12, 16


def uleb(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def sleb(value: int) -> bytes:
    written = bytearray()
    while not -64 <= value < 64:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value & 0x7F])


def def_cfa(register: int, offset: int) -> bytes:
    return b"\x0c" + uleb(register) + uleb(offset)


def def_cfa_offset(offset: int) -> bytes:
    return b"\x0e" + uleb(offset)


def def_cfa_register(register: int) -> bytes:
    return b"\x0d" + uleb(register)


def def_cfa_expression(expression: bytes) -> bytes:
    return b"\x0f" + uleb(len(expression)) + expression


def offset(register: int, words_below: int) -> bytes:
    return bytes([0x80 | register]) + uleb(words_below)


def expression(register: int, code: bytes) -> bytes:
    return b"\x10" + uleb(register) + uleb(len(code)) + code


def advance(size: int) -> bytes:
    return bytes([0x40 | size]) if size < 0x40 else b"\x03" + struct.pack("<H", size)


def undefined(register: int) -> bytes:
    return b"\x07" + uleb(register)


def breg(register: int, by: int) -> bytes:
    return bytes([0x70 + register]) + sleb(by)


DEREF = b"\x06"
REMEMBER, RESTORE = b"\x0a", b"\x0b"
USUAL = def_cfa(RSP, 8) + offset(RIP, 1)


@dataclass(frozen=True)
class Function:
    """An FDE to write: its code, its instructions, and what its CIE says."""

    start: int
    size: int
    program: bytes = b""
    signal: bool = False
    encoding: int = 0x1B
    initial: bytes = USUAL


def write_frames(functions: list[Function], address: int = FRAMES) -> tuple[bytes, list[tuple[int, int]]]:
    """A `.eh_frame` at an address, one CIE for each FDE, and each FDE's (start, position)."""
    data, places = bytearray(), []
    for function in functions:
        common = len(data)
        augmentation = b"zRS\0" if function.signal else b"zR\0"
        data += entry(
            b"\1" + augmentation + uleb(1) + sleb(-8) + b"\x10\x01" + bytes([function.encoding]), 0, function.initial
        )
        places.append((function.start, len(data)))
        at = len(data) + 8
        pointer = encode_pointer(function.start, address + at, function.encoding)
        pointer += encode_pointer(function.size, 0, function.encoding & 0x0F)
        data += entry(pointer + b"\0", len(data) + 4 - common, function.program)
    return bytes(data), places


def entry(head: bytes, id_value: int, program: bytes) -> bytes:
    body = struct.pack("<I", id_value) + head + program
    body += bytes(-len(body) % 8 + 4)
    return struct.pack("<I", len(body)) + body


def encode_pointer(value: int, position: int, encoding: int) -> bytes:
    bases = {0x00: 0, 0x10: position, 0x20: TEXT, 0x30: 0}
    relative = value - bases[encoding & 0x70]
    size = {0x0: 8, 0x2: 2, 0x3: 4, 0x4: 8}[encoding & 0x07]
    return (relative % (1 << (8 * size))).to_bytes(size, "little")


def write_header(places: list[tuple[int, int]], address: int = HEADER, frames: int = FRAMES) -> bytes:
    table = b"".join(struct.pack("<ii", start - address, frames + at - address) for start, at in sorted(places))
    return b"\1\x1b\x03\x3b" + struct.pack("<iI", frames - address - 4, len(places)) + table


def write_elf(sections: dict[str, tuple[int, bytes]], text: bytes = b"\x90" * TEXT_SIZE) -> bytes:
    """An ELF file with `.text` and these sections (name -> address, contents), file offset = address."""
    placed = {".text": (TEXT, text), **sections}
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*placed, ".shstrtab"])
    end = max(address + len(content) for address, content in placed.values())
    image = bytearray(end) + names
    for address, content in placed.values():
        image[address : address + len(content)] = content
    image += bytes(-len(image) % 8)
    headers = bytes(64)
    for name, (address, content) in placed.items():
        flags = SHF_ALLOC | (SHF_EXECINSTR if name == ".text" else 0)
        headers += _section_header(names.index(name.encode() + b"\0"), flags, address, len(content))
    headers += struct.pack("<IIQQQQIIQQ", names.index(b".shstrtab"), 3, 0, 0, end, len(names), 0, 0, 1, 0)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    image[:64] = ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, TEXT, 64, len(image), 0, 64, 56, 1, 64, len(placed) + 2, len(placed) + 1
    )
    image[64:120] = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, TEXT + len(text), TEXT + len(text), 0x1000)
    return bytes(image + headers)


def _section_header(name: int, flags: int, address: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, SHT_PROGBITS, flags, address, address, size, 0, 0, 8, 0)


def image_of(functions: list[Function], *, header: bool = True, text: bytes = b"\x90" * TEXT_SIZE) -> ElfImage:
    frames, places = write_frames(functions)
    sections = {".eh_frame": (FRAMES, frames)}
    if header:
        sections[".eh_frame_hdr"] = (HEADER, write_header(places))
    return ElfImage(write_elf(sections, text))
