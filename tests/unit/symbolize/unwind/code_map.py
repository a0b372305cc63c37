"""A `CodeMap` for tests: the mappings of processes as they are given."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np

from lockflame.events import FileMapping
from symbolize.elf import ElfImage, ElfProblem
from symbolize.unwind import UNMAPPED, RuleCache, UnwindData


class MappedCode:
    def __init__(self, mappings: dict[int, list[FileMapping]]) -> None:
        self.paths: list[str] = [""]
        self.images: list[ElfImage | None] = [None]
        self._pids = np.array(sorted(mappings), np.int64)
        rows = sorted(
            self._row(space, mapping)
            for space, pid in enumerate(sorted(mappings))
            for mapping in mappings[pid]
            if mapping.end < 1 << 47  # not the vsyscall page
        )
        self._starts = np.array([row[0] for row in rows], np.uint64)
        self._ends = np.array([row[1] for row in rows], np.uint64)
        self._images = np.array([row[2] for row in rows], np.int32)
        self._biases = np.array([row[3] for row in rows], np.uint64)
        self._file_biases = np.array([row[4] for row in rows], np.uint64)
        self._data: dict[int, UnwindData | None] = {}

    def spaces(self, pids: list[int]) -> np.ndarray:
        """The numbers of the address spaces of processes."""
        return np.searchsorted(self._pids, pids).astype(np.int32)

    def cache(self) -> RuleCache:
        return RuleCache(self.unwind_data)

    def unwind_data(self, number: int) -> UnwindData | None:
        if number not in self._data:
            image = self.images[number]
            self._data[number] = UnwindData(image) if image is not None else None
        return self._data[number]

    def find(self, space: np.ndarray, address: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = (space.astype(np.uint64) << 48) | address
        row = np.searchsorted(self._starts, keys, side="right") - 1
        found = (row >= 0) & (keys < self._ends[row]) & (address < 1 << 47)
        image = np.where(found, self._images[row], UNMAPPED).astype(np.int32)
        return image, address - self._biases[row]

    def file_offsets(self, space: int, addresses: np.ndarray) -> np.ndarray:
        """The places in their files of addresses of one space; those in no mapping stay as they are."""
        keys = (np.uint64(space) << np.uint64(48)) | addresses
        row = np.searchsorted(self._starts, keys, side="right") - 1
        return np.where(keys < self._ends[row], addresses - self._file_biases[row], addresses)

    def _row(self, space: int, mapping: FileMapping) -> tuple[int, int, int, int, int]:
        image = self._image(mapping.path)
        elf = self.images[image]
        bias = (mapping.start - elf.segment_address(mapping.file_offset)) % (1 << 64) if elf else 0
        in_file = (mapping.start - mapping.file_offset) % (1 << 64)
        return (space << 48) + mapping.start, (space << 48) + mapping.end, image, bias, in_file

    def _image(self, path: str) -> int:
        if path in self.paths:
            return self.paths.index(path)
        self.paths.append(path)
        try:
            image = ElfImage(read_vdso()) if path == "[vdso]" else ElfImage.open(path)
        except (OSError, ElfProblem):
            image = None
        self.images.append(image)
        return len(self.paths) - 1


def read_vdso() -> bytes:
    """The vdso of this very process."""
    found = re.search(r"^(\w+)-(\w+) .*\[vdso\]$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert found is not None
    start, end = (int(group, 16) for group in found.groups())
    return ctypes.string_at(start, end - start)
