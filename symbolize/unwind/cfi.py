"""The unwind data of one ELF image: which function an address is in, and what its rules are.

Only the FDEs that addresses land in are decoded. Bad data gives rows without rules, never an error.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from symbolize.elf import ElfImage
from symbolize.unwind.entries import FrameEntry, FrameReader
from symbolize.unwind.index import FrameIndex, are_inside, build_index, is_inside, read_sections, section_at
from symbolize.unwind.reading import USER_ADDRESS_END, BadUnwindData
from symbolize.unwind.rules import RETURN_ADDRESS, RuleTable

if TYPE_CHECKING:
    from symbolize.unwind.compile import TableBuilder

_HEADER_BYTES = 16
_MOST_INSTRUCTION_BYTES = 1 << 22
"""Of one image; four times what all of mariadbd has. FDEs may overlap, so a small file could hold more."""


class UnwindData:
    """`.eh_frame` and `.debug_frame` of an image; reads what it is asked for, when it is asked."""

    def __init__(self, image: ElfImage) -> None:
        self._image = image
        self._eh_frame, self._debug_frame = read_sections(image)
        self._bytes_left = _MOST_INSTRUCTION_BYTES

    @cached_property
    def index(self) -> FrameIndex:
        """All FDEs by where they start."""
        return build_index(self._image, self._eh_frame, self._debug_frame)

    def fingerprint(self) -> str:
        """A hash of all that the rules follow from, in hex."""
        # Not BLAKE2: many CPUs have instructions for SHA-256, and there are megabytes.
        digest = hashlib.sha256()
        for name in (".eh_frame_hdr", ".eh_frame", ".debug_frame"):
            section = self._image.sections.get(name)
            if section is not None:
                digest.update(b"%x %x;" % (section.elf_address, section.size))
                digest.update(self._image.data(section))
        return digest.hexdigest()[:32]

    def function_starts(self, elf_addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The (starts, ends) of the FDEs that cover the addresses, uint64[n] each; (0, 0) where none does.

        Nothing but the FDEs' headers is read.
        """
        entries, places = np.unique(self.index.find(elf_addresses), return_inverse=True)
        entries_start, entries_end = self._bounds(entries)
        starts, ends = entries_start[places], entries_end[places]
        covered = (starts <= elf_addresses) & (elf_addresses < ends)
        nothing = np.zeros(1, np.uint64)
        return np.where(covered, starts, nothing), np.where(covered, ends, nothing)

    def decode(self, elf_addresses: NDArray[np.uint64]) -> RuleTable:
        """The rules of all code from the start of each FDE that is hit to the start of the next one.

        The table covers every address given: ranges without an FDE, or with one that can't be read,
        are rows of `RuleKind.NONE`.
        """
        from symbolize.unwind.compile import TableBuilder  # only now: mostly all rules are known

        builder = TableBuilder()
        for entry in sorted(set(self.index.find(elf_addresses).tolist())):
            self._decode_entry(builder, entry)
        return builder.build()

    def code_before(self, elf_address: int, size: int) -> bytes:
        """Up to `size` bytes of code that end at an address; fewer when its section starts there."""
        section = section_at(self._image, elf_address - 1)
        if section is None:
            return b""
        size = min(size, elf_address - section.elf_address)
        return self._image.read(section.file_offset + elf_address - size - section.elf_address, size)

    def _decode_entry(self, builder: TableBuilder, entry: int) -> None:
        from symbolize.unwind.program import run

        limit = self.index.limit(entry)
        if entry < 0:
            builder.add_gap(0, limit)
            return
        start = int(self.index.starts[entry])
        try:
            frame = self._read_frame(entry)
            self._bytes_left -= len(frame.instructions) + len(frame.common.instructions)
            if self._bytes_left < 0:
                raise BadUnwindData("more instructions than any image has")
            rows = run(frame, self._reader(entry).section.bases)
        except BadUnwindData:
            builder.add_gap(start, limit)
            return
        end = min(frame.end, limit)
        builder.add_rows(rows, end, is_signal_frame=frame.common.is_signal_frame)
        builder.add_gap(end, limit)

    def _read_frame(self, entry: int) -> FrameEntry:
        frame = self._reader(entry).read_frame(int(self.index.positions[entry]))
        start = int(self.index.starts[entry])
        if frame.start != start or not is_inside(self._image, start, frame.end):
            raise BadUnwindData("an FDE for other code than the index says")
        if frame.common.return_register != RETURN_ADDRESS:
            raise BadUnwindData("a return address in an unusual register")
        return frame

    def _reader(self, entry: int) -> FrameReader:
        reader = self._debug_frame if self.index.is_debug[entry] else self._eh_frame
        assert reader is not None
        return reader

    def _bounds(self, entries: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Starts and ends of FDEs by number; an empty range for -1 and for those that can't be read."""
        starts = np.zeros(len(entries), np.uint64)
        ends = np.zeros(len(entries), np.uint64)
        real = entries >= 0
        starts[real] = self.index.starts[entries[real]]
        found, sizes = self._quick_sizes(entries)
        ends[found] = starts[found] + sizes[found]
        for at in np.flatnonzero(real & ~found).tolist():
            try:
                ends[at] = self._read_frame(int(entries[at])).end
            except BadUnwindData:
                continue
        limits = np.append(self.index.starts, np.array(USER_ADDRESS_END, np.uint64))[entries + 1]
        return starts, np.minimum(ends, limits)

    def _quick_sizes(self, entries: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """The sizes of FDEs that are encoded as nearly all are: two int32, the first relative to itself.

        That they are shows in that the first one gives the start that the index has.
        """
        sizes = np.zeros(len(entries), np.uint64)
        found = np.zeros(len(entries), np.bool_)
        if self._eh_frame is None or not len(self.index.starts):
            return found, sizes
        section = self._eh_frame.section
        raw = np.frombuffer(section.data, np.uint8)
        candidates = np.flatnonzero((entries >= 0) & ~self.index.is_debug[entries])
        positions = self.index.positions[entries[candidates]]
        fits = positions + _HEADER_BYTES <= len(raw)
        candidates, positions = candidates[fits], positions[fits]
        words = raw[positions[:, None] + np.arange(_HEADER_BYTES)].view("<i4").astype(np.int64)
        starts = section.bases.section + positions + 8 + words[:, 2]
        is_usual = (starts == self.index.starts[entries[candidates]].astype(np.int64)) & (words[:, 3] > 0)
        is_usual &= are_inside(self._image, starts, starts + words[:, 3])
        found[candidates[is_usual]] = True
        sizes[candidates[is_usual]] = words[is_usual, 3].astype(np.uint64)
        return found, sizes
