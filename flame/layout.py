"""From a stack tree to rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.tree import Tree

MIN_WIDTH = 0.5
"""The width in pixels below which a frame is left out unless told otherwise: it can't be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Rectangles of the frames that are wide enough, a level's from left to right, the root first.

    `node` int32[n] are rows of the tree, `level` int32[n] is 0 for the root; `x` and `width` are float64[n] in
    pixels of a picture that is `picture_width` wide. `left_out` counts the frames narrower than `min_width`.
    """

    node: NDArray[np.int32]
    level: NDArray[np.int32]
    x: NDArray[np.float64]
    width: NDArray[np.float64]
    picture_width: float
    min_width: float
    left_out: int

    def __len__(self) -> int:
        return len(self.node)

    @property
    def levels(self) -> int:
        """How many rows the picture has, the root's among them."""
        return int(self.level[-1]) + 1 if len(self) else 0


def lay_out(tree: Tree, *, picture_width: float = 1200.0, min_width: float = MIN_WIDTH) -> Layout:
    """Give each node its place: children beside each other from their parent's left edge, in the tree's order.

    Widths are in pixels and in proportion to total weight. What a parent has left at its right is its self
    weight. A tree without weight has no rectangles.
    """
    if tree.total <= 0:
        none = np.zeros(0, np.int32)
        return Layout(none, none, none.astype(np.float64), none.astype(np.float64), picture_width, min_width, 0)
    width = _pixels(tree.total_weight, tree, picture_width)
    node = np.flatnonzero(width >= min_width).astype(np.int32)
    return Layout(
        node=node,
        level=tree.depth[node],
        x=_pixels(_left_edges(tree)[node], tree, picture_width),
        width=width[node],
        picture_width=picture_width,
        min_width=min_width,
        left_out=len(tree) - len(node),
    )


def _pixels(weights: NDArray[np.int64], tree: Tree, picture_width: float) -> NDArray[np.float64]:
    # In this order whole results come out whole.
    return weights.astype(np.float64) * picture_width / tree.total


def _left_edges(tree: Tree) -> NDArray[np.int64]:
    """Where each node starts, in units of weight: exact, so that deep stacks gather no rounding."""
    before = np.cumsum(tree.total_weight) - tree.total_weight
    eldest = np.searchsorted(tree.parent, tree.parent)
    edges = before - before[eldest]
    starts = tree.level_starts()
    for first, end in zip(starts[1:-1].tolist(), starts[2:].tolist(), strict=True):
        edges[first:end] += edges[tree.parent[first:end]]
    return edges
