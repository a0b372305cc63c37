"""The largest changes of a comparison, for the lines above its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.diff.changes import Changes, Measure, change_text, compared, shade, side_values
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
_CHARACTERS = 100
_NO_KIND = -1


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """What a path's time is spent on: in a lock, at the site that called it, or else in its leaf's own code.

    `at` int64[paths] is where in the frames of all stacks the site or leaf is, -1 for empty paths; `lock` int64[paths]
    where the lock's frame is, or -1; `kind` int64[paths] the kind of a contended lock, or -1. `group` int64[paths]
    numbers what is the same for a reader, and is -1 for empty paths.
    """

    at: NDArray[np.int64]
    lock: NDArray[np.int64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    count: int


def worst_changes(
    union: Union, stacks: FrameStacks, attribution: Attribution | None, measure: Measure, name: str
) -> Listing:
    """Lock paths and functions by the size of their change, only such that stand out of the noise.

    `name` is what was measured. `stacks` are those of the union's profile. With an attribution, contended paths count
    for the site that called the lock.
    """
    groups = _groups(stacks, attribution)
    changes = _of_groups(union, groups)
    whole = _whole(union)
    words = f", {measure.words}" if measure.words else ""
    headline = f"{name[:1].upper()}{name[1:]}: {measure.both(*whole)} ({change_text(*whole)}){words}."
    size = np.where(changes.step != 0, np.abs(changes.after - changes.before), 0)
    order: list[int] = [row for row in np.argsort(-size, kind="stable")[:_ENTRIES].tolist() if size[row] > 0]
    if not order:
        return Listing(f"{headline} No function or lock path changed by more than the noise.")
    difference = np.diff(union.profile.samples.values[:, 1:], axis=1)[:, 0]
    entries: list[Entry] = []
    for index, row in enumerate(order):
        paths = np.flatnonzero(groups.group == row)
        sign = np.sign(changes.after[row] - changes.before[row])
        path = int(paths[np.argmax(sign * difference[paths])])
        text = _text(stacks, groups, attribution, path)
        before, after = float(changes.before[row]), float(changes.after[row])
        entries.append(
            Entry(
                text=f"{index + 1}  {shortened(text, _CHARACTERS)}",
                measure=f"{measure.both(before, after)}, {change_text(before, after)}",
                tooltip=showable(stacks.table.names[int(stacks.frames[groups.at[path]])]),
                stack=path,
                depth=int(groups.at[path] - stacks.offsets[path]),
                shade=shade(int(changes.step[row])),
            )
        )
    return Listing(f"{headline} The largest changes:", "contention", tuple(entries))


def _groups(stacks: FrameStacks, attribution: Attribution | None) -> _Groups:
    paths = len(stacks)
    start, end = stacks.offsets[:-1], stacks.offsets[1:]
    at = np.where(end > start, start, -1)
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
    return _Groups(at, lock, kind, np.where(at >= 0, group, -1), len(distinct))


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


def _of_groups(union: Union, groups: _Groups) -> Changes:
    there = groups.group >= 0

    def summed(row: Floats) -> Floats:
        return np.bincount(groups.group[there], row[there], groups.count).astype(np.float64)

    return compared(*(side_values(side, summed, groups.count) for side in (union.before, union.after)))


def _whole(union: Union) -> tuple[float, float]:
    before, after = (float(side.weights.sum()) * side.scale.factor for side in (union.before, union.after))
    return before, after


def _text(stacks: FrameStacks, groups: _Groups, attribution: Attribution | None, path: int) -> str:
    name = isolated(short_name(stacks.table.names[int(stacks.frames[groups.at[path]])]))
    lock = int(groups.lock[path])
    if lock >= 0:
        mark = isolated(stacks.table.names[int(stacks.frames[lock])][1:-1])
        return mark if lock == groups.at[path] else f"{mark} in {name}"
    if attribution is not None and groups.kind[path] != _NO_KIND:
        return f"{name} → {attribution.kinds[int(groups.kind[path])]}"
    return f"{name} itself"
