"""What `addr2line -fie` of binutils says of addresses, and whether a profile says the same."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lockflame.profile import Location, Profile
from tests.support.needs import find_program

UNKNOWN = "??"


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A function at a source line. Empty and 0 are unknown."""

    function: str
    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.function or UNKNOWN} {self.path or UNKNOWN}:{self.line or '?'}"


def addr2line(program: Path, addresses: Iterable[int], timeout: float = 300) -> list[list[SourceFrame]]:
    """The frames of each address as linked, the innermost inlined one first; names as linked."""
    done = subprocess.run(
        [str(find_program("addr2line")), "--addresses", "--functions", "--inlines", "--exe", str(program)],
        input="".join(f"{address:#x}\n" for address in addresses),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=True,
        timeout=timeout,
    )
    found: list[list[str]] = []
    for line in done.stdout.splitlines():
        if re.fullmatch(r"0x[0-9a-f]{16}", line):
            found.append([])
        else:
            found[-1].append(line)
    return [
        [_frame(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
        for lines in found
    ]  # fmt: skip


def frames_of(profile: Profile, location: Location) -> list[SourceFrame]:
    """The same for a location of a profile."""
    frames: list[SourceFrame] = []
    for line in location.lines:
        function = profile.functions[line.function]
        frames.append(SourceFrame(function.linkage_name or function.name, _normal(function.path), line.line))
    return frames


def agree(ours: Sequence[SourceFrame], theirs: Sequence[SourceFrame]) -> bool:
    """Whether all frames are the same ones. A function that addr2line doesn't know may have any name."""
    return (
        len(ours) == len(theirs)
        and all(_same_place(mine, other) for mine, other in zip(ours, theirs, strict=True))
        and _same_innermost(ours, theirs)
        and all(_is_called(mine.function, other.function) for mine, other in zip(ours[1:], theirs[1:], strict=True))
    )


def _same_place(mine: SourceFrame, other: SourceFrame) -> bool:
    """Whether file and line are the same.

    Where a distribution has made the folder that was built in a relative one, binutils 2.40 joins it to itself:
    `stdlib/stdlib/abort.c` for `stdlib/abort.c`. Of such paths, one has to be the end of the other.
    """
    if mine.line != other.line:
        return False
    if mine.path == other.path or mine.path.startswith("/") or other.path.startswith("/"):
        return mine.path == other.path
    paths = ["/" + path.lstrip("./") for path in (mine.path, other.path)]
    return "/" not in paths and (paths[0].endswith(paths[1]) or paths[1].endswith(paths[0]))


def _same_innermost(ours: Sequence[SourceFrame], theirs: Sequence[SourceFrame]) -> bool:
    """Whether the innermost function is the same one, or addr2line doesn't tell it.

    Where the debug info of the innermost function has no linkage name (`static` ones and lambdas), addr2line prints
    that of the symbol at the address (binutils, bfd/dwarf2.c): the outermost function's name, if it was inlined.
    """
    name = theirs[0].function
    is_containing = len(theirs) > 1 and _plain(name) in (_plain(theirs[-1].function), _plain(ours[-1].function))
    return _is_called(ours[0].function, name) or (is_containing and not ours[0].function.startswith("_Z"))


def _is_called(mine: str, theirs: str) -> bool:
    """Whether a name is that of addr2line, which has a function's plain name where debug info has no linkage name.

    A mangled name holds the plain one after its length, and `cl` for `operator()` (Itanium C++ ABI, 5.1).
    """
    if not theirs or _plain(mine) == _plain(theirs):
        return True
    plain = "cl" if theirs == "operator()" else f"{len(theirs)}{theirs}"
    return mine.startswith("_Z") and not theirs.startswith("_Z") and plain in mine


def _frame(function: str, place: str) -> SourceFrame:
    path, _, line = re.sub(r" \(discriminator \d+\)$", "", place).rpartition(":")
    return SourceFrame(
        "" if function == UNKNOWN else function,
        "" if path == UNKNOWN else _normal(path),
        int(line) if line.isdigit() else 0,
    )


def _normal(path: str) -> str:
    return os.path.normpath(path) if path else ""


def _plain(function: str) -> str:
    """Without the version of a symbol, which debug info doesn't have."""
    return function.partition("@")[0]
