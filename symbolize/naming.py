"""Names for code keys: each distinct one is resolved once, by whichever source knows its image."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import TRUNCATED_STACK, FrameKind
from symbolize.binaries import open_debug_file
from symbolize.code_map import ADDRESS_MASK, KERNEL_BIT, SHIFT, CodeMap, Image
from symbolize.demangle import demangle
from symbolize.elf import ElfImage
from symbolize.kernel import KERNEL, KernelSymbols, read_kallsyms
from symbolize.perf_map import PerfMap, read_perf_map
from symbolize.symbols import Symbol, SymbolTable
from symbolize.unwind import UNMAPPED

MARKER_KEY = np.uint64(ADDRESS_MASK)
"""The code key of the `[truncated stack]` frame: the last address of no image."""
UNKNOWN = "[unknown]"
NO_SYMBOL = "no symbol at this address"
NO_SYMBOL_BUT_START = "no symbol for this function"


@dataclass(frozen=True, slots=True)
class Name:
    """What a code key is called. `image` is an index of `CodeMap.images`, `module` a kernel module.

    `reason` says why it couldn't be named; then `function` is made of module and offset.
    """

    function: str
    linkage_name: str
    kind: FrameKind
    image: int
    module: str = ""
    reason: str = ""


class Namer:
    """Resolves code keys. Tables are read when the first key needs them."""

    def __init__(self, code_map: CodeMap) -> None:
        self._code_map = code_map
        self._kernel: KernelSymbols | None = None
        self._symbols: dict[int, list[SymbolTable]] = {}
        self._perf_maps: dict[int, PerfMap | None] = {}
        self.perf_map_lines_skipped = 0

    def names(self, keys: NDArray[np.uint64]) -> list[Name]:
        """A name for each of the keys (uint64, distinct)."""
        names = [self._name(key) for key in keys.tolist()]
        self._name_by_start(keys, names)
        readable = demangle(name.linkage_name for name in names if name.linkage_name)
        return [replace(name, function=readable.get(name.linkage_name, name.function)) for name in names]

    def _name(self, key: int) -> Name:
        if key == int(MARKER_KEY):
            return Name(TRUNCATED_STACK, "", FrameKind.MARKER, UNMAPPED)
        if key & int(KERNEL_BIT):
            return self._kernel_name(key)
        index, address = key >> int(SHIFT), key & int(ADDRESS_MASK)
        image = self._code_map.images[index]
        if index == UNMAPPED:
            return Name(UNKNOWN, "", FrameKind.USER, index, reason=image.binary.reason)
        if image.binary.is_generated:
            return self._jit_name(index, image, address)
        if image.binary.image is None:
            return Name(_module_offset(image, address), "", FrameKind.USER, index, reason=image.binary.reason)
        return self._symbol_name(index, image, address)

    def _kernel_name(self, address: int) -> Name:
        if self._kernel is None:
            self._kernel = read_kallsyms()
        found = self._kernel.find(address)
        if found:
            function, module = found
            return Name(function, function, FrameKind.KERNEL, UNMAPPED, module)
        reason = self._kernel.reason or "no kernel symbol at this address"
        return Name(KERNEL, "", FrameKind.KERNEL, UNMAPPED, KERNEL, reason)

    def _symbol_name(self, index: int, image: Image, address: int) -> Name:
        for table in self._tables(index, image):
            symbol = table.find(address)
            if symbol:
                return _named(symbol, index)
        return Name(_module_offset(image, address), "", FrameKind.USER, index, reason=NO_SYMBOL)

    def _name_by_start(self, keys: NDArray[np.uint64], names: list[Name]) -> None:
        """Names functions without a symbol by where their unwind data says that they start.

        All samples in one function then fall into one frame, though nobody knows what it is called.
        """
        rows_of_image: defaultdict[int, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            if name.reason == NO_SYMBOL:
                rows_of_image[name.image].append(row)
        for index, rows in rows_of_image.items():
            data = self._code_map.unwind_data(index)
            if data is None:
                continue
            binary = self._code_map.images[index].binary
            module = os.path.basename(binary.path)
            entry = binary.image.entry if binary.image else 0
            starts, _ = data.function_starts(keys[rows] & ADDRESS_MASK)
            for row, start in zip(rows, starts.tolist(), strict=True):
                if start and start == entry:
                    # Where a program begins is _start, by every linker's default (ld(1), -e), stripped or not.
                    names[row] = Name("_start", "_start", FrameKind.USER, index)
                elif start:
                    function = f"{module}+0x{start:x}"
                    names[row] = Name(function, "", FrameKind.USER, index, reason=NO_SYMBOL_BUT_START)

    def _tables(self, index: int, image: Image) -> list[SymbolTable]:
        if index not in self._symbols:
            # A debug file knows the local functions too, so it comes first.
            files: list[ElfImage | None] = [open_debug_file(image.binary), image.binary.image]
            self._symbols[index] = [SymbolTable(file) for file in files if file is not None]
        return self._symbols[index]

    def _jit_name(self, index: int, image: Image, address: int) -> Name:
        perf_map = self._perf_map(image.pid)
        function = perf_map.find(address) if perf_map else None
        if function:
            return Name(function, function, FrameKind.JIT, index)
        reason = f"generated code, and there is no /tmp/perf-{image.pid}.map of its user"
        if perf_map:
            reason = f"generated code that /tmp/perf-{image.pid}.map doesn't have"
        return Name(_module_offset(image, address), "", FrameKind.JIT, index, reason=reason)

    def _perf_map(self, pid: int) -> PerfMap | None:
        if pid not in self._perf_maps:
            self._perf_maps[pid] = perf_map = read_perf_map(pid)
            self.perf_map_lines_skipped += perf_map.skipped if perf_map else 0
        return self._perf_maps[pid]


def _named(symbol: Symbol, index: int) -> Name:
    return Name(symbol.linkage_name, symbol.linkage_name, FrameKind.USER, index)


def _module_offset(image: Image, address: int) -> str:
    # The kernel calls memory without a file //anon; other generated code counts as that, too.
    module = "anon" if image.binary.is_generated else os.path.basename(image.binary.path).strip("[]")
    return f"[{module}+0x{address:x}]"
