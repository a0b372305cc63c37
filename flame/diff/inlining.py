"""Functions that a compiler inlined in one build and not in the other, made the same frame in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lockflame.profile import FrameKind, Function, Location, Profile, Stacks

_Key = tuple[str, FrameKind]


def with_one_sort_of_frame(profile: Profile) -> Profile:
    """The profile in which each function, by name and kind, is inlined everywhere or nowhere.

    Frames are told apart by whether they are inlined. One function that is both becomes a plain one everywhere: a
    location ends with it, and what it was inlined into follows as a location of its own.
    """
    inlined, plain = _keys(profile.functions, profile.locations)
    both = inlined & plain
    if not both:
        return profile
    parts = [_split(location, profile.functions, both) for location in profile.locations]
    counts = np.array([len(part) for part in parts], np.int64)
    first = np.cumsum(counts) - counts
    stacks = profile.stacks
    lengths = counts[stacks.locations]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    locations = np.arange(int(ends[-1])) + np.repeat(first[stacks.locations] - ends[:-1], lengths)
    return replace(
        profile,
        locations=tuple(location for part in parts for location in part),
        stacks=Stacks(ends[stacks.offsets], locations.astype(np.int32)),
    )


def _keys(functions: Sequence[Function], locations: Sequence[Location]) -> tuple[set[_Key], set[_Key]]:
    """The functions that are inlined somewhere, and those that aren't somewhere."""
    inlined: set[_Key] = set()
    plain: set[_Key] = set()
    for location in locations:
        for line in location.lines[:-1]:
            inlined.add((functions[line.function].name, location.kind))
        plain.add((functions[location.lines[-1].function].name, location.kind))
    return inlined, plain


def _split(location: Location, functions: Sequence[Function], both: set[_Key]) -> list[Location]:
    """The location, ended after each of these functions."""
    if len(location.lines) == 1:
        return [location]
    parts: list[Location] = []
    start = 0
    for index, line in enumerate(location.lines, 1):
        if index == len(location.lines) or (functions[line.function].name, location.kind) in both:
            parts.append(replace(location, lines=location.lines[start:index]))
            start = index
    return parts
