"""Folded stacks in: `root;…;leaf WEIGHT`, as FlameGraph's scripts, py-spy and async-profiler write them."""

from __future__ import annotations

from typing import IO

from lockflame.errors import LockflameError
from lockflame.formats.collecting import Collector, Frame
from lockflame.formats.lines import lines_of, text_of
from lockflame.profile import SAMPLES, FrameKind, Profile, RecordingInfo, Thread

NO_STACK = b"[no stack]"
"""What we write for samples that have none."""
MARKERS = frozenset({"[truncated stack]", "[other stacks]"})

# FlameGraph's annotations (stackcollapse-perf.pl --all); async-profiler's are the same.
_INLINED = "_[i]"
_KINDS = {"_[k]": FrameKind.KERNEL, "_[j]": FrameKind.JIT}
_SUFFIX_LENGTH = 4
# Weights of 19 digits may be beyond 64 bits.
_DIGITS_MOST = 18


def is_folded_line(line: bytes) -> bool:
    """Whether a line is a stack with its weight."""
    return _parted(line) is not None


def _parted(line: bytes) -> tuple[bytes, int] | None:
    """A stack and its weight without a fraction; None for what is no such line."""
    parts = line.rsplit(None, 1)
    if len(parts) < 2:
        return None
    weight = parts[1] if parts[1].isdigit() else parts[1].partition(b".")[0]
    is_weight = weight is parts[1] or parts[1][len(weight) + 1 :].isdigit()
    return (parts[0], int(weight)) if is_weight and weight.isdigit() and len(weight) <= _DIGITS_MOST else None


def read_folded(file: IO[bytes], path: str) -> Profile:
    """The profile in folded stacks; its one sample type is `samples`, for the text has no unit.

    Lines that are none are counted in `RecordingInfo.skipped` and said in a note. Raises `LockflameError` if there is
    no stack at all.
    """
    collector = Collector(path, 1)
    reader = _Reader(collector)
    read = skipped = samples = 0
    thread = Thread(0, 0, "")
    for line in lines_of(file):
        if line is not None and (not line.strip() or line.startswith(b"#")):
            continue
        parts = None if line is None else _parted(line)
        if parts is None:
            skipped += 1
            continue
        text, weight = parts
        read += 1
        samples += weight
        collector.add(reader.stack(text), thread, (weight,))
    if not read:
        raise LockflameError(f"cannot read {path}", "it has no stacks", "give folded stacks: main;work 12")
    info = RecordingInfo(samples=samples, skipped=skipped, notes=tuple(notes_of(collector, skipped, "lines")))
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
        self._frames: dict[str, int] = {}

    def stack(self, text: bytes) -> int:
        """The number of a stack, root first in the text."""
        known = self._collector.known_stack(text)
        if known is not None:
            return known
        if not self._collector.has_room(text, text.count(b";") + 1):
            return self._collector.other_stack()
        return self._collector.add_stack(text, [] if text == NO_STACK else self._locations(text_of(text).split(";")))

    def _locations(self, names: list[str]) -> list[int]:
        """Leaf first. What was inlined shares the location of its caller, which stands before it."""
        if not any(name.endswith(_INLINED) for name in names):
            return [self._plain(name) for name in reversed(names)]
        result: list[int] = []
        lines: list[str] = []
        for name in reversed(names):
            if name.endswith(_INLINED) and name != names[0]:
                lines.append(name[:-_SUFFIX_LENGTH])
            elif lines:
                result.append(self._location((*lines, name)))
                lines = []
            else:
                result.append(self._plain(name))
        if lines:
            result.append(self._location(tuple(lines)))
        return result

    def _plain(self, name: str) -> int:
        number = self._frames.get(name)
        if number is None:
            number = self._frames[name] = self._location((name,))
        return number

    def _location(self, lines: Frame) -> int:
        *inlined, name = lines
        kind = _KINDS.get(name[-_SUFFIX_LENGTH:])
        if kind is not None:
            name = name[:-_SUFFIX_LENGTH]
        marker = FrameKind.MARKER if name in MARKERS else FrameKind.USER
        return self._collector.location((*inlined, name), marker if kind is None else kind)
