"""From a profile's addresses to frames as a reader thinks of them: a function's name and where its code lives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.lines import lines_of
from lockflame.profile import CPU, FrameKind, Profile, SampleType

_KINDS = len(FrameKind)


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """Distinct (function name, kind, inlined or not), sorted in this order: a smaller id is an earlier name.

    `kinds` is uint8[len(names)], values of `FrameKind`; `inlined` is bool[len(names)]: the frame is of the
    function's code within its caller's. Names are as the profile has them, not escaped.
    """

    names: tuple[str, ...]
    kinds: NDArray[np.uint8]
    inlined: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class FrameStacks:
    """A profile's stacks as frames, leaf first, with inlined functions as frames of their own.

    Stack `i` is `frames[offsets[i]:offsets[i + 1]]`; `offsets` is int64[n + 1], `frames` int32 ids of `table`.
    `rows` is int32, as long as `frames`: of which line each frame is, counted through the lines of all locations.
    """

    table: FrameTable
    offsets: NDArray[np.int64]
    frames: NDArray[np.int32]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def choose_sample_type(profile: Profile, wanted: SampleType | None = None) -> SampleType:
    """The type to show: the wanted one, else CPU time, else the first that the profile has, else CPU time."""
    for candidate in (wanted, CPU, *profile.sample_types[:1]):
        if candidate in profile.sample_types:
            return candidate
    return CPU


def stack_weights(profile: Profile, sample_type: SampleType) -> NDArray[np.int64]:
    """The weight of each stack over all threads, int64[len(profile.stacks)], in the sample type's unit.

    All zero when the profile doesn't have that type.
    """
    weights = np.zeros(len(profile.stacks), np.int64)
    if sample_type in profile.sample_types:
        column = profile.samples.values[:, profile.sample_types.index(sample_type)]
        np.add.at(weights, profile.samples.stack, column)
    return weights


def frame_stacks(profile: Profile) -> FrameStacks:
    """The profile's stacks with each location replaced by its frames, innermost inlined function first."""
    table, line_counts, line_frames = _frames_of_locations(profile)
    counts = line_counts[profile.stacks.locations]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    first_lines = np.cumsum(line_counts) - line_counts
    shift = first_lines[profile.stacks.locations] - ends[:-1]
    rows = (np.arange(int(ends[-1])) + np.repeat(shift, counts)).astype(np.int32)
    return FrameStacks(table, ends[profile.stacks.offsets], line_frames[rows], rows)


def inverted(stacks: FrameStacks) -> FrameStacks:
    """The same stacks root first: merged, they make a tree of callers that begins with the leaves."""
    lengths = np.diff(stacks.offsets)
    mirrored = np.repeat(stacks.offsets[:-1] + stacks.offsets[1:] - 1, lengths) - np.arange(len(stacks.frames))
    return FrameStacks(stacks.table, stacks.offsets, stacks.frames[mirrored], stacks.rows[mirrored])


def _frames_of_locations(profile: Profile) -> tuple[FrameTable, NDArray[np.int64], NDArray[np.int32]]:
    """The table of frames; for each location how many it has; the frames of all locations in a row."""
    names = sorted({function.name for function in profile.functions})
    rank_of_name = {name: rank for rank, name in enumerate(names)}
    ranks = np.array([rank_of_name[function.name] for function in profile.functions], np.int64)
    lines = lines_of(profile)
    # A location ends with the function that has the code; those before it were inlined into it.
    inlined = np.ones(len(lines), np.int64)
    inlined[np.cumsum(lines.count) - 1] = 0
    keys = (ranks[lines.function] * _KINDS + lines.kind) * 2 + inlined
    keys, frames = np.unique(keys, return_inverse=True)
    frame_names: list[int] = (keys // (2 * _KINDS)).tolist()
    table = FrameTable(tuple(names[rank] for rank in frame_names), (keys // 2 % _KINDS).astype(np.uint8), keys % 2 == 1)
    return table, lines.count, frames.astype(np.int32)
