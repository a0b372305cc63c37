"""Where the functions of a process are that take and give back locks: its libc's, or its own if it has one in it."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lockflame.errors import LockflameError, reason_of
from lockflame.events import FileMapping
from symbolize.elf import ElfImage, ElfProblem, Segment
from symbolize.mapped_files import files_of, mapped_path
from symbolize.probe_places import BYTES_MOST, ProbePlaces, probe_places
from symbolize.symbols import Content, SymbolTable

WHAT = "cannot trace locks"
BREAKPOINT = 0xCC
"""What the kernel writes where a uprobe is, another tool's too."""


class Role(enum.Enum):
    """What a function does to a lock. The values are the programs that run at a call (locks.bpf.c)."""

    MUTEX = "on_mutex"
    MUTEX_TRY = "on_mutex_try"
    READ = "on_read"
    READ_TRY = "on_read_try"
    WRITE = "on_write"
    WRITE_TRY = "on_write_try"
    SPIN = "on_spin"
    SPIN_TRY = "on_spin_try"
    UNLOCK = "on_unlock"
    CONDITION = "on_condition"

    @property
    def takes(self) -> bool:
        """Whether it takes a lock, and is looked at when it returns too."""
        return self not in (Role.UNLOCK, Role.CONDITION)


ROLES = {
    "pthread_mutex_lock": Role.MUTEX,
    "pthread_mutex_timedlock": Role.MUTEX,
    "pthread_mutex_clocklock": Role.MUTEX,
    "pthread_mutex_trylock": Role.MUTEX_TRY,
    "pthread_mutex_unlock": Role.UNLOCK,
    "pthread_rwlock_rdlock": Role.READ,
    "pthread_rwlock_timedrdlock": Role.READ,
    "pthread_rwlock_clockrdlock": Role.READ,
    "pthread_rwlock_tryrdlock": Role.READ_TRY,
    "pthread_rwlock_wrlock": Role.WRITE,
    "pthread_rwlock_timedwrlock": Role.WRITE,
    "pthread_rwlock_clockwrlock": Role.WRITE,
    "pthread_rwlock_trywrlock": Role.WRITE_TRY,
    "pthread_rwlock_unlock": Role.UNLOCK,
    "pthread_spin_lock": Role.SPIN,
    "pthread_spin_trylock": Role.SPIN_TRY,
    "pthread_spin_unlock": Role.UNLOCK,
    "pthread_cond_wait": Role.CONDITION,
    "pthread_cond_timedwait": Role.CONDITION,
    "pthread_cond_clockwait": Role.CONDITION,
}
_LIBC = re.compile(r"(libc|libpthread|ld-musl|libc\.musl)[-.]")
"""Whoever else defines such functions calls these in the end."""
_OF_MUSL = frozenset({"__init_libc", "__dls3"})
"""Functions that musl has, linked statically or not, and glibc hasn't."""
_FIRST_ARGUMENT, _SECOND_ARGUMENT = ("rdi", "edi"), ("rsi", "esi")
_GLIBC_TYPE_OFFSET, _MUSL_TYPE_OFFSET = 16, 0


@dataclass(frozen=True, slots=True)
class LockFunction:
    """A function of a mapped file. `call` and `returns` are where probes go, as offsets in the file."""

    name: str
    role: Role
    path: str
    call: int
    returns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LockFunctions:
    """The functions found, which files they are from, and what was left out, in whole sentences.

    `type_offset` is where a mutex of that libc keeps its type. The functions' paths lead to `images`, as long as these
    are there: whatever a process does to its mappings meanwhile, and to the names of its files.
    """

    functions: tuple[LockFunction, ...]
    files: tuple[str, ...]
    type_offset: int
    notes: tuple[str, ...]
    images: tuple[ElfImage, ...]


def lock_functions(pid: int, mappings: Sequence[FileMapping]) -> LockFunctions:
    """Find the lock functions of a process with these executable mappings.

    A function whose code in memory isn't that of the file is left out: a probe's breakpoint might fall into what
    another tool put there. Raises `LockflameError` where there is none at all.
    """
    found: dict[tuple[str, int], LockFunction] = {}
    images: dict[str, ElfImage] = {}
    notes: list[str] = []
    is_musl = False
    program = os.stat(f"/proc/{pid}/exe").st_ino if os.path.exists(f"/proc/{pid}/exe") else 0
    for file in files_of(mappings):
        if file[0].inode != program and not _LIBC.match(os.path.basename(file[0].path)):
            continue
        try:
            image = ElfImage.open(mapped_path(file[0]))
        except (OSError, ElfProblem):
            continue
        table = SymbolTable(image, Content.CODE)
        functions = list(_of_image(image, table, file, notes, pid))
        if functions:
            images[os.path.basename(file[0].path)] = image
            is_musl |= any(table.of_names(_OF_MUSL))
        found |= {(function.path, function.call): function for function in functions}
    if not any(function.role.takes for function in found.values()):
        raise LockflameError(
            WHAT,
            f"{notes[0] if notes else 'none of its files has a symbol pthread_mutex_lock'}".rstrip("."),
            "see who waits without such symbols: lockflame record --locks",
        )
    type_offset = _MUSL_TYPE_OFFSET if is_musl else _GLIBC_TYPE_OFFSET
    return LockFunctions(tuple(found.values()), tuple(images), type_offset, tuple(notes), tuple(images.values()))


def _of_image(
    image: ElfImage, table: SymbolTable, file: list[FileMapping], notes: list[str], pid: int
) -> Iterator[LockFunction]:
    path = f"/proc/{os.getpid()}/fd/{image.descriptor}"
    for symbol in table.of_names(ROLES):
        name, start, end = symbol.linkage_name, symbol.start, symbol.end
        segment = next((one for one in image.segments if one.executable and _holds(one, start)), None)
        if segment is None:
            continue
        offset = start - segment.elf_address + segment.file_offset
        code = image.read(offset, min(end - start, BYTES_MOST))
        role = ROLES[name]
        places = probe_places(code, _SECOND_ARGUMENT if role is Role.CONDITION else _FIRST_ARGUMENT)
        mapping = next((one for one in file if 0 <= offset - one.file_offset < one.end - one.start), None)
        if mapping is None or not code:
            continue
        if not _is_as_in_file(pid, mapping.start + offset - mapping.file_offset, code):
            notes.append(
                f"{name} of {os.path.basename(mapping.path)} was changed in memory by another tool: it is left out."
            )
            continue
        yield _function(name, role, path, offset, places)


def _function(name: str, role: Role, path: str, offset: int, places: ProbePlaces) -> LockFunction:
    returns = tuple(offset + place for place in places.returns) if role is Role.CONDITION else ()
    return LockFunction(name, role, path, offset + places.call, returns)


def _holds(segment: Segment, address: int) -> bool:
    return segment.elf_address <= address < segment.elf_address + segment.file_size


def _is_as_in_file(pid: int, address: int, code: bytes) -> bool:
    """Whether a function's code in memory is that of its file, but for breakpoints."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            found = memory.read(len(code))
    except OSError as error:
        raise LockflameError(WHAT, f"its memory cannot be read: {reason_of(error)}", "run as root") from error
    return len(found) == len(code) and all(a in (b, BREAKPOINT) for a, b in zip(found, code, strict=True))
