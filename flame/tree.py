"""The stack tree: stacks merged from the root up, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from flame.frames import FrameStacks, FrameTable, choose_sample_type, frame_stacks, stack_weights
from lockflame.profile import FrameKind, Profile, SampleType

_Number = TypeVar("_Number", np.int64, np.float64)

ROOT = 0
"""The node that all stacks share. It is no function: its frame is -1."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Stacks merged by their frames from the root. Row 0 is the root; each level's rows follow the level before.

    Within a level, rows are ordered by parent and then by name, so that the children of a node are neighbours
    and `parent` never falls. `parent`, `frame` (an id of `frames`, -1 for the root) and `depth` are int32[n],
    `kind` (values of `FrameKind`; the root is a marker) is uint8[n], the weights are int64[n] in the unit of
    `sample_type`. `self_weight` is that of the stacks which end at the node, `total_weight` of all through it.
    `stacks` is what was merged, `stack_weight` int64[len(stacks)] with which weight, and `end_node`
    int32[len(stacks)] the node where each ends, -1 for those without weight.
    """

    stacks: FrameStacks
    stack_weight: NDArray[np.int64]
    end_node: NDArray[np.int32]
    sample_type: SampleType
    parent: NDArray[np.int32]
    frame: NDArray[np.int32]
    kind: NDArray[np.uint8]
    depth: NDArray[np.int32]
    self_weight: NDArray[np.int64]
    total_weight: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def frames(self) -> FrameTable:
        """What the ids in `frame` stand for."""
        return self.stacks.table

    @property
    def total(self) -> int:
        """The weight of the whole profile, in the unit of `sample_type`."""
        return int(self.total_weight[ROOT])

    def level_starts(self) -> NDArray[np.int64]:
        """The first row of each level and, at the end, the number of rows: int64[levels + 1]."""
        levels = int(self.depth[-1]) + 1
        return np.searchsorted(self.depth, np.arange(levels + 1)).astype(np.int64)


class _Level(NamedTuple):
    parent: NDArray[np.int64]
    frame: NDArray[np.int64]
    total: NDArray[np.int64]
    ended: NDArray[np.int64]
    ended_stacks: NDArray[np.int64]
    ended_rows: NDArray[np.int64]


def build_tree(profile: Profile, sample_type: SampleType | None = None) -> Tree:
    """Merge a profile's stacks by one sample type, chosen as `choose_sample_type` does.

    Stacks without weight have no nodes. The tree of a profile without samples is the root alone.
    """
    chosen = choose_sample_type(profile, sample_type)
    return merge(frame_stacks(profile), stack_weights(profile, chosen), chosen)


def merge(stacks: FrameStacks, weights: NDArray[np.int64], sample_type: SampleType, least: float = 0) -> Tree:
    """Merge stacks from their last frame on. `weights` is int64[len(stacks)], in the unit of `sample_type`.

    A node that weighs less than `least` has no children: its stacks are cut there, and `end_node` is where.
    """
    levels = list(_levels(stacks, weights, least))
    frame = np.concatenate([level.frame for level in levels]).astype(np.int32)
    kind = np.full(len(frame), FrameKind.MARKER, np.uint8)
    kind[1:] = stacks.table.kinds[frame[1:]]
    end_node = np.full(len(stacks), -1, np.int32)
    end_node[np.concatenate([level.ended_stacks for level in levels])] = np.concatenate(
        [level.ended_rows for level in levels]
    )
    return Tree(
        stacks=stacks,
        stack_weight=weights,
        end_node=end_node,
        sample_type=sample_type,
        parent=np.concatenate([level.parent for level in levels]).astype(np.int32),
        frame=frame,
        kind=kind,
        depth=np.repeat(np.arange(len(levels), dtype=np.int32), [len(level.frame) for level in levels]),
        self_weight=np.concatenate([level.ended for level in levels]),
        total_weight=np.concatenate([level.total for level in levels]),
    )


def node_weights(tree: Tree, weights: NDArray[_Number]) -> NDArray[_Number]:
    """What of other weights of the stacks, int64[len(stacks)], goes through each node: int64[len(tree)].

    The same for weights that are float64. Stacks that have no node are left out.
    """
    result = np.zeros(len(tree), weights.dtype)
    merged = tree.end_node >= 0
    np.add.at(result, tree.end_node[merged], weights[merged])
    starts: list[int] = tree.level_starts().tolist()
    for first, end in zip(starts[-2:0:-1], starts[:1:-1], strict=True):
        np.add.at(result, tree.parent[first:end], result[first:end])
    return result


def _levels(stacks: FrameStacks, weights: NDArray[np.int64], least: float) -> Iterator[_Level]:
    """One level of the tree after the other; each looks at the stacks that reach it, all at once."""
    alive = np.flatnonzero(weights)
    weight = weights[alive]
    starts, ends = stacks.offsets[alive], stacks.offsets[alive + 1]
    root = np.array([-1], np.int64)
    parent, frame = root, root
    row = np.zeros(len(alive), np.int64)
    first_row = 0
    while len(parent):
        reaches = ends > starts
        total, ended = np.zeros((2, len(parent)), np.int64)
        np.add.at(total, row, weight)
        np.add.at(ended, row[~reaches], weight[~reaches])
        reaches &= total[row] >= least
        yield _Level(parent, frame, total, ended, alive[~reaches], first_row + row[~reaches])
        alive, row, weight, starts, ends = (
            alive[reaches],
            row[reaches],
            weight[reaches],
            starts[reaches],
            ends[reaches] - 1,
        )
        keys, child = np.unique(row * len(stacks.table) + stacks.frames[ends], return_inverse=True)
        parent = first_row + keys // max(len(stacks.table), 1)
        frame = keys % max(len(stacks.table), 1)
        first_row += len(total)
        row = child
