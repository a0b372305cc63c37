"""Where futex words lie: which variable, which place of a shared file, or memory that has no name."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lockflame.events import FileMapping, HeldFiles
from lockflame.profile import Lock, Memory
from lockflame.samples import FutexWord, Recording
from symbolize.address_space import replay
from symbolize.binaries import DELETED
from symbolize.code_map import CodeMap, Image
from symbolize.debug_files import DebugFiles
from symbolize.demangle import demangle
from symbolize.elf import ElfImage
from symbolize.symbols import Content, SymbolTable

ANONYMOUS_SHARED = frozenset(("", "/dev/zero"))
"""What shared memory without a file is called in /proc/PID/maps."""


def placed_locks(recording: Recording, held_files: HeldFiles, debug_files: DebugFiles) -> tuple[Lock, ...]:
    """The locks of a recording with their `memory` and `symbol`, in the order of `recording.locks`."""
    words = recording.locks
    order = sorted(range(len(words)), key=lambda number: words[number].first_ns)
    pids = np.array([words[number].lock.pid for number in order], dtype=np.int32)
    times = np.array([words[number].first_ns for number in order], dtype=np.int64)
    spaces = replay(recording.snapshots, recording.events, pids, times)
    code_map = CodeMap(spaces.spaces, held_files)
    variables = _Variables(debug_files)
    shared = {pid: _shared_mappings(content) for pid, content in recording.memory_maps.items()}
    found: dict[int, Variable] = {}
    known: dict[tuple[int, int], Variable | None] = {}
    placed = [word.lock for word in words]
    numbers: list[int] = spaces.of_sample.tolist()
    for number, space in zip(order, numbers, strict=True):
        lock = words[number].lock
        in_file = _place_in_file(shared.get(lock.pid, []), lock.address)
        if in_file is not None:
            placed[number] = replace(lock, memory=Memory.SHARED, symbol=in_file)
        elif lock.memory is not Memory.UNKNOWN:
            # A trace has a word for each path that leads to a lock.
            if (space, lock.address) not in known:
                mappings = spaces.spaces[space].mappings
                known[space, lock.address] = _static_variable(words[number], space, mappings, code_map, variables)
            variable = known[space, lock.address]
            if variable is not None:
                found[number] = variable
    readable = demangle({variable.linkage_name for variable in found.values()})
    for number, variable in found.items():
        offset = f"+0x{variable.offset:x}" if variable.offset else ""
        symbol = f"{readable[variable.linkage_name]}{offset}"
        placed[number] = replace(placed[number], memory=Memory.STATIC, symbol=symbol)
    return tuple(placed)


@dataclass(frozen=True, slots=True)
class Variable:
    """A place in a variable, or where no symbol tells which, in a binary: `offset` bytes from its beginning."""

    linkage_name: str
    offset: int


def _static_variable(
    word: FutexWord, space: int, mappings: tuple[FileMapping, ...], code_map: CodeMap, variables: _Variables
) -> Variable | None:
    """The variable at a word's address; None where it lies in no program's or library's data.

    A loader puts the data of a file behind its code, so that the nearest code below tells which file it may be.
    """
    address = word.lock.address
    nearest = bisect_right([mapping.start for mapping in mappings], address) - 1
    if nearest < 0:
        return None
    start = mappings[nearest].start
    image, within = code_map.find(np.array([space], np.int32), np.array([start], np.uint64))
    linked = (address - start + int(within[0])) % 2**64
    return variables.find(code_map.images[int(image[0])], linked)


class _Variables:
    """The data symbols of binaries, read when they are first asked for."""

    def __init__(self, debug_files: DebugFiles) -> None:
        self._debug_files = debug_files
        self._tables: dict[Image, list[SymbolTable]] = {}

    def find(self, image: Image, linked: int) -> Variable | None:
        """What lies at an address as linked; None outside of data."""
        binary = image.binary
        if binary.image is None or not _in_data(binary.image, linked):
            return None
        for table in self._tables_of(image):
            symbol = table.find(linked)
            if symbol is not None:
                return Variable(symbol.linkage_name, linked - symbol.start)
        return Variable(os.path.basename(binary.path), linked)

    def _tables_of(self, image: Image) -> list[SymbolTable]:
        if image not in self._tables:
            files = (self._debug_files.symbols_of(image.binary, image.pid), image.binary.image)
            self._tables[image] = [SymbolTable(file, Content.DATA) for file in files if file is not None]
        return self._tables[image]


def _in_data(image: ElfImage, linked: int) -> bool:
    return any(
        section.elf_address <= linked < section.elf_address + section.size
        for section in image.sections.values()
        if section.elf_address and not section.is_executable
    )


def _shared_mappings(content: bytes) -> list[tuple[int, int, int, str]]:
    """The shared mappings among the lines of /proc/PID/maps: (start, end, offset in the file, path), by address."""
    found: list[tuple[int, int, int, str]] = []
    for line in content.split(b"\n"):
        # proc_pid_maps(5): address perms offset dev inode pathname
        fields = line.split(None, 5)
        if len(fields) >= 5 and fields[1].endswith(b"s"):
            start, _, end = fields[0].partition(b"-")
            path = os.fsdecode(fields[5]) if len(fields) > 5 else ""
            found.append((int(start, 16), int(end, 16), int(fields[2], 16), path.removesuffix(DELETED)))
    return found


def _place_in_file(mappings: Iterable[tuple[int, int, int, str]], address: int) -> str | None:
    """`/dev/shm/queue+0x40`; empty in shared memory without a file, None where no shared mapping is."""
    for start, end, offset, path in mappings:
        if start <= address < end:
            return "" if path in ANONYMOUS_SHARED else f"{path}+0x{address - start + offset:x}"
    return None
