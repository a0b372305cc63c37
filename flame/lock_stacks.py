"""New stacks made of parts of a profile's own, with frames for locks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.locks.attribution import Attribution
from lockflame.profile import FrameKind, Function, Line, Location, Profile, Stacks

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Parts of new stacks: piece `i` is `length[i]` locations of the pool of `StackParts`, from `start[i]` on."""

    start: _Ints
    length: _Ints

    def at(self, index: _Ints) -> Pieces:
        """These pieces, in this order."""
        return Pieces(self.start[index], self.length[index])


class StackParts:
    """What new stacks are made of: the stacks of a profile without what they have at their leaf of locks, and markers.

    A stack that the attribution charges to a lock begins at its site, another one at its first frame outside of the
    kernel: what threads do within a lock to wait or to release is the same everywhere.
    """

    def __init__(self, profile: Profile, attribution: Attribution) -> None:
        self._profile = profile
        self._functions = list(profile.functions)
        self._locations = list(profile.locations)
        self._markers: dict[str, int] = {}
        self._pools: list[NDArray[np.int32]] = []
        self._pooled = 0
        self._start, self._lines_before = _first_outside(profile, attribution)

    def upright(self, stacks: _Ints) -> Pieces:
        """These stacks of the profile, leaf first, one piece each."""
        locations, length = self._trimmed(stacks)
        return self._pooled_pieces(locations, length)

    def upside_down(self, stacks: _Ints) -> Pieces:
        """The same, root first. Inlined functions become frames like all others, so that they turn over too."""
        locations, length = self._trimmed(stacks)
        first, count = self._single_lines(locations)
        ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(count)))
        lines = np.repeat(first - ends[:-1], count) + np.arange(int(ends[-1]))
        location_ends = np.cumsum(length)
        begins, past = ends[location_ends - length], ends[location_ends]
        turned = np.repeat(begins + past - 1, past - begins) - np.arange(len(lines))
        return self._pooled_pieces(lines[turned].astype(np.int32), past - begins)

    def markers(self, names: Sequence[str]) -> Pieces:
        """One frame each that is no code."""
        locations = np.array([self._marker(name) for name in names], np.int32)
        return self._pooled_pieces(locations, np.ones(len(names), np.int64))

    def profile_of(self, columns: Sequence[Pieces]) -> Profile:
        """The profile with other stacks: stack `i` is piece `i` of each column one after the other, leaf first.

        Its samples are still those of the old stacks, and have to be replaced.
        """
        starts = np.stack([column.start for column in columns], axis=1)
        lengths = np.stack([column.length for column in columns], axis=1)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths.sum(axis=1))))
        pool = np.concatenate((np.zeros(0, np.int32), *self._pools))
        return replace(
            self._profile,
            functions=tuple(self._functions),
            locations=tuple(self._locations),
            stacks=Stacks(offsets, pool[_ranges(starts.reshape(-1), lengths.reshape(-1))]),
        )

    def _pooled_pieces(self, locations: NDArray[np.int32], length: _Ints) -> Pieces:
        start = self._pooled + np.cumsum(length) - length
        self._pools.append(locations)
        self._pooled += len(locations)
        return Pieces(start, length)

    def _marker(self, name: str) -> int:
        if name not in self._markers:
            self._functions.append(Function(name, name))
            line = Line(len(self._functions) - 1)
            self._markers[name] = self._new_location(Location(0, -1, (line,), FrameKind.MARKER))
        return self._markers[name]

    def _new_location(self, location: Location) -> int:
        self._locations.append(location)
        return len(self._locations) - 1

    def _trimmed(self, stacks: _Ints) -> tuple[NDArray[np.int32], _Ints]:
        """The locations of these stacks from the first outside on, in a row, and how many each has."""
        length = self._profile.stacks.offsets[stacks + 1] - self._start[stacks]
        locations = self._profile.stacks.locations[_ranges(self._start[stacks], length)]
        begins = np.cumsum(length) - length
        made: dict[tuple[int, int], int] = {}
        # A lock that was inlined into its caller shares the caller's location, but isn't the caller.
        for row in np.flatnonzero((self._lines_before[stacks] > 0) & (length > 0)).tolist():
            key = (int(locations[begins[row]]), int(self._lines_before[stacks[row]]))
            if key not in made:
                whole = self._locations[key[0]]
                made[key] = self._new_location(replace(whole, lines=whole.lines[key[1] :]))
            locations[begins[row]] = made[key]
        return locations, length

    def _single_lines(self, locations: NDArray[np.int32]) -> tuple[_Ints, _Ints]:
        """For each location, the first of those that hold one of its lines each, and how many these are."""
        distinct, inverse = np.unique(locations, return_inverse=True)
        first: list[int] = []
        count: list[int] = []
        numbers: list[int] = distinct.tolist()
        for number in numbers:
            location = self._locations[number]
            count.append(len(location.lines))
            if len(location.lines) == 1:
                first.append(number)
                continue
            first.append(len(self._locations))
            self._locations.extend(replace(location, lines=(line,)) for line in location.lines)
        return np.array(first, np.int64)[inverse], np.array(count, np.int64)[inverse]


def _first_outside(profile: Profile, attribution: Attribution) -> tuple[_Ints, _Ints]:
    """Where in the profile's stacks each begins outside of lock and kernel, and how many lines of the location there
    belong to the lock: int64[stacks] both."""
    stacks = profile.stacks
    if not len(stacks.locations):
        return stacks.offsets[:-1], np.zeros(len(stacks), np.int64)
    counts = np.array([len(location.lines) for location in profile.locations], np.int64)[stacks.locations]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    line = ends[stacks.offsets[:-1]] + np.maximum(attribution.depth, 0)
    site = np.searchsorted(ends, line, side="right") - 1
    is_kernel = np.array([location.kind is FrameKind.KERNEL for location in profile.locations], np.bool_)
    outside = np.append(np.flatnonzero(~is_kernel[stacks.locations]), len(stacks.locations))
    start = outside[np.searchsorted(outside, np.minimum(site, len(stacks.locations)))]
    # A stack of nothing but the kernel stays whole.
    start = np.where(start < stacks.offsets[1:], start, np.minimum(site, stacks.offsets[1:]))
    return start, np.where(start == site, line - ends[np.minimum(site, len(ends) - 1)], 0)


def _ranges(starts: _Ints, lengths: _Ints) -> _Ints:
    """The numbers from each start on, as many as its length, all in a row."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]) if len(ends) else 0)
