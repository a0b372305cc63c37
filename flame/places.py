"""Where in the source and in which file the code of a frame is, with how much of the frame's weight."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.lines import lines_of
from flame.text import percent, showable
from flame.tree import ROOT, Tree
from lockflame.profile import Function, Profile

_LINES_MOST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The places that the weight of some nodes of a tree is at: a function's line within a mapping.

    The rows of the node at index `i` are `starts[i]:starts[i + 1]`, the heaviest first; `starts` is int64[nodes + 1].
    Each row has a `function` (an index of the profile's), a `mapping` (likewise, or -1), a source `line`, 0 where
    it isn't known, all int64, and a `weight`, int64 in the unit of the tree's sample type. `modules` are the names to
    show of the profile's mappings, and at the end one for none; those without a name are empty.
    """

    starts: NDArray[np.int64]
    function: NDArray[np.int64]
    mapping: NDArray[np.int64]
    line: NDArray[np.int64]
    weight: NDArray[np.int64]
    modules: tuple[str, ...]


def places_of(profile: Profile, tree: Tree, nodes: NDArray[np.int32]) -> Places:
    """The places of the given nodes of the profile's tree, in the nodes' order. The root has none."""
    position = np.full(len(tree), -1, np.int64)
    position[nodes] = np.arange(len(nodes))
    position[ROOT] = -1
    lines = lines_of(profile)
    rows_in_all = max(len(lines), 1)
    # Level by level, so that no more than a level's pairs are ever in memory.
    pairs, weights = _summed(
        [_summed([(node * rows_in_all + row, weight)]) for node, row, weight in _frames_of_nodes(tree, position)]
    )
    node, row = pairs // rows_in_all, pairs % rows_in_all
    function, mapping, line = (column[row] for column in (lines.function, lines.mapping, lines.line))
    order = np.lexsort((line, mapping, function, node))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in (node, function, mapping, line)])
    firsts = np.flatnonzero(is_first)
    weights = np.add.reduceat(weights[order], firsts) if len(firsts) else weights
    order = order[firsts]
    ranks = np.lexsort((-weights, node[order]))
    order = order[ranks]
    starts = np.searchsorted(node[order], np.arange(len(nodes) + 1)).astype(np.int64)
    modules = (*(module_name(mapping.path) for mapping in profile.mappings), "")
    return Places(starts, function[order], mapping[order], line[order], weights[ranks], modules)


def place_texts(profile: Profile, places: Places, index: int) -> tuple[str, list[str]]:
    """Where the code of the node at this index is, for a reader; what isn't known is left out. All of it is showable.

    First the files that hold it, such as `libfoo.so.1`; then lines of text on its source: where the function is
    declared, and the hottest of its lines with their shares.
    """
    rows = slice(int(places.starts[index]), int(places.starts[index + 1]))
    mappings: list[int] = places.mapping[rows].tolist()
    names = dict.fromkeys([places.modules[mapping] for mapping in mappings])
    modules = ", ".join([name for name in names if name][:_LINES_MOST])
    function_ids: list[int] = places.function[rows].tolist()
    functions = [profile.functions[function] for function in function_ids]
    source = next((function for function in functions if function.path), None)
    declared = f":{source.line}" if source and source.line > 0 else ""
    texts = [showable(source.path) + declared] if source else []
    lines: list[int] = places.line[rows].tolist()
    if any(lines):
        texts += _hottest(functions, lines, places.weight[rows].tolist())
    return modules, texts


def module_name(path: str) -> str:
    """The name to show of a file with code: the last part of its path."""
    return showable(os.path.basename(path.rstrip("/")) or path)


def _frames_of_nodes(
    tree: Tree, position: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]]:
    """(position, row of its line, weight) of all stacks' frames whose node has a position: the leaves, their
    callers, and so on."""
    stacks = tree.stacks
    alive = np.flatnonzero(tree.end_node > ROOT)
    node, weight = tree.end_node[alive].astype(np.int64), tree.stack_weight[alive]
    at = stacks.offsets[alive]
    while len(node):
        at_node = position[node]
        chosen = at_node >= 0
        if chosen.any():
            yield at_node[chosen], stacks.rows[at[chosen]], weight[chosen]
        node = tree.parent[node].astype(np.int64)
        left = node > ROOT
        node, weight, at = node[left], weight[left], at[left] + 1


def _summed(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct keys in order, and the sum of each one's weights."""
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    keys, weights = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    order = np.argsort(keys)
    keys = keys[order]
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[firsts], np.add.reduceat(weights[order], firsts)


def _hottest(functions: list[Function], lines: list[int], weights: list[int]) -> list[str]:
    """A text such as `at lock.cc:123 (80 %), :130 (15 %), 7 more lines`; none when no line is known."""
    summed: dict[tuple[str, int], int] = {}
    for function, line, weight in zip(functions, lines, weights, strict=True):
        if line > 0:
            key = (os.path.basename(function.path), line)
            summed[key] = summed.get(key, 0) + weight
    ranked = sorted(summed.items(), key=lambda item: (-item[1], item[0]))
    whole = sum(weights)
    texts: list[str] = []
    file_before = None
    for (file, line), weight in ranked[:_LINES_MOST]:
        shown = "" if file == file_before else f"{showable(file)}:" if file else "line "
        texts.append(f"{shown or ':'}{line} ({percent(weight, whole)})")
        file_before = file
    more = len(ranked) - len(texts)
    if more > 0:
        texts.append(f"{more:,} more line{'s' if more > 1 else ''}")
    return [f"at {', '.join(texts)}"] if texts else []
