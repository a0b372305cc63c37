"""The heaviest functions of a profile, for a summary in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flame.frames import FrameStacks, FrameTable, frame_stacks, stack_weights
from lockflame.profile import CPU, FrameKind, Profile


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function's CPU time: `self_ns` in its own code, `total_ns` with all that it called, in nanoseconds.

    Where it was inlined counts as well as where it wasn't.

    `share` is that of the profile's CPU time, 0 to 1, of the column that the rows are ordered by. `name` is as
    the profile has it: not escaped for a terminal or a file.
    """

    name: str
    kind: FrameKind
    self_ns: int
    total_ns: int
    share: float


def top_functions(profile: Profile, limit: int, *, by: Literal["self", "total"] = "self") -> list[FunctionRow]:
    """The functions with the most CPU time, heaviest first, at most `limit`, none without any.

    A function that calls itself counts once for each sample in `total_ns`. Markers such as a truncated stack's
    are no functions. Empty when the profile has no CPU time.
    """
    weights = stack_weights(profile, CPU)
    whole = int(weights.sum())
    if whole <= 0:
        return []
    stacks = _by_function(frame_stacks(profile))
    self_ns, total_ns = _self_weights(stacks, weights), _total_weights(stacks, weights)
    ranked, other = (self_ns, total_ns) if by == "self" else (total_ns, self_ns)
    order = np.lexsort((-other, -ranked))
    shown: list[int] = order[(ranked[order] > 0) & (stacks.table.kinds[order] != FrameKind.MARKER)].tolist()
    return [
        FunctionRow(
            name=stacks.table.names[frame],
            kind=FrameKind(stacks.table.kinds[frame]),
            self_ns=int(self_ns[frame]),
            total_ns=int(total_ns[frame]),
            share=int(ranked[frame]) / whole,
        )
        for frame in shown[: max(limit, 0)]
    ]


def _by_function(stacks: FrameStacks) -> FrameStacks:
    """The same stacks with one frame of each function, whether it was inlined or not."""
    table = stacks.table
    names = np.array([before != name for before, name in zip(table.names, table.names[1:], strict=False)], bool)
    is_first = np.ones(len(table), bool)
    is_first[1:] = names | (np.diff(table.kinds) != 0)
    firsts = np.flatnonzero(is_first)
    merged = FrameTable(
        tuple(table.names[frame] for frame in firsts.tolist()), table.kinds[firsts], np.zeros(len(firsts), np.bool_)
    )
    functions = (np.cumsum(is_first) - 1).astype(np.int32)
    return FrameStacks(merged, stacks.offsets, functions[stacks.frames], stacks.rows)


def _self_weights(stacks: FrameStacks, weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The weight of the stacks whose leaf each frame is, int64[frames]."""
    result = np.zeros(len(stacks.table), np.int64)
    filled = np.flatnonzero(np.diff(stacks.offsets))
    np.add.at(result, stacks.frames[stacks.offsets[filled]], weights[filled])
    return result


def _total_weights(stacks: FrameStacks, weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The weight of the stacks that hold each frame at least once, int64[frames]."""
    result = np.zeros(len(stacks.table), np.int64)
    lengths = np.diff(stacks.offsets)
    stack = np.repeat(np.arange(len(stacks)), lengths)
    frames = stacks.frames[stacks.offsets[0] : stacks.offsets[-1]]
    # Sorted by hand: numpy 2.4's unique() hashes, and takes ten times as long for millions of pairs.
    pairs = np.sort(stack * len(stacks.table) + frames)
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    np.add.at(result, pairs % max(len(stacks.table), 1), weights[pairs // max(len(stacks.table), 1)])
    return result
