"""elfutils' libdw by ctypes: the few functions that lines and inlined frames need.

It reads what it is asked for and no more (one compilation unit of a thousand), knows DWARF 2 to 5,
compressed sections and supplementary files, and is on any machine that has perf or systemd. It is C
that works on files from outside: use it in a child (`symbolize.isolated`).

Structures and functions: elfutils/libdw.h. DWARF's constants: DWARF 5, section 7.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_ssize_t, c_uint, c_uint8, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

LIBRARY = "libdw.so.1"

_READ = 0
_CONTINUE = 0
_UT_SKELETON = 4
TAG_INLINED_SUBROUTINE = 0x1D
_TAG_SUBPROGRAM, _TAG_LEXICAL_BLOCK, _TAG_CATCH_BLOCK, _TAG_TRY_BLOCK = 0x2E, 0x0B, 0x25, 0x32
_UNITS = frozenset({0x11, 0x3C, 0x41, 0x4A})
"""DW_TAG_compile_unit, partial_unit, type_unit, skeleton_unit."""
SCOPES = frozenset({TAG_INLINED_SUBROUTINE, _TAG_SUBPROGRAM, _TAG_LEXICAL_BLOCK, _TAG_CATCH_BLOCK, _TAG_TRY_BLOCK})
"""Tags of the entries within a function that inlined functions may stand in."""
_AT_CALL_FILE, _AT_CALL_LINE, _AT_DECL_LINE = 0x58, 0x59, 0x3B
_AT_COMP_DIR, _AT_ABSTRACT_ORIGIN = 0x1B, 0x31
_AT_LOW_PC, _AT_RANGES = 0x11, 0x55
_AT_LINKAGE_NAME, _AT_MIPS_LINKAGE_NAME = 0x6E, 0x2007
_NO_SUCH_ADDRESS = frozenset({"no matching address range", "address out of range"})
"""What it says where a unit's line table has no row for an address of the unit: nothing is wrong."""
RANGES_MOST = 1 << 20
"""Of one entry; what a damaged file may make of it ends there."""


class LibdwError(Exception):
    """The library is missing, or it can't make sense of a file; the message says why."""


class Die(Structure):
    """A debugging information entry (`Dwarf_Die`)."""

    _fields_ = (("address", c_void_p), ("unit", c_void_p), ("abbreviation", c_void_p), ("padding", ctypes.c_long))


class _Attribute(Structure):
    _fields_ = (("code", c_uint), ("form", c_uint), ("value", c_void_p), ("unit", c_void_p))


_Callback = ctypes.CFUNCTYPE(c_int, POINTER(Die), c_void_p)

_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "dwarf_begin": (c_void_p, (c_int, c_int)),
    "dwarf_end": (c_int, (c_void_p,)),
    "dwarf_setalt": (None, (c_void_p, c_void_p)),
    "dwarf_errno": (c_int, ()),
    "dwarf_errmsg": (c_char_p, (c_int,)),
    "dwarf_get_units": (
        c_int,
        (
            *(c_void_p, c_void_p, POINTER(c_void_p), POINTER(ctypes.c_ushort)),
            *(POINTER(c_uint8), POINTER(Die), POINTER(Die)),
        ),
    ),
    "dwarf_cu_info": (
        c_int,
        (
            *(c_void_p, POINTER(ctypes.c_ushort), POINTER(c_uint8), POINTER(Die), POINTER(Die)),
            *(POINTER(c_uint64), POINTER(c_uint8), POINTER(c_uint8)),
        ),
    ),
    "dwarf_ranges": (c_ssize_t, (POINTER(Die), c_ssize_t, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint64))),
    "dwarf_hasattr": (c_int, (POINTER(Die), c_uint)),
    "dwarf_dieoffset": (c_uint64, (POINTER(Die),)),
    "dwarf_offdie": (c_void_p, (c_void_p, c_uint64, POINTER(Die))),
    "dwarf_cu_getdwarf": (c_void_p, (c_void_p,)),
    "dwarf_getfuncs": (c_ssize_t, (POINTER(Die), _Callback, c_void_p, c_ssize_t)),
    "dwarf_child": (c_int, (POINTER(Die), POINTER(Die))),
    "dwarf_siblingof": (c_int, (POINTER(Die), POINTER(Die))),
    "dwarf_tag": (c_int, (POINTER(Die),)),
    "dwarf_diename": (c_char_p, (POINTER(Die),)),
    "dwarf_attr": (c_void_p, (POINTER(Die), c_uint, POINTER(_Attribute))),
    "dwarf_formref_die": (c_void_p, (POINTER(_Attribute), POINTER(Die))),
    "dwarf_attr_integrate": (c_void_p, (POINTER(Die), c_uint, POINTER(_Attribute))),
    "dwarf_formstring": (c_char_p, (POINTER(_Attribute),)),
    "dwarf_formudata": (c_int, (POINTER(_Attribute), POINTER(c_uint64))),
    "dwarf_getsrc_die": (c_void_p, (POINTER(Die), c_uint64)),
    "dwarf_lineno": (c_int, (c_void_p, POINTER(c_int))),
    "dwarf_linesrc": (c_char_p, (c_void_p, c_void_p, c_void_p)),
    "dwarf_getsrcfiles": (c_int, (POINTER(Die), POINTER(c_void_p), POINTER(c_size_t))),
    "dwarf_filesrc": (c_char_p, (c_void_p, c_size_t, c_void_p, c_void_p)),
}


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in a source file; line 0 where it isn't known."""

    path: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A compilation unit. Its functions are below `split`: `entry`, or its counterpart in an opened .dwo file."""

    entry: Die
    split: Die
    offset: int
    """Where its entry is in `.debug_info`."""

    @property
    def is_split(self) -> bool:
        """Whether `split` is of another file."""
        return self.split.unit != self.entry.unit


class Dwarf:
    """The debugging information of one file."""

    def __init__(self, descriptor: int, supplementary: Dwarf | None = None) -> None:
        """Reads from `descriptor`, which stays the caller's. Raises `LibdwError`."""
        self.library = load()
        self._handle = self.library.dwarf_begin(descriptor, _READ)
        if not self._handle:
            raise LibdwError(self._message())
        if supplementary is not None:
            self.library.dwarf_setalt(self._handle, supplementary._handle)
        self._supplementary = supplementary  # must live as long as this
        self.problems: Counter[str] = Counter()
        """What the library couldn't make sense of, and how often."""
        self._shapes: dict[int | None, bool] = {}
        self._folders: dict[int, str] = {}
        self._paths: dict[tuple[int, int], str] = {}
        self._next_range = self.library.dwarf_ranges
        self._functions: dict[int | None, tuple[str, int]] = {}
        # The library fills them at each call.
        self._attribute, self._value = _Attribute(), c_uint64()
        self._base, self._start, self._end = c_uint64(), c_uint64(), c_uint64()

    def units(self) -> Iterator[Unit]:
        """All units of `.debug_info`. A damaged one ends them: raises `LibdwError`."""
        handle = c_void_p()
        entry = Die()
        while True:
            following = c_void_p()
            done = self.library.dwarf_get_units(self._handle, handle, byref(following), None, None, entry, None)
            if done < 0:
                raise LibdwError(self._message())
            if done > 0 or not following.value:
                return
            handle = following
            if self.library.dwarf_tag(entry) not in _UNITS:
                self.problems["a unit is something else"] += 1
            own = Die.from_buffer_copy(entry)
            yield Unit(own, own, self.offset(own))

    def with_split(self, unit: Unit) -> Unit:
        """The unit with what its .dwo file has of it; opens that file. The unit as it is where it has none."""
        split, kind = Die(), c_uint8()
        done = self.library.dwarf_cu_info(unit.entry.unit, None, byref(kind), None, byref(split), None, None, None)
        if done == 0 and split.address:
            return Unit(unit.entry, split, unit.offset)
        if done == 0 and kind.value == _UT_SKELETON:
            self.problems["a .dwo file that it names isn't there or can't be read"] += 1
        return unit

    def ranges(self, entry: Die) -> list[tuple[int, int]]:
        """The addresses as linked that an entry has code at: (start, end) each."""
        found: list[tuple[int, int]] = []
        offset = 0
        while (offset := self._next_range(entry, offset, self._base, self._start, self._end)) > 0:
            if self._start.value < self._end.value:
                found.append((self._start.value, self._end.value))
            if len(found) >= RANGES_MOST:
                break
        if offset < 0:
            self.problems[self._message()] += 1
        return found

    def may_have_code(self, entry: Die) -> bool:
        """Whether an entry of this shape has addresses at all: declarations, the most of all, don't.

        An abbreviation (DWARF 5, section 7.5.3) is the shape of many entries: each one is looked at once.
        """
        known = self._shapes.get(entry.abbreviation)
        if known is None:
            has = self.library.dwarf_hasattr
            known = bool(has(entry, _AT_LOW_PC) or has(entry, _AT_RANGES))
            self._shapes[entry.abbreviation] = known
        return known

    def offset(self, entry: Die) -> int:
        """Where an entry is in `.debug_info`."""
        return self.library.dwarf_dieoffset(entry)

    def entry(self, unit: Unit, offset: int) -> Die | None:
        """The function at an offset of the file that has the unit's functions; None where there is none."""
        entry = Die()
        file = self.library.dwarf_cu_getdwarf(unit.split.unit)
        found = self.library.dwarf_offdie(file, offset, entry)
        return entry if found and self.library.dwarf_tag(entry) == _TAG_SUBPROGRAM else None

    def functions(self, unit: Die, take: Callable[[Die], None]) -> None:
        """Hands every function of a unit to `take`; what it is given is valid only within the call."""

        def visit(entry: Any, _: int) -> int:
            take(entry.contents)
            return _CONTINUE

        # 0 when done, -1 on an error: then those before it have been seen.
        self.library.dwarf_getfuncs(unit, _Callback(visit), None, 0)

    def children(self, entry: Die) -> Iterator[tuple[int, Die]]:
        """The tags of an entry's children and the children, each valid until the next is taken."""
        child = Die()
        if self.library.dwarf_child(entry, byref(child)) != 0:
            return
        tag_of, sibling_of = self.library.dwarf_tag, self.library.dwarf_siblingof
        here = byref(child)
        while True:
            yield tag_of(here), child
            if sibling_of(here, here) != 0:
                return

    def function(self, entry: Die, is_inlined: bool) -> tuple[str, int]:
        """A function's name, and the line that it is declared at (0 where that isn't known).

        The name is what the linker calls it, else what its source does; empty where it has none. An inlined
        function is mostly one of many instances of it: what all share is read once.
        """
        # Not so one that has code of its own, and a name: D0 and D2 are instances of one destructor.
        shared = entry.address
        if is_inlined and self.library.dwarf_attr(entry, _AT_ABSTRACT_ORIGIN, self._attribute):
            origin = Die()
            if self.library.dwarf_formref_die(self._attribute, origin):
                shared = origin.address
        if shared not in self._functions:
            self._functions[shared] = self._name(entry), self._number(entry, _AT_DECL_LINE)
        return self._functions[shared]

    def _name(self, entry: Die) -> str:
        for code in (_AT_LINKAGE_NAME, _AT_MIPS_LINKAGE_NAME):
            if self.library.dwarf_attr_integrate(entry, code, self._attribute):
                name = self.library.dwarf_formstring(self._attribute)
                if name:
                    return _text(name)
        return _text(self.library.dwarf_diename(entry))

    def call_site(self, unit: Unit, inlined: Die) -> SourceLine:
        """From where an inlined function is called."""
        file = (unit.split.unit, self._number(inlined, _AT_CALL_FILE))
        if file not in self._paths:
            self._paths[file] = self._absolute(unit, self._path(unit.split, file[1]))
        return SourceLine(self._paths[file], self._number(inlined, _AT_CALL_LINE))

    def line(self, unit: Unit, address: int) -> SourceLine:
        """The source line of an address of a unit; line tables stay in the file that has the code."""
        row = self.library.dwarf_getsrc_die(unit.entry, address)
        if not row:
            message = self._message()
            if message not in _NO_SUCH_ADDRESS:
                self.problems[message] += 1
            return SourceLine("", 0)
        number = c_int()
        self.library.dwarf_lineno(row, byref(number))
        path = _text(self.library.dwarf_linesrc(row, None, None))
        return SourceLine(self._absolute(unit, path), max(0, number.value))

    def close(self) -> None:
        """Gives the library's memory back. Entries and units of it are invalid from then on."""
        if self._handle:
            self.library.dwarf_end(self._handle)
            self._handle = None

    def _absolute(self, unit: Unit, path: str) -> str:
        """Relative paths are meant from where the compiler ran (DW_AT_comp_dir)."""
        if not path or path.startswith("/"):
            return path
        if unit.offset not in self._folders:
            has_folder = self.library.dwarf_attr_integrate(unit.entry, _AT_COMP_DIR, self._attribute)
            folder = self.library.dwarf_formstring(self._attribute) if has_folder else None
            self._folders[unit.offset] = _text(folder)
        folder = self._folders[unit.offset]
        return f"{folder}/{path}" if folder else path

    def _path(self, unit: Die, number: int) -> str:
        files, count = c_void_p(), c_size_t()
        if self.library.dwarf_getsrcfiles(unit, byref(files), byref(count)) != 0 or number >= count.value:
            return ""
        return _text(self.library.dwarf_filesrc(files, number, None, None))

    def _number(self, entry: Die, code: int) -> int:
        if not self.library.dwarf_attr_integrate(entry, code, self._attribute):
            return 0
        return self._value.value if self.library.dwarf_formudata(self._attribute, self._value) == 0 else 0

    def _message(self) -> str:
        message = self.library.dwarf_errmsg(self.library.dwarf_errno())
        return _text(message) or "no debugging information"


def _text(content: bytes | None) -> str:
    return content.decode("utf-8", "replace") if content else ""


def load() -> ctypes.CDLL:
    """The library, loaded once. Raises `LibdwError`; `ctypes` keeps the functions of a library that is loaded."""
    global _loaded
    if _loaded is None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise LibdwError(f"{LIBRARY} is not installed (Debian's package libdw1)") from error
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        _loaded = library
    return _loaded


_loaded: ctypes.CDLL | None = None
