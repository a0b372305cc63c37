"""Reads source lines and inlined functions of an image, in a child that a hostile file may end.

The child's answer is a line of JSON for each thing it found, so that what came before its end can be used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from symbolize.debug_files import DebugInfo
from symbolize.inflate import InflateError, plain_descriptor
from symbolize.isolated import Isolated, Limits
from symbolize.libdw import Dwarf, LibdwError
from symbolize.source_frames import Extent, SourceFrame
from symbolize.source_lines import FunctionIndex, source_frames

MEMORY_BYTES = 8 << 30
CPU_SECONDS = 60
ANSWER_BYTES = 256 << 20
FRAMES_MOST = 256
TEXT_CHARACTERS_MOST = 1 << 14
_SPOILED = (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class SourceLines:
    """What was found: frames by address (as linked), innermost inlined first, and where functions are, by unit.

    `problem` says why there isn't more; empty where all was read.
    """

    frames: dict[int, tuple[SourceFrame, ...]] = field(default_factory=dict[int, tuple[SourceFrame, ...]])
    extents: dict[int, list[Extent]] = field(default_factory=dict[int, list[Extent]])
    problem: str = ""


class DebugInfoReader:
    """Reading, under way: several files are read at the same time, each in a process of its own."""

    def __init__(self, debug_info: DebugInfo, addresses: Sequence[int], known: dict[int, list[Extent]]) -> None:
        """Asks for sorted addresses as linked. `known` are extents from an earlier time. Raises `OSError`."""
        limits = Limits(MEMORY_BYTES, CPU_SECONDS, ANSWER_BYTES)
        self._child = Isolated(lambda file: _read(file, debug_info, addresses, known), limits)

    def result(self) -> SourceLines:
        """Waits for the end, and for nothing else: call it once."""
        content, is_whole = self._child.answer()
        answer = _Answer()
        for row in _rows(content):
            try:
                answer.take(row)
            except _SPOILED:
                is_whole = False  # the child's memory was spoiled before it ended
        problem = answer.problem
        if not is_whole and not problem:
            problem = "reading it took too much time or memory, or crashed"
        return SourceLines(answer.frames, answer.extents, problem)


def _read(file: IO[bytes], debug_info: DebugInfo, addresses: Sequence[int], known: dict[int, list[Extent]]) -> None:
    """In the child."""
    index = FunctionIndex(known)
    numbers: dict[SourceFrame, int] = {}
    try:
        supplementary = debug_info.supplementary
        other = Dwarf(plain_descriptor(supplementary)) if supplementary is not None else None
        dwarf = Dwarf(plain_descriptor(debug_info.image), other)
        for address, frames in source_frames(dwarf, addresses, index):
            # Most frames are those of many addresses: each is sent once, before it is named by its number.
            for frame in frames[:FRAMES_MOST]:
                if frame not in numbers:
                    numbers[frame] = len(numbers)
                    _write(file, {"frame": [frame.linkage_name, frame.path, frame.line, frame.declared_line]})
            _write(file, {"address": address, "frames": [numbers[frame] for frame in frames[:FRAMES_MOST]]})
        for problem in dwarf.problems:
            _write(file, {"problem": problem})
    except (LibdwError, InflateError) as problem:
        _write(file, {"problem": str(problem)})
    except (OSError, MemoryError) as problem:
        _write(file, {"problem": str(problem) or "not enough memory"})
    _write(file, {"extents": list(index.found.items())})


def _write(file: IO[bytes], row: dict[str, Any]) -> None:
    file.write(json.dumps(row).encode() + b"\n")


def _rows(content: bytes) -> list[Any]:
    """The rows of an answer; one that is spoiled is None."""
    lines = content.split(b"\n")[:-1]
    try:
        return json.loads(b"[%b]" % b",".join(lines))  # at once: there are thousands
    except (ValueError, RecursionError):
        return [_row(line) for line in lines]


def _row(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class _Answer:
    """The child's rows put together."""

    def __init__(self) -> None:
        self.frames: dict[int, tuple[SourceFrame, ...]] = {}
        self.extents: dict[int, list[Extent]] = {}
        self.problem = ""
        self._known: list[SourceFrame] = []

    def take(self, row: dict[str, Any]) -> None:
        """Adds a row. Raises one of `_SPOILED` for one that makes no sense."""
        if "frame" in row:
            name, path, line, declared_line = row["frame"]
            name, path = str(name)[:TEXT_CHARACTERS_MOST], str(path)[:TEXT_CHARACTERS_MOST]
            self._known.append(SourceFrame(name, path, _line(line), _line(declared_line)))
        elif "address" in row:
            self.frames[int(row["address"])] = tuple(map(self._known.__getitem__, row["frames"]))
        elif "extents" in row:
            for unit, extents in row["extents"]:
                self.extents[int(unit)] = [(int(start), int(end), int(offset)) for start, end, offset in extents]
        else:
            self.problem = str(row["problem"])


def _line(number: int) -> int:
    """A line of a file that someone may have written: others are as if unknown."""
    return int(number) if 0 <= int(number) < 1 << 31 else 0
