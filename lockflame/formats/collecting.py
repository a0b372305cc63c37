"""Stacks of other tools' text, summed up line by line in bounded memory, as a profile."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from lockflame.errors import LockflameError
from lockflame.profile import (
    FrameKind,
    Function,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    SampleType,
    Stacks,
    Thread,
    samples_of_no_lock,
)

STACKS_MOST = 1 << 20
FRAMES_MOST = 1 << 24
"""Of all distinct stacks together."""
LOCATIONS_MOST = 1 << 19
"""Distinct functions, more or less. All that comes after has objects for them."""
TEXT_BYTES_MOST = 1 << 28
OTHER_STACKS = "[other stacks]"
"""The one frame of what has a stack beyond these limits, so that totals stay what they are."""
_TOTAL_MOST = 2**63 - 1

Frame = tuple[str, ...]
"""The function names of one location: inlined ones first, as `Location.lines` has them."""


class Collector:
    """Sums weights by (stack, thread). Of stacks that are seen again only the weights are added."""

    def __init__(self, path: str, types: int) -> None:
        self._path = path
        self._types = types
        self._functions: dict[str, int] = {}
        self._locations: dict[tuple[Frame, FrameKind, int], int] = {}
        self._modules: dict[str, int] = {}
        self._stacks: dict[bytes, int] = {}
        self._stack_locations = array("i")
        self._offsets = array("q", [0])
        self._threads: dict[Thread, int] = {}
        self._rows: dict[tuple[int, int], int] = {}
        self._values = array("q")
        self._totals = [0] * types
        self._text_bytes = 0
        self.put_together = 0
        """How many lines or samples went to `OTHER_STACKS`."""

    def location(self, names: Frame, kind: FrameKind, module: str = "") -> int:
        """The number of a location."""
        place = self._modules.setdefault(module, len(self._modules)) if module else -1
        key = (names, kind, place)
        number = self._locations.get(key)
        if number is None:
            number = self._locations[key] = len(self._locations)
            for name in names:
                self._functions.setdefault(name, len(self._functions))
        return number

    def known_stack(self, text: bytes) -> int | None:
        """The number of a stack that was added as this text before."""
        return self._stacks.get(text)

    def has_room(self, text: bytes, frames: int) -> bool:
        """Whether one more stack, of this text and so many frames, may be kept."""
        return (
            len(self._stacks) < STACKS_MOST
            and len(self._locations) < LOCATIONS_MOST
            and len(self._stack_locations) + frames <= FRAMES_MOST
            and self._text_bytes + len(text) <= TEXT_BYTES_MOST
        )

    def add_stack(self, text: bytes, locations: Sequence[int]) -> int:
        """Keeps a stack, leaf first, and returns its number."""
        self._text_bytes += len(text)
        self._stack_locations.extend(locations)
        self._offsets.append(len(self._stack_locations))
        number = self._stacks[text] = len(self._offsets) - 2
        return number

    def other_stack(self) -> int:
        """The stack that stands for all that there is no room for."""
        self.put_together += 1
        text = b"\n" + OTHER_STACKS.encode()
        number = self._stacks.get(text)
        return self.add_stack(text, [self.location((OTHER_STACKS,), FrameKind.MARKER)]) if number is None else number

    def add(self, stack: int, thread: Thread, values: Sequence[int]) -> None:
        """Adds one sample, of values that aren't negative.

        Raises `LockflameError` when the sums don't fit into 64 bits any more.
        """
        key = (stack, self._threads.setdefault(thread, len(self._threads)))
        row = self._rows.get(key)
        for column, value in enumerate(values):
            total = self._totals[column] = self._totals[column] + value
            if total > _TOTAL_MOST:
                raise LockflameError(
                    f"cannot read {self._path}", "its weights add up to more than 2^63", "check the file"
                )
        if row is None:
            self._rows[key] = len(self._rows)
            self._values.extend(values)
        else:
            for column, value in enumerate(values, row * self._types):
                self._values[column] += value

    def profile(self, sample_types: Sequence[SampleType], recording: RecordingInfo) -> Profile:
        """What was collected. `put_together` is said in its notes."""
        rows = np.array(list(self._rows), np.int32).reshape(-1, 2)
        return Profile(
            sample_types=tuple(sample_types),
            mappings=tuple(_mapping(module) for module in self._modules),
            functions=tuple(Function(name, name) for name in self._functions),
            locations=tuple(
                Location(0, place, tuple(Line(self._functions[name]) for name in names), kind)
                for names, kind, place in self._locations
            ),
            threads=tuple(self._threads),
            stacks=Stacks(np.array(self._offsets, np.int64), np.array(self._stack_locations, np.int32)),
            samples=samples_of_no_lock(
                rows[:, 0], rows[:, 1], np.array(self._values, np.int64).reshape(-1, self._types)
            ),
            recording=recording,
        )


def _mapping(path: str) -> Mapping:
    return Mapping(0, 0, 0, path, "")
