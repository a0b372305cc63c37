"""Names of JIT-compiled code, from the map that a runtime writes for perf: /tmp/perf-PID.map.

Its format is that of linux/tools/perf/Documentation/jit-interface.txt: `START SIZE name` a line, in hex.
A map may have millions of lines. Only those that hold a sampled address are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symbolize import ragged

NOTHING = -1
BYTES_MOST = 256 << 20
"""Of a longer map the rest isn't read."""
BLOCK_BYTES = 4 << 20
LINE_BYTES_MOST = 1 << 16
"""Of a longer line, where no end is in sight, the rest isn't looked at."""
NAME_BYTES_MOST = 1 << 14

_BLANKS_MOST = 16
_DIGITS_MOST = 16
_NEWLINE = 10
_NO_DIGIT = 16
_DIGITS = np.full(256, _NO_DIGIT, np.uint64)
for _digit in b"0123456789abcdefABCDEF":
    _DIGITS[_digit] = int(chr(_digit), 16)
_IS_BLANK = np.isin(np.arange(256), list(b" \t\r"))


@dataclass(slots=True)
class PerfMapNames:
    """The names that a map has for some addresses.

    `skipped` counts lines that couldn't be read, `bytes_unread` is how much of the map lies beyond `BYTES_MOST`.
    """

    names: dict[int, str] = field(default_factory=dict[int, str])
    skipped: int = 0
    bytes_unread: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """The lines of a block that make sense: code from `start` to `end` (uint64), the name's place (int64)."""

    start: NDArray[np.uint64]
    end: NDArray[np.uint64]
    name_start: NDArray[np.int64]
    name_end: NDArray[np.int64]


def read_perf_map(descriptor: int, addresses: NDArray[np.uint64]) -> PerfMapNames:
    """The names of `addresses` (uint64) in a map. Raises `OSError` when it can't be read."""
    found = parse_perf_map(_blocks(descriptor), addresses)
    found.bytes_unread = max(0, os.fstat(descriptor).st_size - BYTES_MOST)
    return found


def parse_perf_map(blocks: Iterable[bytes], addresses: NDArray[np.uint64]) -> PerfMapNames:
    """The names of `addresses` in blocks of whole lines. Where code was written over, the later line counts."""
    wanted = ragged.distinct(addresses)
    found = PerfMapNames()
    for block in blocks:
        lines, skipped = _parse_lines(block)
        found.skipped += skipped
        owners = _owners(lines, wanted)
        names: dict[int, str] = {}
        for place in np.flatnonzero(owners != NOTHING).tolist():
            line = int(owners[place])
            if line not in names:
                name = block[int(lines.name_start[line]) : int(lines.name_end[line])]
                names[line] = os.fsdecode(name.rstrip())
            found.names[int(wanted[place])] = names[line]
    return found


def _blocks(descriptor: int) -> Iterator[bytes]:
    at, rest = 0, b""
    while data := os.pread(descriptor, min(BLOCK_BYTES, BYTES_MOST - at), at):
        at += len(data)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = b""
        rest = (rest + data[cut:])[: BLOCK_BYTES if cut else LINE_BYTES_MOST]
    if rest:
        yield rest


def _parse_lines(block: bytes) -> tuple[_Lines, int]:
    """All lines at once, and how many of them make no sense."""
    # A line's end stops every scan; a look for "0x" goes one byte further.
    text = np.frombuffer(block + b"\n\n", np.uint8)
    last = len(block) - (1 if block.endswith(b"\n") else 0)
    ends = np.append(np.flatnonzero(text[:last] == _NEWLINE), last) if block else np.empty(0, np.int64)
    begins = np.concatenate(([0], ends[:-1] + 1)) if block else ends
    start, at, is_number = _numbers(text, _skip_blanks(text, begins))
    size, at, is_size = _numbers(text, _skip_blanks(text, at))
    name = _skip_blanks(text, at)
    is_good = is_number & is_size & (name > at) & (name < ends)
    is_good &= (size > 0) & (size < np.uint64(1 << 48)) & (start < np.uint64(1 << 63))
    rows = np.flatnonzero(is_good)
    name_end = np.minimum(ends[rows], name[rows] + NAME_BYTES_MOST)
    return _Lines(start[rows], start[rows] + size[rows], name[rows], name_end), len(ends) - len(rows)


def _skip_blanks(text: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    for _ in range(_BLANKS_MOST):
        is_blank = _IS_BLANK[text[at]]
        if not is_blank.any():
            break
        at = at + is_blank
    return at


def _numbers(
    text: NDArray[np.uint8], at: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """The hexadecimal numbers at some places, the places behind them, and whether there is one of 64 bits."""
    has_prefix = (text[at] == ord("0")) & ((text[at + 1] | 0x20) == ord("x"))
    at = at + 2 * has_prefix
    first = at
    value = np.zeros(len(at), np.uint64)
    for _ in range(_DIGITS_MOST):
        digit = _DIGITS[text[at]]
        is_digit = digit != _NO_DIGIT
        if not is_digit.any():
            break
        value = np.where(is_digit, (value << np.uint64(4)) | digit, value)
        at = at + is_digit
    return value, at, (at > first) & _IS_BLANK[text[at]]


def _owners(lines: _Lines, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of the sorted addresses the last line that holds it, or `NOTHING`."""
    owners = np.full(len(wanted), NOTHING, np.int64)
    first = np.searchsorted(wanted, lines.start)
    last = np.searchsorted(wanted, lines.end)
    hits = np.flatnonzero(first < last)
    if len(hits):
        _paint(owners, hits.tolist(), first[hits].tolist(), last[hits].tolist())
    return owners


def _paint(owners: NDArray[np.int64], hits: list[int], firsts: list[int], lasts: list[int]) -> None:
    """Gives each place the last of the ranges (of places) that hold it, looking at each place once."""
    # From each place, the way to the next one that has no owner yet; halved as it is walked.
    next_free = list(range(len(owners) + 1))

    def free_from(at: int) -> int:
        while next_free[at] != at:
            next_free[at] = at = next_free[next_free[at]]
        return at

    for owner, first, last in zip(reversed(hits), reversed(firsts), reversed(lasts), strict=True):
        at = free_from(first)
        while at < last:
            owners[at] = owner
            next_free[at] = at + 1
            at = free_from(at)
