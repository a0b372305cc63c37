"""The largest changes of a comparison, for the lines above its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.diff.changes import Changes, Measure, both_sides, change_text, compared, shade, whole_change
from flame.diff.inclusive import Functions, most_telling
from flame.diff.noise import Floats
from flame.diff.union import Union
from flame.frames import FrameStacks
from flame.listing import Entry, Listing
from flame.lock_marks import is_lock_mark
from flame.locks.attribution import Attribution, Verdict
from flame.names import short_name
from flame.text import isolated, shortened, showable
from lockflame.profile import FrameKind

_ENTRIES = 6
_LOCKS = 4
"""So many of the entries are lock paths, at most, where functions are listed too."""
_CHARACTERS = 115
_NAME_CHARACTERS = 60
_CALLERS = 2
_PATHS_MOST = 1000
"""So many paths of an entry, those that changed most, are asked for their callers."""
_NO_KIND = -1


@dataclass(frozen=True, slots=True, eq=False)
class _LockPaths:
    """The paths on which a lock is waited for.

    `at` int64[paths] is where in the frames of all stacks the site that called the lock is, `lock` int64[paths] where
    the lock's frame is, or -1; `kind` int64[paths] the kind of a contended lock, or -1. `group` int64[paths] numbers
    what is the same for a reader, lock and site, and is -1 for other paths.
    """

    at: NDArray[np.int64]
    lock: NDArray[np.int64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Something that changed: `paths` int64[n] are those that it is on, `at` int64[n] where in the frames of all
    stacks it is on each. `before`, `after` and `step` are those of `Changes`."""

    text: str
    paths: NDArray[np.int64]
    at: NDArray[np.int64]
    before: float
    after: float
    step: int

    @property
    def size(self) -> float:
        """By how much it changed."""
        return abs(self.after - self.before)


def worst_changes(
    union: Union,
    stacks: FrameStacks,
    attribution: Attribution | None,
    functions: Functions,
    measure: Measure,
    name: str,
) -> Listing:
    """Lock paths and functions by the size of their change, only such that stand out of the noise.

    `name` is what was measured. `stacks` are those of the union's profile. With an attribution, contended paths count
    for the site that called the lock. Functions are with all that they call, and not listed where waits for locks are
    compared.
    """
    changes = whole_change(union)
    whole = float(changes.before[0]), float(changes.after[0])
    words = f", {measure.words}" if measure.words else ""
    change = f"{change_text(*whole)}{'' if changes.step[0] else ', within the noise'}"
    headline = f"{name[:1].upper()}{name[1:]}: {measure.both(*whole)} ({change}){words}."
    values = union.profile.samples.values
    difference = values[:, 2] - values[:, 1]
    locks = _lock_paths(stacks, attribution)
    if (locks.lock >= 0).any():
        found = _of_locks(union, stacks, locks, attribution, _ENTRIES)
    else:
        found = _of_locks(union, stacks, locks, attribution, _LOCKS)
        found += _of_functions(functions, stacks, values, found)
    if not found:
        return Listing(f"{headline} No function or lock path changed by more than the noise.")
    ranked = sorted(found, key=lambda one: -one.size)
    entries = [_entry(index, one, stacks, measure, difference) for index, one in enumerate(ranked, 1)]
    return Listing(f"{headline} The largest changes:", "contention", tuple(entries))


def _entry(index: int, found: _Found, stacks: FrameStacks, measure: Measure, difference: NDArray[np.int64]) -> Entry:
    changed = np.sign(found.after - found.before) * difference[found.paths]
    best = int(np.argmax(changed))
    path, at = int(found.paths[best]), int(found.at[best])
    text = found.text + _most_from(stacks, found, changed)
    return Entry(
        text=f"{index}  {shortened(text, _CHARACTERS)}",
        measure=f"{measure.both(found.before, found.after)}, {change_text(found.before, found.after)}",
        tooltip=showable(stacks.table.names[int(stacks.frames[at])]),
        stack=path,
        depth=int(at - stacks.offsets[path]),
        shade=shade(found.step),
    )


def _of_locks(
    union: Union, stacks: FrameStacks, locks: _LockPaths, attribution: Attribution | None, most: int
) -> list[_Found]:
    """The lock paths with the largest changes."""
    there = locks.group >= 0

    def summed(row: Floats) -> Floats:
        return np.bincount(locks.group[there], row[there], locks.count).astype(np.float64)

    before, after = both_sides(union, summed, locks.count)
    changes = compared(before, after)
    size = np.where(changes.step != 0, np.abs(changes.after - changes.before), 0)
    rows: list[int] = [row for row in np.argsort(-size, kind="stable")[:most].tolist() if size[row] > 0]
    found: list[_Found] = []
    for row in rows:
        paths = np.flatnonzero(locks.group == row)
        text = _lock_text(stacks, locks, attribution, int(paths[0]))
        found.append(_found(text, paths, locks.at[paths], changes, row))
    return found


def _of_functions(
    functions: Functions, stacks: FrameStacks, values: NDArray[np.int64], locks: list[_Found]
) -> list[_Found]:
    """The functions that tell most of what the lock paths don't."""
    covered = np.zeros((2, len(stacks)), np.bool_)
    for one in locks:
        covered[int(one.after > one.before), one.paths] = True
    found: list[_Found] = []
    for frame in most_telling(functions, values, covered, _ENTRIES - len(locks)):
        places = np.flatnonzero(stacks.frames == frame)
        own = np.searchsorted(stacks.offsets, places, side="right") - 1
        outermost = np.append(np.diff(own) != 0, True)  # of a function that calls itself
        found.append(_found(_name(stacks, frame), own[outermost], places[outermost], functions.changes, frame))
    return found


def _found(text: str, paths: NDArray[np.int64], at: NDArray[np.int64], changes: Changes, row: int) -> _Found:
    return _Found(text, paths, at, float(changes.before[row]), float(changes.after[row]), int(changes.step[row]))


def _lock_paths(stacks: FrameStacks, attribution: Attribution | None) -> _LockPaths:
    paths = len(stacks)
    start, end = stacks.offsets[:-1], stacks.offsets[1:]
    at = np.full(paths, -1, np.int64)
    kind = np.full(paths, _NO_KIND, np.int64)
    if attribution is not None:
        contended = attribution.verdict == Verdict.CONTENDED
        at = np.where(contended, start + attribution.depth, at)
        kind = np.where(contended, attribution.kind, kind)
    lock = _lock_frames(stacks)
    has_caller = (lock >= 0) & (lock + 1 < end)
    at = np.where(has_caller, lock + 1, np.where(lock >= 0, lock, at))
    frames = np.append(stacks.frames, -1)
    width = len(stacks.table) + 1
    keys = ((frames[lock] + 1) * width + frames[at] + 1) * (int(kind.max(initial=0)) + 2) + kind + 1
    distinct, group = np.unique(keys, return_inverse=True)
    return _LockPaths(at, lock, kind, np.where(at >= 0, group, -1), len(distinct))


def _lock_frames(stacks: FrameStacks) -> NDArray[np.int64]:
    """Where each path's frame of a lock is, as pictures of waits have one; -1 for none."""
    table = stacks.table
    is_mark = np.array(
        [kind == FrameKind.MARKER and is_lock_mark(name) for name, kind in zip(table.names, table.kinds, strict=True)],
        np.bool_,
    )
    marks = np.append(np.flatnonzero(is_mark[stacks.frames]), len(stacks.frames))
    mark = marks[np.searchsorted(marks, stacks.offsets[:-1])]
    return np.where(mark < stacks.offsets[1:], mark, -1)


def _lock_text(stacks: FrameStacks, locks: _LockPaths, attribution: Attribution | None, path: int) -> str:
    """`THD::set_query → mutex`, or in pictures of waits `LOCK_open (mutex) in open_table`."""
    name = _name(stacks, int(stacks.frames[locks.at[path]]))
    lock = int(locks.lock[path])
    if lock < 0:
        return f"{name} → {attribution.kinds[int(locks.kind[path])]}" if attribution is not None else name
    mark = isolated(shortened(stacks.table.names[int(stacks.frames[lock])][1:-1], _NAME_CHARACTERS))
    return mark if lock == locks.at[path] else f"{mark} in {name}"


def _most_from(stacks: FrameStacks, found: _Found, changed: NDArray[np.int64]) -> str:
    """Who called for most of a change: `, from f < g`. Empty where no callers have more than half of it.

    `changed` int64[n] is by how much each of its paths changed in the direction of all together.
    """
    shares: dict[tuple[int, ...], int] = {}
    largest: list[int] = np.argsort(-np.abs(changed), kind="stable")[:_PATHS_MOST].tolist()
    for index in largest:
        first, end = int(found.at[index]) + 1, int(stacks.offsets[found.paths[index] + 1])
        callers = tuple(stacks.frames[first : min(first + _CALLERS, end)].tolist())
        shares[callers] = shares.get(callers, 0) + int(changed[index])
    most = max(shares, key=lambda callers: shares[callers])
    if 2 * shares[most] <= int(changed.sum()):
        return ""
    names = " < ".join(_name(stacks, frame) for frame in most)
    return f", from {names}" if names else ""


def _name(stacks: FrameStacks, frame: int) -> str:
    return isolated(shortened(short_name(stacks.table.names[frame]), _NAME_CHARACTERS))
