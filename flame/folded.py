"""Stacks as text, one a line: the input of FlameGraph and its relatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flame.frames import FrameTable
from flame.text import showable
from flame.tree import ROOT, build_tree
from lockflame.profile import FrameKind, Profile, SampleType

NO_STACK = "[no stack]"
"""The one frame of samples that have none, so that the lines' sum is the profile's."""

# FlameGraph's; it gives a frame one of them, inlined first (stackcollapse-perf.pl).
_INLINED = "_[i]"
_SUFFIXES = {FrameKind.KERNEL: "_[k]", FrameKind.JIT: "_[j]"}


def folded_lines(profile: Profile, sample_type: SampleType | None = None) -> Iterator[str]:
    """Each distinct stack as `root;…;leaf WEIGHT`, without a line's end, in the same order on every run.

    The weight is in the sample type's unit (chosen as `choose_sample_type` does; nanoseconds for CPU time).
    Inlined frames end in `_[i]`, other kernel frames in `_[k]`, other JIT frames in `_[j]`. Names are whole; a `;`
    within one becomes `:`, and what can't stand in a line of UTF-8 is replaced as `showable` does.
    """
    tree = build_tree(profile, sample_type)
    labels = _labels(tree.frames)
    parents: list[int] = tree.parent.tolist()
    frames: list[int] = tree.frame.tolist()
    ends: list[int] = np.flatnonzero(tree.self_weight).tolist()
    for node in ends:
        path: list[str] = []
        ancestor = node
        while ancestor != ROOT:
            path.append(labels[frames[ancestor]])
            ancestor = parents[ancestor]
        yield f"{';'.join(reversed(path)) or NO_STACK} {tree.self_weight[node]}"


def _labels(table: FrameTable) -> list[str]:
    suffixes = [
        _INLINED if inlined else _SUFFIXES.get(FrameKind(kind), "")
        for kind, inlined in zip(table.kinds.tolist(), table.inlined.tolist(), strict=True)
    ]
    return [showable(name).replace(";", ":") + suffix for name, suffix in zip(table.names, suffixes, strict=True)]
