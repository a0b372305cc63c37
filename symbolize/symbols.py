"""The symbols of an ELF file, read in bulk: which function or variable is at an address."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symbolize import ragged
from symbolize.elf import ElfImage

# Elf64_Sym (System V ABI, gABI "Symbol Table").
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_NOTYPE, _OBJECT, _FUNC, _GNU_IFUNC = 0, 1, 2, 10
_GLOBAL, _WEAK = 1, 2
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_NAME_BYTES_MOST = 1 << 16
# How far to look back for a symbol that encloses an address which the nearest one doesn't reach.
_ENCLOSING_SEARCH = 16
_ALIASES_MOST = 64


class Content(enum.Enum):
    """What symbols are of."""

    CODE = "code"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol; `start` and `end` are addresses as linked."""

    start: int
    end: int
    linkage_name: str


class SymbolTable:
    """The symbols of one file's `.symtab` and `.dynsym`, of its code or of its data, sorted by address."""

    def __init__(self, image: ElfImage, content: Content = Content.CODE) -> None:
        tables = [_read(image, ".symtab", ".strtab", content), _read(image, ".dynsym", ".dynstr", content)]
        self._strings = [strings for _, strings in tables]
        rows = np.concatenate([rows for rows, _ in tables])
        source = np.concatenate([np.full(len(rows), index, dtype=np.uint8) for index, (rows, _) in enumerate(tables)])
        order = np.lexsort((rows["size"], rows["value"]))
        rows = rows[order]
        self._source = source[order]
        self._info: NDArray[np.uint8] = rows["info"].copy()
        self._name_offsets: NDArray[np.uint32] = rows["name"].copy()
        self._starts: NDArray[np.uint64] = rows["value"].copy()
        self._has_size: NDArray[np.bool_] = rows["size"] > 0
        self._ends = _find_ends(image, self._starts, rows["size"])

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, address: int) -> Symbol | None:
        """The innermost symbol that covers an address as linked.

        A label without a size, inside a function that has one, only counts where the function doesn't.
        """
        index = int(np.searchsorted(self._starts, np.uint64(address), side="right")) - 1
        label: int | None = None
        for candidate in range(index, max(-1, index - _ENCLOSING_SEARCH), -1):
            if address < int(self._ends[candidate]):
                if self._has_size[candidate]:
                    return self._best_alias(candidate, address)
                label = candidate if label is None else label
        return self._best_alias(label, address) if label is not None else None

    def of_names(self, names: Collection[str]) -> Iterator[Symbol]:
        """The symbols of these linkage names, of each name all that there are."""
        for source, strings in enumerate(self._strings):
            content = bytes(strings)
            for name in names:
                rows = np.flatnonzero((self._source == source) & np.isin(self._name_offsets, _places_of(name, content)))
                for row in rows.tolist():
                    yield Symbol(int(self._starts[row]), int(self._ends[row]), name)

    def names_with(self, part: str) -> set[str]:
        """The linkage names that have this in them."""
        wanted = os.fsencode(part)
        found: set[str] = set()
        for strings in self._strings:
            pattern = re.compile(rb"[^\0]*" + re.escape(wanted) + rb"[^\0]*")
            found.update(os.fsdecode(match) for match in pattern.findall(strings))
        return found

    def _best_alias(self, index: int, address: int) -> Symbol | None:
        """Of several names for one address, the one that a reader knows best."""
        start = np.uint64(self._starts[index])
        first = int(np.searchsorted(self._starts, start, side="left"))
        last = int(np.searchsorted(self._starts, start, side="right"))
        aliases = range(first, min(last, first + _ALIASES_MOST))
        covering = [alias for alias in aliases if address < int(self._ends[alias])]
        candidates = [(self._preference(alias), name) for alias in covering if (name := self._name(alias))]
        if not candidates:
            return None
        _, name = min(candidates, key=lambda row: (row[0], _underscores(row[1]), len(row[1]), row[1]))
        return Symbol(int(start), int(self._ends[index]), name)

    def _preference(self, index: int) -> tuple[bool, int]:
        info = int(self._info[index])
        binding = {_GLOBAL: 0, _WEAK: 1}.get(info >> 4, 2)
        return info & 15 == _NOTYPE, binding

    def _name(self, index: int) -> str:
        strings = self._strings[int(self._source[index])]
        at = int(self._name_offsets[index])
        field = bytes(strings[at : at + _NAME_BYTES_MOST])
        return os.fsdecode(field.split(b"\0", 1)[0])


def _read(image: ElfImage, name: str, strings_name: str, content: Content) -> tuple[NDArray[np.void], memoryview]:
    section = image.sections.get(name)
    strings = image.sections.get(strings_name)
    if section is None or strings is None:
        return np.empty(0, dtype=_SYMBOL), memoryview(b"")
    data = image.data(section)
    rows = np.frombuffer(data, dtype=_SYMBOL, count=len(data) // _SYMBOL.itemsize)
    kind = rows["info"] & 15
    in_code = _in_code(image, rows["value"])
    if content is Content.CODE:
        is_wanted = (kind == _FUNC) | (kind == _GNU_IFUNC) | ((kind == _NOTYPE) & in_code)
    else:
        is_wanted = (kind == _OBJECT) | ((kind == _NOTYPE) & ~in_code)
    is_defined = (rows["section"] != _SHN_UNDEF) & (rows["section"] < _SHN_LORESERVE) & (rows["value"] != 0)
    return rows[is_wanted & is_defined & (rows["name"] != 0)], image.data(strings)


def _in_code(image: ElfImage, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which addresses lie in an executable section; a symbol without a type may be data as well."""
    inside = np.zeros(len(addresses), dtype=np.bool_)
    for section in image.sections.values():
        if section.is_executable:
            inside |= (addresses >= section.elf_address) & (addresses < section.elf_address + section.size)
    return inside


def _find_ends(image: ElfImage, starts: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A symbol without a size (hand-written assembly) reaches to the next one or its section's end."""
    distinct = ragged.distinct(starts)
    following = np.append(distinct, np.uint64(2**64 - 1))[np.searchsorted(distinct, starts, side="right")]
    sections = [section.elf_address + section.size for section in image.sections.values() if section.elf_address]
    section_ends = np.array([*sorted(min(end, 2**64 - 1) for end in sections), 2**64 - 1], dtype=np.uint64)
    section_end = section_ends[np.searchsorted(section_ends[:-1], starts, side="right")]
    return np.where(sizes > 0, starts + sizes, np.minimum(following, section_end))


def _places_of(name: str, strings: bytes) -> list[int]:
    """Where a name stands in a string table, also as the end of a longer one."""
    wanted = os.fsencode(name) + b"\0"
    places: list[int] = []
    at = strings.find(wanted)
    while at >= 0:
        places.append(at)
        at = strings.find(wanted, at + 1)
    return places


def _underscores(name: str) -> int:
    """How many stand in front: internal names of a library's functions have more."""
    return len(name) - len(name.lstrip("_"))
