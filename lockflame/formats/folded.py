"""Folded stacks in: `root;…;leaf WEIGHT`, as FlameGraph's scripts, py-spy and async-profiler write them."""

from __future__ import annotations

import re
from typing import IO

from lockflame.errors import LockflameError
from lockflame.formats.collecting import Collector, Frame
from lockflame.formats.lines import lines_of, text_of
from lockflame.profile import SAMPLES, FrameKind, Profile, RecordingInfo, Thread

NO_STACK = b"[no stack]"
"""What we write for samples that have none."""
MARKERS = frozenset({"[truncated stack]", "[other stacks]"})

# FlameGraph's annotations (stackcollapse-perf.pl --all); async-profiler has two more, for Java's interpreter and the
# first of its compilers (one.convert.Frame).
_INLINED = b"_[i]"
_KINDS = {"_[k]": FrameKind.KERNEL, "_[j]": FrameKind.JIT, "_[0]": FrameKind.JIT, "_[1]": FrameKind.JIT}
_UNNAMED = "[unknown]"
_WEIGHTED = re.compile(rb"\S\s+-?\d+(\.\d+)?(e[+-]?\d+)?\s*$")
_SUFFIX_LENGTH = 4
# Weights of 19 digits may be beyond 64 bits.
_DIGITS_MOST = 18
_FRACTION_DIGITS = 9
_FRACTION_UNIT = 10**_FRACTION_DIGITS


def is_folded_line(line: bytes) -> bool:
    """Whether a line looks like a stack with its weight, if only one that can't be read, such as -3 or 1e5."""
    return _WEIGHTED.search(line) is not None


def _parted(line: bytes) -> tuple[bytes, int, bytes] | None:
    """A stack, its weight and the digits of the weight's fraction; None for what is no such line."""
    parts = line.rsplit(None, 1)
    if len(parts) < 2:
        return None
    stack, number = parts
    weight, dot, fraction = (number, b"", b"") if number.isdigit() else number.partition(b".")
    is_number = weight.isdigit() and len(weight) <= _DIGITS_MOST and (not dot or fraction.isdigit())
    return (stack, int(weight), fraction) if is_number else None


def read_folded(file: IO[bytes], path: str) -> Profile:
    """The profile in folded stacks; its one sample type is `samples`, for the text has no unit.

    Lines that are none are counted in `RecordingInfo.skipped` and said in a note. Raises `LockflameError` if there is
    no stack at all.
    """
    collector = Collector(path, 1)
    reader = _Reader(collector)
    skipped = 0
    # By stack; whatever a file has many of is a line.
    weights: dict[int, int] = {}
    fractions: dict[int, int] = {}
    for line in lines_of(file):
        parts = None if line is None else _parted(line)
        if line is not None and (line.startswith(b"#") or (parts is None and not line.strip())):
            continue
        if parts is None:
            skipped += 1
            continue
        text, weight, fraction = parts
        stack = reader.stack(text)
        weights[stack] = weights.get(stack, 0) + weight
        if fraction:
            digits = fraction[:_FRACTION_DIGITS].ljust(_FRACTION_DIGITS, b"0")
            fractions[stack] = fractions.get(stack, 0) + int(digits)
    if not weights:
        raise LockflameError(f"cannot read {path}", "it has no stacks", "give folded stacks: main;work 12")
    thread = Thread(0, 0, "")
    for stack, weight in weights.items():
        collector.add(stack, thread, (weight + round(fractions.get(stack, 0) / _FRACTION_UNIT),))
    notes = notes_of(collector, skipped, "lines")
    if fractions:
        notes.append("Weights have fractions: the sum of each stack was rounded to a whole number.")
    info = RecordingInfo(samples=sum(weights.values()), skipped=skipped, notes=tuple(notes))
    return collector.profile((SAMPLES,), info)


def notes_of(collector: Collector, skipped: int, what: str) -> list[str]:
    """What a reader of the profile has to know, in sentences."""
    notes: list[str] = []
    if skipped:
        notes.append(f"{skipped:,} {what} of the file could not be read.")
    if collector.put_together:
        notes.append(
            f"{collector.put_together:,} {what} have stacks beyond the most that are kept: they are put together."
        )
    return notes


class _Reader:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._frames: dict[bytes, int] = {}

    def stack(self, text: bytes) -> int:
        """The number of a stack, root first in the text."""
        known = self._collector.known_stack(text)
        if known is not None:
            return known
        if not self._collector.has_room(text, text.count(b";") + 1):
            return self._collector.other_stack()
        return self._collector.add_stack(text, [] if text == NO_STACK else self._locations(text))

    def _locations(self, text: bytes) -> list[int]:
        """Leaf first."""
        names = text.split(b";")
        names.reverse()
        if _INLINED in text:
            return self._with_inlined([text_of(name) for name in names])
        try:
            return list(map(self._frames.__getitem__, names))
        except KeyError:
            return [self._plain(name) for name in names]

    def _with_inlined(self, names: list[str]) -> list[int]:
        """The same; what was inlined shares the location of its caller, which comes after it."""
        result: list[int] = []
        lines: list[str] = []
        inlined = _INLINED.decode()
        for index, name in enumerate(names):
            if name.endswith(inlined) and index + 1 < len(names):
                lines.append(name[:-_SUFFIX_LENGTH])
            else:
                result.append(self._location((*lines, name)))
                lines = []
        return result

    def _plain(self, name: bytes) -> int:
        number = self._frames.get(name)
        if number is None:
            number = self._frames[name] = self._location((text_of(name),))
        return number

    def _location(self, lines: Frame) -> int:
        *inlined, name = lines
        kind = _KINDS.get(name[-_SUFFIX_LENGTH:])
        if kind is not None:
            name = name[:-_SUFFIX_LENGTH]
        name = name or _UNNAMED
        marker = FrameKind.MARKER if name in MARKERS else FrameKind.USER
        return self._collector.location((*inlined, name), marker if kind is None else kind)
