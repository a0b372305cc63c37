"""Functions, source lines and inlined functions at addresses, out of DWARF.

Only the compilation units that the addresses lie in are read, and in these only the functions that have
one of them: a profile asks for a few hundred addresses of a file that may have millions of entries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from symbolize import libdw
from symbolize.libdw import Die, Dwarf, SourceLine, Unit
from symbolize.source_frames import Extent, SourceFrame

DEPTH_MOST = 256
"""Of blocks and inlined functions in one another."""


class _Function:
    """A function, or one inlined into another (`caller`), and some of the addresses asked for.

    What is known of it is asked once, for all its addresses.
    """

    def __init__(self, entry: Die, addresses: list[int], caller: _Function | None = None) -> None:
        self.entry = entry
        self.addresses = addresses
        self.caller = caller
        self._frames_of_callers: list[SourceFrame] | None = None

    def frames(self, dwarf: Dwarf, unit: Unit, place: SourceLine) -> list[SourceFrame]:
        """The frames from a place within it: its own and those of all who called it."""
        if self._frames_of_callers is None:
            self._frames_of_callers = []
            if self.caller is not None:
                self._frames_of_callers = self.caller.frames(dwarf, unit, dwarf.call_site(unit, self.entry))
        name, declared_line = dwarf.function(self.entry, self.caller is not None)
        return [SourceFrame(name, place.path, place.line, declared_line), *self._frames_of_callers]


class FunctionIndex:
    """Where the functions of each unit are. To find them takes a walk over all that the unit declares."""

    def __init__(self, extents: dict[int, list[Extent]] | None = None) -> None:
        """`extents` by unit are known already."""
        self._known = extents or {}
        self.found: dict[int, list[Extent]] = {}
        """Those that weren't."""

    def extents(self, dwarf: Dwarf, unit: Unit) -> list[Extent]:
        """The ranges of all functions of a unit."""
        extents = self._known.get(unit.offset) or self.found.get(unit.offset)
        if extents is None:
            extents = _extents(dwarf, unit)
            # A .dwo file may be built anew without a change to the file that names it.
            if not unit.is_split:
                self.found[unit.offset] = extents
        return extents


def _extents(dwarf: Dwarf, unit: Unit) -> list[Extent]:
    extents: list[Extent] = []

    def take(entry: Die) -> None:
        ranges = dwarf.ranges(entry) if dwarf.may_have_code(entry) else ()
        if ranges:
            offset = dwarf.offset(entry)
            extents.extend((start, end, offset) for start, end in ranges)

    dwarf.functions(unit.split, take)
    return extents


def source_frames(
    dwarf: Dwarf, addresses: Sequence[int], index: FunctionIndex
) -> Iterator[tuple[int, list[SourceFrame]]]:
    """For each of the addresses (as linked, sorted) that a unit covers: its frames, innermost inlined first.

    Raises `LibdwError` where the file is damaged; what came before it holds.
    """
    for unit, inside in _units_with(dwarf, addresses):
        innermost = {
            address: function
            for function in _functions_with(dwarf, unit, inside, index)
            for address in function.addresses
        }
        for address in inside:
            place = dwarf.line(unit, address)
            function = innermost.get(address)
            if function is None:
                yield address, [SourceFrame("", place.path, place.line, 0)]
            else:
                yield address, function.frames(dwarf, unit, place)


def _units_with(dwarf: Dwarf, addresses: Sequence[int]) -> Iterator[tuple[Unit, list[int]]]:
    taken: set[int] = set()
    for unit in dwarf.units():
        inside = [address for address in _within(addresses, dwarf.ranges(unit.entry)) if address not in taken]
        if inside:
            taken.update(inside)
            yield dwarf.with_split(unit), inside


def _within(addresses: Sequence[int], ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Those of the sorted addresses that lie in one of the ranges."""
    found: set[int] = set()
    for start, end in ranges:
        first = bisect_left(addresses, start)
        if first < len(addresses) and addresses[first] < end:
            found.update(addresses[first : bisect_left(addresses, end, first)])
    return sorted(found)


def _functions_with(dwarf: Dwarf, unit: Unit, addresses: list[int], index: FunctionIndex) -> Iterator[_Function]:
    """The functions of a unit that have some of the addresses, each followed by those inlined into it."""
    inside_of: defaultdict[int, list[int]] = defaultdict(list)
    for start, end, offset in index.extents(dwarf, unit):
        inside = _within(addresses, ((start, end),))
        if inside:
            inside_of[offset] += inside
    for offset, inside in inside_of.items():
        entry = dwarf.entry(unit, offset)
        # Known extents come from a file, which may lead to the wrong entry.
        inside = _within(sorted(inside), dwarf.ranges(entry)) if entry is not None else []
        if entry is not None and inside:
            function = _Function(entry, inside)
            yield function
            yield from _inlined(dwarf, function, entry, inside, DEPTH_MOST)


def _inlined(dwarf: Dwarf, caller: _Function, parent: Die, addresses: list[int], depth: int) -> Iterator[_Function]:
    """The functions inlined within an entry: the outer ones first."""
    for tag, child in dwarf.children(parent):
        if tag not in libdw.SCOPES:
            continue
        inside = _within(addresses, dwarf.ranges(child))
        if not inside or not depth:
            continue
        entry = Die.from_buffer_copy(child)
        function = caller
        if tag == libdw.TAG_INLINED_SUBROUTINE:
            function = _Function(entry, inside, caller)
            yield function
        yield from _inlined(dwarf, function, entry, inside, depth - 1)
