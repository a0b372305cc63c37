"""The functions of a comparison, each with all that it calls, and which of them tell most of what changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.diff.changes import Changes, both_sides, compared
from flame.diff.noise import Floats
from flame.diff.union import Union
from flame.frames import FrameStacks
from lockflame.profile import FrameKind

_CANDIDATES = 200
"""So many functions are looked at, those with the largest changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Functions:
    """The changes of all frames of a table, each with all that it calls, and on which paths they are.

    Those of frame `i` are `path[start[i]:start[i + 1]]`, each once; int64 both. Markers, which are no functions, have
    none, and no values.
    """

    changes: Changes
    start: NDArray[np.int64]
    path: NDArray[np.int64]

    def paths(self, frame: int) -> NDArray[np.int64]:
        """The paths of a frame."""
        return self.path[self.start[frame] : self.start[frame + 1]]


def functions_of(union: Union, stacks: FrameStacks) -> Functions:
    """The functions of both sides. `stacks` are those of the union's profile; a function that calls itself counts once
    on a path."""
    count = max(len(stacks), 1)
    of_path = np.repeat(np.arange(len(stacks), dtype=np.int64), np.diff(stacks.offsets))
    is_function = (stacks.table.kinds != FrameKind.MARKER)[stacks.frames]
    # Sorted by hand: numpy 2.4's unique() hashes, and takes ten times as long for millions of pairs.
    pairs = np.sort((stacks.frames.astype(np.int64) * count + of_path)[is_function])
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    frames = len(stacks.table)
    frame, path = pairs // count, pairs % count

    def summed(row: Floats) -> Floats:
        return np.bincount(frame, row[path], frames).astype(np.float64)

    before, after = both_sides(union, summed, frames)
    # What has the same values as another function most often calls it, or is called by it alone: no more to look at.
    looked_at = np.zeros(frames, np.bool_)
    looked_at[np.unique(np.stack((before.value, after.value)), axis=1, return_index=True)[1]] = True
    start = np.searchsorted(frame, np.arange(frames + 1)).astype(np.int64)
    return Functions(compared(before, after, looked_at), start, path)


def most_telling(functions: Functions, values: NDArray[np.int64], covered: NDArray[np.bool_], most: int) -> list[int]:
    """Functions that changed by more than noise, the surest first, none of which another one explains.

    A function is left out if less than half of its change is on paths that aren't `covered` (bool[2, paths]: by what
    became less, and by what became more) by what was chosen before. One of its own functions is taken instead where
    that has half of its change, and changed by a larger part: it is the callee that changed, not the caller.
    `values` int64[paths, 3] are those of the union's samples.
    """
    width, difference = values[:, 0], values[:, 2] - values[:, 1]
    changes = functions.changes
    change = changes.after - changes.before
    sure = np.where(changes.step != 0, np.abs(change) - changes.noise, 0)
    order: list[int] = [row for row in np.argsort(-sure, kind="stable")[:_CANDIDATES].tolist() if sure[row] > 0]
    covered = covered.copy()
    chosen: list[int] = []
    for frame in order:
        if len(chosen) >= most:
            break
        is_more = int(change[frame] > 0)
        own = functions.paths(frame)
        open_difference = np.where(covered[is_more], 0, difference)
        if 2 * abs(int(open_difference[own].sum())) < abs(int(difference[own].sum())):
            continue
        best = _purest(functions, width, open_difference, frame, [row for row in order if row not in chosen])
        chosen.append(best)
        covered[is_more][functions.paths(best)] = True
    return chosen


def _purest(
    functions: Functions, width: NDArray[np.int64], difference: NDArray[np.int64], frame: int, others: list[int]
) -> int:
    """The function that the change of a frame comes from: the frame itself, or by steps one with most of it, half at
    least, that changed by a larger part of itself. `difference` is 0 on paths that don't count."""
    changes = functions.changes
    change = changes.after - changes.before
    part = np.abs(change) / np.maximum(np.maximum(changes.before, changes.after), np.finfo(np.float64).tiny)
    inside = functions.paths(frame)
    while True:
        is_inside = np.zeros(len(width), np.bool_)
        is_inside[inside] = True
        best, least = frame, abs(int(difference[inside].sum())) / 2
        for other in others:
            if part[other] <= part[frame] or change[other] * change[frame] <= 0:
                continue
            paths = functions.paths(other)
            here = paths[is_inside[paths]]
            size = abs(int(difference[here].sum()))
            # With less than half of its weight here it is a caller, or called elsewhere too.
            if size > least and 2 * int(width[here].sum()) >= int(width[paths].sum()):
                best, least = other, size
        if best == frame:
            return frame
        inside = np.intersect1d(inside, functions.paths(best), assume_unique=True)
        frame = best
