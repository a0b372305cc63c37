"""Names for addresses of ELF images: from the store, else out of DWARF and symbol tables."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from symbolize.code_map import CodeMap, Image
from symbolize.debug_files import DebugFiles
from symbolize.demangle import MANGLED_PREFIXES
from symbolize.mini_debug_info import mini_symbols
from symbolize.name_store import NameStore
from symbolize.name_tables import ImageName, NamedFrame, NameTables, StoredNames
from symbolize.source_frames import Extent, SourceFrame
from symbolize.symbols import Symbol, SymbolTable

if TYPE_CHECKING:
    from symbolize.debug_info import DebugInfoReader

NO_SYMBOL = "no symbol at this address"
NO_SYMBOL_BUT_START = "no symbol for this function"
UNKNOWN = "[unknown]"
NAMES_SHOWN = 3
READERS_MOST = 2
"""Of one file: the machine has other work to do."""
ADDRESSES_WORTH_A_READER = 250


@dataclass(slots=True)
class _Task:
    """What is asked of one image. `known` is what the store has of it, `missing` are the sorted addresses it hasn't.

    `frames` and `extents` are what the readers have found.
    """

    key: str
    stored: NameTables
    known: dict[int, ImageName]
    missing: list[int]
    debug_path: str = ""
    readers: list[DebugInfoReader] = field(default_factory=lambda: [])
    frames: dict[int, tuple[SourceFrame, ...]] = field(default_factory=dict[int, tuple[SourceFrame, ...]])
    extents: dict[int, list[Extent]] = field(default_factory=dict[int, list[Extent]])


class ImageNamer:
    """Names addresses of images. The files of all of them are read at the same time, each by a child."""

    def __init__(self, code_map: CodeMap, debug_files: DebugFiles, store: NameStore) -> None:
        self._code_map = code_map
        self._debug_files = debug_files
        self._store = store
        self._keys: dict[int, str] = {}
        self._tables: dict[int, list[SymbolTable]] = {}
        self._tasks: dict[int, _Task] = {}
        self._problems: dict[str, str] = {}
        self._no_library = ""
        self._frames: dict[SourceFrame, NamedFrame] = {}

    def symbol(self, index: int, address: int) -> Symbol | None:
        """The function's symbol at an address as linked of the image with this index."""
        return next((symbol for table in self._tables_of(index) if (symbol := table.find(address))), None)

    def begin(self, index: int, addresses: Sequence[int]) -> None:
        """Starts to read what names addresses as linked of an image."""
        key = self._key(index)
        stored = self._store.load(key)
        known = stored.names_of(addresses)
        task = self._tasks[index] = _Task(key, stored, known, sorted(set(addresses) - known.keys()))
        image = self._code_map.images[index]
        debug_info = self._debug_files.debug_info_of(image.binary, image.pid) if task.missing else None
        if debug_info is None:
            return
        # Only now: most recordings find all their names in the store.
        from symbolize import libdw
        from symbolize.debug_info import DebugInfoReader

        task.debug_path = debug_info.path
        try:
            libdw.load()
            extents = stored.extents_of_units()
            for part in _parts(task.missing):
                task.readers.append(DebugInfoReader(debug_info, part, extents))
        except OSError as error:
            self._problems[debug_info.path] = f"no process could be started to read them ({error.strerror})"
        except libdw.LibdwError as problem:
            self._problems[debug_info.path] = ""
            self._no_library = str(problem)

    def finish(self, index: int) -> dict[int, ImageName]:
        """The names that the store didn't have. Those of mangled symbols have no readable form yet."""
        task = self._tasks[index]
        self._collect(task)
        found = {address: self._name(index, address, task.frames.get(address)) for address in task.missing}
        self._name_by_start(index, found)
        return found

    def keep(self, index: int, found: dict[int, ImageName]) -> dict[int, ImageName]:
        """Stores new names of an image, which are readable by now; returns those of all that was asked for."""
        task = self._tasks.pop(index)
        image = self._code_map.images[index]
        # What wasn't read for a problem, or wasn't to be had from a server, may be there next time.
        is_final = task.debug_path not in self._problems and not self._debug_files.may_come_later(image.binary)
        if task.missing and task.key and is_final:
            stored = task.stored.all_names()
            names = StoredNames({**stored.names, **found}, {**stored.extents, **task.extents})
            self._store.save(task.key, names)
        return {**task.known, **found}

    def notes(self) -> Iterator[str]:
        """Sentences on debug files that couldn't be used, or not wholly."""
        yield from self._debug_files.notes()
        paths_of: defaultdict[str, list[str]] = defaultdict(list)
        if self._no_library:
            yield f"No source lines and no inlined functions: {self._no_library}."
        for path, problem in self._problems.items():
            if problem:
                paths_of[problem].append(path)
        for problem, paths in paths_of.items():
            more = f" and {len(paths) - NAMES_SHOWN:,} more" if len(paths) > NAMES_SHOWN else ""
            yield f"Source lines of {', '.join(paths[:NAMES_SHOWN])}{more} are missing, at least in part: {problem}."

    def _collect(self, task: _Task) -> None:
        """Waits for the readers."""
        for reader in task.readers:
            lines = reader.result()
            task.frames.update(lines.frames)
            task.extents.update(lines.extents)
            if lines.problem:
                self._problems[task.debug_path] = lines.problem

    def _key(self, index: int) -> str:
        """What the names of an image are stored under: what it is, and what there is to name it."""
        if index not in self._keys:
            image = self._code_map.images[index]
            rules = self._code_map.rules_key(index)
            identity = self._debug_files.identity(image.binary, image.pid) if rules else ""
            self._keys[index] = self._store.key(rules, identity)
        return self._keys[index]

    def _tables_of(self, index: int) -> list[SymbolTable]:
        if index not in self._tables:
            image = self._code_map.images[index]
            # A debug file knows the local functions too, so it comes first.
            debug_file = self._debug_files.symbols_of(image.binary, image.pid)
            files = [debug_file, mini_symbols(image.binary.image) if debug_file is None else None, image.binary.image]
            self._tables[index] = [SymbolTable(file) for file in files if file is not None]
        return self._tables[index]

    def _name(self, index: int, address: int, lines: Sequence[SourceFrame] | None) -> ImageName:
        if not lines:
            return self._symbol_name(index, address)
        inlined = [self._frame(frame) for frame in lines[:-1]]
        # A mangled name is whole: no symbol says more.
        if _is_mangled(lines[-1].linkage_name):
            return ImageName((*inlined, self._frame(lines[-1])))
        return self._with_outermost(index, address, inlined, lines[-1])

    def _symbol_name(self, index: int, address: int) -> ImageName:
        symbol = self.symbol(index, address)
        if symbol is None:
            function = module_offset(self._code_map.images[index], address)
            return ImageName((NamedFrame(function, ""),), NO_SYMBOL)
        return ImageName((NamedFrame(_plain(symbol), symbol.linkage_name),))

    def _frame(self, frame: SourceFrame) -> NamedFrame:
        """The same object for the same frame: there are few that differ."""
        if frame not in self._frames:
            name = frame.linkage_name
            self._frames[frame] = NamedFrame(name or UNKNOWN, name, frame.path, frame.line, frame.declared_line)
        return self._frames[frame]

    def _with_outermost(self, index: int, address: int, inlined: Sequence[NamedFrame], frame: SourceFrame) -> ImageName:
        """The function that has the code, where the DWARF data has no name for it that is the linker's."""
        symbol = self.symbol(index, address)
        linkage_name, reason = frame.linkage_name, ""
        if symbol and (not linkage_name or _is_mangled(symbol.linkage_name)):
            linkage_name = symbol.linkage_name
        if not linkage_name:
            function, reason = module_offset(self._code_map.images[index], address), NO_SYMBOL
        elif symbol and not _is_mangled(linkage_name) and not symbol.linkage_name.startswith(f"{linkage_name}."):
            # C has no mangling, but many names for a function: the one that is known best.
            function = _plain(symbol)
        else:
            function = linkage_name
        outermost = NamedFrame(function, linkage_name, frame.path, frame.line, frame.declared_line)
        return ImageName((*inlined, outermost), reason)

    def _name_by_start(self, index: int, names: dict[int, ImageName]) -> None:
        """Names functions without a symbol by where their unwind data says that they start.

        All samples in one function then fall into one frame, though nobody knows what it is called.
        """
        nameless = [address for address, name in names.items() if name.reason == NO_SYMBOL]
        data = self._code_map.unwind_data(index) if nameless else None
        if data is None:
            return
        binary = self._code_map.images[index].binary
        module = os.path.basename(binary.path)
        entry = binary.image.entry if binary.image else 0
        starts, _ = data.function_starts(np.array(nameless, dtype=np.uint64))
        for address, start in zip(nameless, starts.tolist(), strict=True):
            *inlined, outermost = names[address].frames
            if start and start == entry:
                # Where a program begins is _start, by every linker's default (ld(1), -e), stripped or not.
                outermost = replace(outermost, function="_start", linkage_name="_start")
                names[address] = ImageName((*inlined, outermost))
            elif start:
                outermost = replace(outermost, function=f"{module}+0x{start:x}")
                names[address] = ImageName((*inlined, outermost), NO_SYMBOL_BUT_START)


def _parts(addresses: list[int]) -> list[list[int]]:
    """The addresses in as many parts as are worth a process each."""
    count = max(1, min(READERS_MOST, len(os.sched_getaffinity(0)), len(addresses) // ADDRESSES_WORTH_A_READER))
    size = -(-len(addresses) // count)
    return [addresses[at : at + size] for at in range(0, len(addresses), size)]


def module_offset(image: Image, address: int) -> str:
    """What stands for a name: where the code is."""
    # The kernel calls memory without a file //anon; other generated code counts as that, too.
    module = "anon" if image.binary.is_generated else os.path.basename(image.binary.path).strip("[]")
    return f"[{module}+0x{address:x}]"


def _is_mangled(name: str) -> bool:
    return name.startswith(MANGLED_PREFIXES)


def _plain(symbol: Symbol) -> str:
    """A symbol's name without its version (`@GLIBC_2.34`)."""
    return symbol.linkage_name.split("@", 1)[0] or symbol.linkage_name
