"""Numbers as DWARF writes them: LEB128 (DWARF 5, 7.6) and encoded pointers (LSB 5.0, 10.5.1).

Every reader takes bytes and a position and gives the value and the position behind it; whatever does
not fit raises `BadUnwindData`, which never leaves this package.
"""

from __future__ import annotations

from dataclasses import dataclass

ADDRESS_MASK = (1 << 64) - 1
USER_ADDRESS_END = 1 << 47
"""The first address that no x86-64 process with 4-level page tables has (Linux: TASK_SIZE_MAX)."""

_LONGEST_LEB128 = 10

DW_EH_PE_ABSPTR = 0x00
DW_EH_PE_OMIT = 0xFF
_DW_EH_PE_ULEB128 = 0x01
_DW_EH_PE_SLEB128 = 0x09
_DW_EH_PE_ALIGNED = 0x50
_DW_EH_PE_INDIRECT = 0x80
_FIXED_FORMATS = {0x0: (8, False), 0x2: (2, False), 0x3: (4, False), 0x4: (8, False)} | {
    0x8: (8, True),
    0xA: (2, True),
    0xB: (4, True),
    0xC: (8, True),
}
"""The lower half of an encoding -> (size in bytes, signed)."""


class BadUnwindData(Exception):
    """Unwind data that can't be read; its addresses have no rules."""


@dataclass(frozen=True, slots=True)
class PointerBases:
    """What encoded pointers count from: the ELF addresses of their section, of `.text` and of the data base."""

    section: int
    text: int = 0
    data: int = 0


def read_fixed(data: bytes | memoryview, position: int, size: int, *, signed: bool = False) -> tuple[int, int]:
    """A little-endian number of `size` bytes."""
    end = position + size
    if position < 0 or end > len(data):
        raise BadUnwindData("a number runs past its section")
    return int.from_bytes(data[position:end], "little", signed=signed), end


def read_uleb128(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most ten bytes."""
    value = shift = 0
    for at in range(position, min(position + _LONGEST_LEB128, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise BadUnwindData("a LEB128 number doesn't end")


def read_sleb128(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A signed LEB128 number of at most ten bytes."""
    value, end = read_uleb128(data, position)
    bits = 7 * (end - position)
    return (value - (1 << bits) if value >> (bits - 1) else value), end


def read_pointer(data: bytes | memoryview, position: int, encoding: int, bases: PointerBases) -> tuple[int, int]:
    """A pointer in one of the DW_EH_PE encodings, as an ELF address; the indirect ones can't be followed."""
    value, end = _read_format(data, position, encoding & 0x0F)
    base_kind = encoding & 0x70
    if encoding & _DW_EH_PE_INDIRECT or base_kind >= _DW_EH_PE_ALIGNED:
        raise BadUnwindData(f"pointer encoding {encoding:#x}")
    if base_kind == 0x40:
        raise BadUnwindData("a pointer relative to a function")
    base = {0x00: 0, 0x10: bases.section + position, 0x20: bases.text, 0x30: bases.data}[base_kind]
    return (value + base) & ADDRESS_MASK, end


def skip_pointer(data: bytes | memoryview, position: int, encoding: int) -> int:
    """The position behind an encoded pointer whose value doesn't matter."""
    if encoding == DW_EH_PE_OMIT:
        return position
    if encoding & 0x70 == _DW_EH_PE_ALIGNED:
        raise BadUnwindData("an aligned pointer")
    return _read_format(data, position, encoding & 0x0F)[1]


def _read_format(data: bytes | memoryview, position: int, form: int) -> tuple[int, int]:
    if form == _DW_EH_PE_ULEB128:
        return read_uleb128(data, position)
    if form == _DW_EH_PE_SLEB128:
        return read_sleb128(data, position)
    fixed = _FIXED_FORMATS.get(form)
    if fixed is None:
        raise BadUnwindData(f"pointer format {form:#x}")
    return read_fixed(data, position, fixed[0], signed=fixed[1])
