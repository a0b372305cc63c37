"""What a picture draws of a tree: the frames wide enough to be seen, as columns that are small whatever the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flame.contention import Contention
from flame.frames import FrameStacks, frame_stacks, inverted, stack_weights
from flame.layout import Layout, lay_out
from flame.listing import Entry
from flame.tree import ROOT, Tree, merge, node_weights
from lockflame.profile import Profile, SampleType


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The frames of one view, level by level, each level from left to right, the root first.

    `parent` int32[n] indexes these rows (-1 for the root), `frame` int32[n] the table of frames (-1 likewise);
    `total`, `own` and `contended` are int64[n] in the unit of `sample_type`. `left_out` counts the frames that are
    too narrow. `paths` are the rows that the worst lock paths lead to, for a view from the root.
    `hidden` int64[len(table)] is by frame the most that its frames which were left out weigh. `more` are further
    columns that the script knows, int64[n] each. `weight` is what a weight of 1 is in the unit of `sample_type`.
    """

    sample_type: SampleType
    parent: NDArray[np.int32]
    frame: NDArray[np.int32]
    total: NDArray[np.int64]
    own: NDArray[np.int64]
    contended: NDArray[np.int64]
    hidden: NDArray[np.int64]
    left_out: int
    paths: tuple[int, ...] = ()
    more: Mapping[str, NDArray[np.int64]] = field(default_factory=dict[str, NDArray[np.int64]])
    weight: float = 1

    def __len__(self) -> int:
        return len(self.parent)


def in_other_type(view: View, profile: Profile, sample_type: SampleType) -> View | None:
    """The same view of another sample type, if all weights of that one are in proportion to those of this one."""
    here, there = stack_weights(profile, view.sample_type), stack_weights(profile, sample_type)
    divisor, factor = int(np.gcd.reduce(here, initial=0)), int(np.gcd.reduce(there, initial=0))
    if not divisor or not np.array_equal(here // divisor, there // max(factor, 1)):
        return None
    columns = {name: getattr(view, name) // divisor * factor for name in ("total", "own", "contended", "hidden")}
    return replace(view, sample_type=sample_type, more={}, **columns)


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """A tree with all that a view and a drawing take from it. `contended` is int64[len(tree)]."""

    tree: Tree
    layout: Layout
    contended: NDArray[np.int64]
    is_inverted: bool


Pair = tuple[View, View]
"""The views from the root and from the leaf."""


class Merger:
    """Makes the trees of a profile, one at a time: each may be large."""

    def __init__(
        self, profile: Profile, contention: Contention | None, *, picture_width: float, min_width: float
    ) -> None:
        self._profile = profile
        self._contention = contention
        self._picture_width = picture_width
        self._min_width = min_width
        self._stacks = frame_stacks(profile)

    @property
    def stacks(self) -> FrameStacks:
        """The profile's stacks, leaf first."""
        return self._stacks

    def merged(self, sample_type: SampleType, *, from_leaf: bool, is_pruned: bool = False) -> Merged:
        """The stacks merged from the root, or from the leaf; if pruned, without what is on frames too narrow."""
        stacks = inverted(self._stacks) if from_leaf else self._stacks
        weights = stack_weights(self._profile, sample_type)
        least = int(weights.sum()) * self._min_width / self._picture_width if is_pruned else 0
        tree = merge(stacks, weights, sample_type, least)
        layout = lay_out(tree, picture_width=self._picture_width, min_width=self._min_width)
        if self._contention is None or not self._contention.is_notable:
            contended = np.zeros(len(tree), np.int64)
        else:
            contended = node_weights(tree, self._contention.weights(self._profile, sample_type))
        return Merged(tree, layout, contended, from_leaf)

    def view(self, merged: Merged, entries: Sequence[Entry]) -> View:
        """The part of a tree that is drawn, and where in it the entries of the listing above lead."""
        tree, node = merged.tree, merged.layout.node
        row = np.full(len(tree) + 1, -1, np.int32)  # one more for the root's parent
        row[node] = np.arange(len(node))
        is_hidden = row[:-1] < 0
        is_hidden[0] = False
        hidden = np.zeros(len(self._stacks.table), np.int64)
        np.add.at(hidden, tree.frame[is_hidden], tree.total_weight[is_hidden])
        return View(
            sample_type=tree.sample_type,
            parent=row[tree.parent[node]],
            frame=tree.frame[node],
            total=tree.total_weight[node],
            own=tree.self_weight[node],
            contended=merged.contended[node],
            hidden=hidden,
            left_out=merged.layout.left_out,
            paths=() if merged.is_inverted else tuple(_drawn(tree, row, _node_of(tree, entry)) for entry in entries),
        )


def all_views(
    profile: Profile,
    merger: Merger,
    chosen: SampleType,
    known: Mapping[tuple[SampleType, bool], View],
    entries: Sequence[Entry],
) -> list[Pair]:
    """The chosen sample type's views, and those of the others that have any weight. What is `known`, by sample type
    and whether it begins at the leaf, isn't made again."""
    others = [kind for kind in profile.sample_types if kind != chosen and stack_weights(profile, kind).any()]
    made = dict(known)
    pairs: list[Pair] = []
    for kind in (chosen, *others):
        pair: list[View] = []
        for from_leaf in (False, True):
            view = made.get((kind, from_leaf))
            if view is None and kind != chosen:
                view = in_other_type(made[chosen, from_leaf], profile, kind)
            if view is None:
                view = merger.view(merger.merged(kind, from_leaf=from_leaf, is_pruned=from_leaf), entries)
            made[kind, from_leaf] = view
            pair.append(view)
        pairs.append((pair[0], pair[1]))
    return pairs


def _node_of(tree: Tree, entry: Entry) -> int:
    """The node of a tree, merged from the root, that an entry leads to; the root if there is none."""
    node = int(tree.end_node[entry.stack])
    for _ in range(entry.depth):
        if node <= ROOT:
            break
        node = int(tree.parent[node])
    return max(node, ROOT)


def _drawn(tree: Tree, row: NDArray[np.int32], node: int) -> int:
    """The row of a node, or that of its nearest caller which is drawn."""
    while node > 0 and row[node] < 0:
        node = int(tree.parent[node])
    return max(int(row[node]), 0)
