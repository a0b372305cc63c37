"""Which FDE covers an address: `.eh_frame_hdr`'s sorted table, or one made by walking the section.

The table is described in LSB 5.0, 10.6.2; linkers write it as (int32, int32) pairs relative to the
start of `.eh_frame_hdr`. Other encodings are allowed but not seen, and make us walk.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symbolize.elf import ElfImage, Section
from symbolize.unwind.entries import FrameReader, FrameSection
from symbolize.unwind.reading import (
    DW_EH_PE_OMIT,
    USER_ADDRESS_END,
    BadUnwindData,
    PointerBases,
    read_fixed,
    skip_pointer,
)

_UDATA4 = 0x03
_DATAREL_SDATA4 = 0x3B
_LARGEST_SECTION = 1 << 30
_ELFCOMPRESS_ZLIB = 1


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """FDEs by the address they start at: `starts` uint64[n] sorted, `positions` int64[n] in their section.

    `is_debug` bool[n]: in `.debug_frame` rather than `.eh_frame`.
    """

    starts: NDArray[np.uint64]
    positions: NDArray[np.int64]
    is_debug: NDArray[np.bool_]

    def find(self, elf_addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The last entry that starts at or before each address, -1 where there is none."""
        return np.searchsorted(self.starts, elf_addresses, side="right") - 1

    def limit(self, entry: int) -> int:
        """Where the entry behind `entry` starts; -1 is the gap before the first one."""
        return int(self.starts[entry + 1]) if entry + 1 < len(self.starts) else USER_ADDRESS_END


def read_sections(image: ElfImage) -> tuple[FrameReader | None, FrameReader | None]:
    """Readers of `.eh_frame` and of `.debug_frame`."""

    def base(*names: str) -> int:
        return next((image.sections[name].elf_address for name in names if name in image.sections), 0)

    readers: list[FrameReader | None] = []
    for name in (".eh_frame", ".debug_frame"):
        section = image.sections.get(name)
        data = _uncompressed(image.data(section)) if section is not None else memoryview(b"")
        if section is None or not len(data) or section.elf_address >= USER_ADDRESS_END:
            readers.append(None)
            continue
        bases = PointerBases(section.elf_address, base(".text"), base(".got.plt", ".got"))
        readers.append(FrameReader(FrameSection(data, bases, is_debug=name == ".debug_frame")))
    return readers[0], readers[1]


def build_index(image: ElfImage, eh_frame: FrameReader | None, debug_frame: FrameReader | None) -> FrameIndex:
    """All FDEs of an image. Those of `.debug_frame` count where `.eh_frame` has none."""
    index = _EMPTY
    if eh_frame is not None:
        index = _read_header_table(image) or _walk(image, eh_frame)
    if debug_frame is None:
        return index
    extra = _walk(image, debug_frame)
    if not len(index.starts):
        return extra
    return _add(index, extra, eh_frame)


_EMPTY = FrameIndex(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.bool_))


def _read_header_table(image: ElfImage) -> FrameIndex | None:
    """`.eh_frame_hdr`; None when it is absent, encoded otherwise or plainly damaged."""
    header, frames = image.sections.get(".eh_frame_hdr"), image.sections.get(".eh_frame")
    if header is None or frames is None or header.elf_address >= USER_ADDRESS_END:
        return None
    try:
        pairs = _header_pairs(image.data(header))
    except BadUnwindData:
        return None
    starts = (pairs[:, 0].astype(np.int64) + header.elf_address).astype(np.uint64)
    positions = pairs[:, 1].astype(np.int64) + (header.elf_address - frames.elf_address)
    if not len(pairs) or np.any(starts[1:] < starts[:-1]) or np.any((positions < 0) | (positions >= frames.size)):
        return None
    return FrameIndex(starts, positions, np.zeros(len(starts), np.bool_))


def _header_pairs(data: memoryview) -> NDArray[np.int32]:
    """The table as int32[n, 2]: the start of the code and the FDE, both relative to the header."""
    version_and_encodings, _ = read_fixed(data, 0, 4)
    version, pointer, count_encoding, table = version_and_encodings.to_bytes(4, "little")
    if version != 1 or DW_EH_PE_OMIT in (count_encoding, table):
        raise BadUnwindData("no table")
    if count_encoding & 0x0F != _UDATA4 or table != _DATAREL_SDATA4:
        raise BadUnwindData("another encoding")
    count, at = read_fixed(data, skip_pointer(data, 4, pointer), 4)
    if at + 8 * count > len(data):
        raise BadUnwindData("a table that runs past its section")
    return np.frombuffer(data, "<i4", 2 * count, at).reshape(-1, 2)


def _walk(image: ElfImage, reader: FrameReader) -> FrameIndex:
    found = [(entry.start, position) for position, entry in reader.walk() if is_inside(image, entry.start, entry.end)]
    found.sort()
    starts = np.array([start for start, _ in found], np.uint64)
    positions = np.array([position for _, position in found], np.int64)
    return FrameIndex(starts, positions, np.full(len(found), reader.section.is_debug, np.bool_))


def is_inside(image: ElfImage, start: int, end: int) -> bool:
    """Whether [start, end) is code of the image and not empty."""
    if not start < end <= USER_ADDRESS_END:
        return False
    return any(
        segment.executable and segment.elf_address <= start and end <= segment.elf_address + segment.file_size
        for segment in image.segments
    )


def are_inside(image: ElfImage, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`is_inside` for many."""
    inside = np.zeros(len(starts), np.bool_)
    for segment in image.segments:
        if segment.executable and segment.elf_address < USER_ADDRESS_END:
            limit = min(segment.elf_address + segment.file_size, USER_ADDRESS_END)
            inside |= (segment.elf_address <= starts) & (ends <= limit) & (starts < ends)
    return inside


def _add(index: FrameIndex, extra: FrameIndex, reader: FrameReader | None) -> FrameIndex:
    """`index` and those entries of `extra` that don't start inside one of its FDEs."""
    before = index.find(extra.starts)
    taken = np.zeros(len(extra.starts), np.bool_)
    for at, entry in enumerate(before.tolist()):
        if entry >= 0 and reader is not None:
            try:
                taken[at] = int(extra.starts[at]) < reader.read_frame(int(index.positions[entry])).end
            except BadUnwindData:
                continue
    starts = np.concatenate([index.starts, extra.starts[~taken]])
    order = np.argsort(starts, kind="stable")
    return FrameIndex(
        starts[order],
        np.concatenate([index.positions, extra.positions[~taken]])[order],
        np.concatenate([index.is_debug, extra.is_debug[~taken]])[order],
    )


def _uncompressed(data: memoryview) -> memoryview:
    """The contents of a section that may be compressed (gABI, "Section Compression"), as Go does.

    The flag isn't needed to see it: no CIE is one byte long, as a zlib header's type would have it.
    """
    if len(data) < 26 or int.from_bytes(data[:4], "little") != _ELFCOMPRESS_ZLIB or data[24] & 0x0F != 8:
        return data
    try:
        return memoryview(zlib.decompressobj().decompress(data[24:], _LARGEST_SECTION))
    except zlib.error:
        return memoryview(b"")


def section_at(image: ElfImage, elf_address: int) -> Section | None:
    """The section whose bytes hold an address."""
    for section in image.sections.values():
        if section.elf_address and section.elf_address <= elf_address < section.elf_address + section.size:
            return section
    return None
