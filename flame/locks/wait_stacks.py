"""The stacks of waiters and holders by their functions' names, and as a tree of callers in text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import Profile


@dataclass(frozen=True, slots=True)
class WeightedStack:
    """Functions' names, leaf first, inlined ones too, and the nanoseconds waited or caused with them on the stack.

    `depth` is the index of the function that called the lock; 0 where that isn't known.
    """

    names: tuple[str, ...]
    depth: int
    weight_ns: int


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A run of functions, each the only caller of the one before. `level` is how many runs it stands behind."""

    level: int
    names: tuple[str, ...]
    weight_ns: int


def names_of_stack(profile: Profile, stack: int, first: int = 0, limit: int | None = None) -> tuple[str, ...]:
    """The names of a stack's functions from index `first` on, leaf first, inlined ones too; at most `limit`."""
    locations: list[int] = profile.stacks[stack].tolist()
    lines = chain.from_iterable(profile.locations[location].lines for location in locations)
    end = None if limit is None else first + limit
    return tuple(profile.functions[line.function].name for line in islice(lines, first, end))


def weighted_stacks(
    profile: Profile, stack: NDArray[np.int64], weight_ns: NDArray[np.int64], depth: NDArray[np.int32]
) -> list[WeightedStack]:
    """The stacks of these rows of samples, merged where all names are equal, heaviest first.

    `stack` indexes the profile's stacks, `weight_ns` is each row's; `depth` is each stack's as in `LockRows`.
    """
    distinct, inverse = np.unique(stack, return_inverse=True)
    weights = np.zeros(len(distinct), np.int64)
    np.add.at(weights, inverse, weight_ns)
    merged: dict[tuple[str, ...], int] = defaultdict(int)
    depths: dict[tuple[str, ...], int] = {}
    for index, weight in zip(distinct.tolist(), weights.tolist(), strict=True):
        names = names_of_stack(profile, index)
        merged[names] += weight
        depths.setdefault(names, max(int(depth[index]), 0))
    found = [WeightedStack(names, depths[names], weight) for names, weight in merged.items() if weight > 0]
    return sorted(found, key=lambda row: (-row.weight_ns, row.names))


def callers_tree(
    stacks: Sequence[WeightedStack], least_ns: int, shown: Callable[[str], str] = str
) -> Iterator[TreeNode]:
    """The stacks merged from the functions that called the lock towards the root, without what is below `least_ns`.

    A node comes before what called it, siblings the heaviest first. Names are merged as `shown` makes them.
    """
    paths = [(tuple(map(shown, stack.names[stack.depth :])), stack.weight_ns) for stack in stacks]
    waiting: list[tuple[int, int, list[int]]] = [(0, 0, list(range(len(paths))))]
    while waiting:
        level, position, members = waiting.pop()
        end = position
        if level:
            end = _run_end(paths, members, position)
            weight = sum(paths[member][1] for member in members)
            yield TreeNode(level - 1, paths[members[0]][0][position:end], weight)
        children: dict[str, list[int]] = defaultdict(list)
        for member in members:
            if len(paths[member][0]) > end:
                children[paths[member][0][end]].append(member)
        ranked = [(sum(paths[member][1] for member in group), name) for name, group in children.items()]
        kept = sorted((weight, name) for weight, name in ranked if weight >= least_ns)
        waiting += [(level + 1, end, children[name]) for _, name in kept]


def _run_end(paths: Sequence[tuple[tuple[str, ...], int]], members: Sequence[int], start: int) -> int:
    """Up to which position all of these paths, which share the name at `start`, go on with the same names."""
    first = paths[members[0]][0]
    end = min(len(paths[member][0]) for member in members)
    for position in range(start + 1, end):
        if any(paths[member][0][position] != first[position] for member in members):
            return position
    return max(end, start + 1)
