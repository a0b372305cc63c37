"""CIEs and FDEs: the headers in front of call frame instructions (DWARF 5, 6.4.1; LSB 5.0, 10.6.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from symbolize.unwind.reading import (
    ADDRESS_MASK,
    DW_EH_PE_ABSPTR,
    BadUnwindData,
    PointerBases,
    read_fixed,
    read_pointer,
    read_sleb128,
    read_uleb128,
    skip_pointer,
)

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_LONG_LENGTH = 0xFFFFFFFF
_LONGEST_AUGMENTATION = 16
_LONGEST_COMMON = 4096
_MOST_ENTRIES = 4_000_000


@dataclass(frozen=True, slots=True)
class FrameSection:
    """A `.eh_frame`, or a `.debug_frame` (`is_debug`), and where pointers inside of it count from."""

    data: memoryview
    bases: PointerBases
    is_debug: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """One entry of a section: where its id stands, where its contents start, and where they end."""

    id_position: int
    position: int
    end: int
    id_value: int


@dataclass(frozen=True, slots=True)
class CommonEntry:
    """A CIE: what its FDEs share. `instructions` set up the rules that a function starts with."""

    code_alignment: int
    data_alignment: int
    return_register: int
    pointer_encoding: int
    has_augmentation_size: bool
    is_signal_frame: bool
    instructions: bytes


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """An FDE: the rules for the code in [start, end), as ELF addresses. `position`: of `instructions`."""

    start: int
    end: int
    common: CommonEntry
    instructions: bytes
    position: int


def read_extent(section: FrameSection, position: int) -> Extent:
    """The bounds of the entry at `position`; one that runs past the section is bad."""
    data = section.data
    if position < 0 or position + 4 > len(data):
        raise BadUnwindData("an entry outside of its section")
    (length,) = _U32.unpack_from(data, position)
    body, is_long = position + 4, length == _LONG_LENGTH
    if is_long:
        length, body = read_fixed(data, body, 8)
    end = body + length
    # The id is 8 bytes wide in the 64-bit format of .debug_frame only (LSB 5.0, 10.6.1.1).
    id_size = 8 if is_long and section.is_debug else 4
    if end > len(data) or length < id_size:
        raise BadUnwindData("an entry that runs past its section")
    (id_value,) = (_U64 if id_size == 8 else _U32).unpack_from(data, body)
    return Extent(body, body + id_size, end, id_value)


def is_common(section: FrameSection, extent: Extent) -> bool:
    """Whether the entry is a CIE: its id is 0 in .eh_frame, all ones in .debug_frame."""
    if not section.is_debug:
        return extent.id_value == 0
    return extent.id_value == (_LONG_LENGTH if extent.position - extent.id_position == 4 else ADDRESS_MASK)


def read_common(section: FrameSection, position: int) -> CommonEntry:
    """The CIE at `position`."""
    extent = read_extent(section, position)
    if not is_common(section, extent):
        raise BadUnwindData("not a CIE")
    data = section.data[: extent.end]
    version, at = read_fixed(data, extent.position, 1)
    if version not in (1, 3, 4):
        raise BadUnwindData(f"CIE version {version}")
    augmentation, at = _read_name(data, at)
    if "eh" in augmentation:
        at += 8  # GCC 2 put the address of its exception table here
    if version == 4:
        sizes, at = read_fixed(data, at, 2)
        if sizes != 8:
            raise BadUnwindData("addresses that aren't 8 bytes, or segments")
    code_alignment, at = read_uleb128(data, at)
    data_alignment, at = read_sleb128(data, at)
    return_register, at = read_fixed(data, at, 1) if version == 1 else read_uleb128(data, at)
    encoding, is_signal, at = _read_augmentation(data, at, augmentation)
    if extent.end - at > _LONGEST_COMMON:
        raise BadUnwindData("a CIE that is too long")
    return CommonEntry(
        code_alignment,
        data_alignment,
        return_register,
        encoding,
        augmentation.startswith("z"),
        is_signal,
        bytes(data[at : extent.end]),
    )


def _read_name(data: memoryview, position: int) -> tuple[str, int]:
    name = bytes(data[position : position + _LONGEST_AUGMENTATION]).split(b"\0", 1)
    if len(name) != 2:
        raise BadUnwindData("an augmentation that doesn't end")
    return name[0].decode("latin-1"), position + len(name[0]) + 1


def _read_augmentation(data: memoryview, position: int, augmentation: str) -> tuple[int, bool, int]:
    """The encoding of addresses, whether these are signal frames, and the position of the instructions."""
    if not augmentation.startswith("z"):
        if augmentation not in ("", "eh"):
            raise BadUnwindData(f"augmentation {augmentation!r}")
        return DW_EH_PE_ABSPTR, False, position
    size, at = read_uleb128(data, position)
    end = at + size
    encoding, is_signal = DW_EH_PE_ABSPTR, False
    for letter in augmentation[1:]:
        if letter == "R":
            encoding, at = read_fixed(data, at, 1)
        elif letter == "L":
            at += 1
        elif letter == "P":
            personality_encoding, at = read_fixed(data, at, 1)
            at = skip_pointer(data, at, personality_encoding)
        elif letter == "S":
            is_signal = True
        else:
            break  # its data can be skipped: `z` gave the size of it all
    return encoding, is_signal, end


class FrameReader:
    """Reads the entries of one section; each CIE once."""

    def __init__(self, section: FrameSection) -> None:
        self.section = section
        self._commons: dict[int, CommonEntry | None] = {}

    def read_frame(self, position: int) -> FrameEntry:
        """The FDE at `position`. Raises `BadUnwindData`."""
        extent = read_extent(self.section, position)
        if is_common(self.section, extent):
            raise BadUnwindData("a CIE where an FDE should be")
        return self._read_frame(extent)

    def walk(self) -> list[tuple[int, FrameEntry]]:
        """The position and header of every FDE of the section, as far as it can be read."""
        found: list[tuple[int, FrameEntry]] = []
        position, size = 0, len(self.section.data)
        while position + 4 <= size and len(found) < _MOST_ENTRIES:
            if not any(self.section.data[position : position + 4]):
                position += 4  # an end mark; where objects were merged, more may follow
                continue
            try:
                extent = read_extent(self.section, position)
            except BadUnwindData:
                break
            try:
                if not is_common(self.section, extent):
                    found.append((position, self._read_frame(extent)))
            except BadUnwindData:
                pass  # this one only: its length leads to the next
            position = extent.end
        return found

    def _read_frame(self, extent: Extent) -> FrameEntry:
        section = self.section
        common = self._common(extent.id_value if section.is_debug else extent.id_position - extent.id_value)
        start, at = read_pointer(section.data, extent.position, common.pointer_encoding, section.bases)
        # The size of the code has the format of its address but no base (LSB 5.0, 10.6.1.2).
        size, at = read_pointer(section.data, at, common.pointer_encoding & 0x0F, section.bases)
        if common.has_augmentation_size:
            skipped, at = read_uleb128(section.data, at)
            at += skipped
        if at > extent.end:
            raise BadUnwindData("an FDE that is too short")
        return FrameEntry(start, start + size, common, bytes(section.data[at : extent.end]), at)

    def _common(self, position: int) -> CommonEntry:
        if position not in self._commons:
            try:
                self._commons[position] = read_common(self.section, position)
            except BadUnwindData:
                self._commons[position] = None
        common = self._commons[position]
        if common is None:
            raise BadUnwindData("an FDE without a readable CIE")
        return common
