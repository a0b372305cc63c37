"""Which stacks end in lock machinery, and which frame called it.

A stack is looked at from its leaf towards its root, inlined functions being frames of their own, as far as the first
`boundary` frame: what lies beyond was interrupted, and called nothing of it.

1. The *machinery* of a stack reaches from its leaf to the outermost frame there that a rule calls a lock's (locking,
   contended, waiting or mechanism): whatever such a frame calls belongs to it, named or not. `wrapper` frames that
   follow directly belong to it too. Without such a frame the stack isn't charged.
2. The *site* is the next frame: the first caller outside. Where the stack ends before, it is the last frame.
3. The stack is *contended* where the machinery holds a contended frame of user space. A mechanism (futex), or a
   contended frame of the kernel, makes it contended as well, unless the outermost user frame of a lock is `waiting`:
   a thread that waits for work on a condition variable contends for nothing, though it goes through the futex too.
   A thread that wakes from it and then waits for the mutex does: glibc has a contended frame of its own for that.
   Every other charged stack is *locking*.
4. The *kind* is that of the outermost user frame of a lock, which of a contended stack is no waiting one if it has
   another. Without any in user space it is that of the outermost wrapper that has one, else that of the machinery's
   outermost frame.

Stacks known to have been taken within a futex call are judged as if their leaf were a mechanism, named or not: each is
charged, to the first frame that is no wrapper, and its kind is `OWN` where no frame says more.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.frames import stack_weights
from flame.lines import lines_of
from flame.locks.rules import LockRules, Match, Meaning, Space
from lockflame.profile import FrameKind, Function, Profile, SampleType

OWN = "own"
"""The kind of a futex that no rule knows: the program's own lock."""

_Positions = NDArray[np.int64]


class Verdict(enum.IntEnum):
    """What a stack's time was spent on, as far as locks go."""

    NONE = 0
    LOCKING = 1
    CONTENDED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The verdict on each stack of a profile, one row per stack.

    `verdict` is uint8 (values of `Verdict`). Where it is NONE, the other columns are -1, else: `kind` (int16) indexes
    `kinds`; `location` (int32) indexes `Profile.locations` and `line` (int32) that location's `lines`: the site;
    `depth` (int32) is how many frames, inlined ones too, the stack has on the leaf's side of the site.
    """

    verdict: NDArray[np.uint8]
    kind: NDArray[np.int16]
    kinds: tuple[str, ...]
    location: NDArray[np.int32]
    line: NDArray[np.int32]
    depth: NDArray[np.int32]

    def weights(self, profile: Profile, sample_type: SampleType, verdict: Verdict) -> NDArray[np.int64]:
        """The weight of each stack with that verdict, and 0 for the others: int64[stacks], in the type's unit."""
        return np.where(self.verdict == verdict, stack_weights(profile, sample_type), 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """The lines of all locations in a row: location `i` has those from `first[i]` on. One entry each otherwise."""

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    means: NDArray[np.uint8]
    kind: NDArray[np.int16]
    in_kernel: NDArray[np.bool_]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """All stacks' frames in a row, leaf first: stack `i` has those from `start[i]` up to `end[i]`."""

    line: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def attribute(profile: Profile, rules: LockRules, in_futex: NDArray[np.bool_] | None = None) -> Attribution:
    """Decide on each stack of the profile. Rules are asked once for each function of a binary.

    `in_futex`, bool[stacks], tells which were taken within a futex call. Empty ones and those that have a marker as
    their leaf aren't charged for that.
    """
    lines = _classified(profile, rules)
    frames = _frames(profile, lines)
    count = len(profile.stacks)
    in_futex = np.zeros(count, np.bool_) if in_futex is None else in_futex & _begins_with_code(profile)
    verdict = np.zeros(count, np.uint8)
    kind = np.full(count, -1, np.int16)
    location, line, depth = (np.full(count, -1, np.int32) for _ in range(3))
    rows, outermost, site = _machinery(lines, frames, in_futex)
    start, site_line = frames.start[rows], frames.line[site]
    named = _kind_of_wrappers(lines, frames, outermost, site)
    contended, governing = _verdicts(lines, frames, start, outermost, named, in_futex[rows])
    verdict[rows] = np.where(contended, Verdict.CONTENDED, Verdict.LOCKING)
    has_kind = governing >= start
    kind[rows[has_kind]] = lines.kind[frames.line[governing[has_kind]]]
    kind[rows[~has_kind]] = lines.kinds.index(OWN)
    location[rows] = np.searchsorted(lines.first, site_line, side="right") - 1
    line[rows] = site_line - lines.first[location[rows]]
    depth[rows] = site - start
    return Attribution(verdict, kind, lines.kinds, location, line, depth)


def _classified(profile: Profile, rules: LockRules) -> _Lines:
    lines = lines_of(profile)
    # Few lines differ in what the rules go by.
    keys = (lines.function * (len(profile.mappings) + 1) + lines.mapping + 1) * len(FrameKind) + lines.kind
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    modules = (*(os.path.basename(mapping.path) for mapping in profile.mappings), "")  # the last is that of no mapping
    functions: list[int] = lines.function[first].tolist()
    mappings: list[int] = lines.mapping[first].tolist()
    in_kernel = lines.kind == FrameKind.KERNEL
    matches = [
        _match(profile.functions[function], rules, modules[mapping], in_kernel=is_kernel)
        for function, mapping, is_kernel in zip(functions, mappings, in_kernel[first].tolist(), strict=True)
    ]
    order: list[int] = np.argsort(first).tolist()
    kinds: dict[str, int] = {}
    for distinct in order:
        kinds.setdefault(matches[distinct].kind, len(kinds))
    kinds.setdefault(OWN, len(kinds))
    means = np.array([match.means.value for match in matches], np.uint8)
    kind = np.array([kinds[match.kind] for match in matches], np.int16)
    return _Lines(
        first=np.cumsum(lines.count) - lines.count,
        count=lines.count,
        means=np.where(lines.kind == FrameKind.MARKER, Meaning.NONE, means[which]).astype(np.uint8),
        kind=kind[which],
        in_kernel=in_kernel,
        kinds=tuple(kinds),
    )


def _match(function: Function, rules: LockRules, module: str, *, in_kernel: bool) -> Match:
    """What the rules say of a function of a binary."""
    return rules.match({function.linkage_name, function.name}, Space.KERNEL if in_kernel else Space.USER, module)


def _begins_with_code(profile: Profile) -> NDArray[np.bool_]:
    """Whether each stack's leaf is there and is no marker, bool[stacks]."""
    is_code = np.array([location.kind is not FrameKind.MARKER for location in profile.locations], np.bool_)
    begins = np.zeros(len(profile.stacks), np.bool_)
    filled = np.flatnonzero(np.diff(profile.stacks.offsets))
    begins[filled] = is_code[profile.stacks.locations[profile.stacks.offsets[filled]]]
    return begins


def _frames(profile: Profile, lines: _Lines) -> _Frames:
    locations = profile.stacks.locations
    counts = lines.count[locations]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    shift = lines.first[locations] - ends[:-1]
    line = np.arange(int(ends[-1])) + np.repeat(shift, counts)
    offsets = ends[profile.stacks.offsets]
    return _Frames(line, offsets[:-1], offsets[1:])


def _machinery(
    lines: _Lines, frames: _Frames, in_futex: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], _Positions, _Positions]:
    """The charged stacks, and the positions of their machinery's outermost lock frame and of their site.

    For a stack that has no such frame and was taken in a futex call, it is the position before its leaf.
    """
    is_lock = np.isin(lines.means, (Meaning.LOCKING, Meaning.CONTENDED, Meaning.WAITING, Meaning.MECHANISM))
    boundaries = _where(lines.means == Meaning.BOUNDARY, frames)
    limit = np.minimum(_first_from(boundaries, frames.start, len(frames.line)), frames.end)
    outermost = _last_before(_where(is_lock, frames), limit)
    rows = np.flatnonzero((outermost >= frames.start) | in_futex)
    outermost, end = np.maximum(outermost, frames.start - 1)[rows], frames.end[rows]
    others = _where(lines.means != Meaning.WRAPPER, frames)
    # The kernel's own frames above a futex call, those of our probes too, call no lock.
    user = _first_from(_where(~lines.in_kernel, frames), frames.start, len(frames.line))[rows]
    caller = np.where(in_futex[rows], np.maximum(outermost + 1, np.minimum(user, end - 1)), outermost + 1)
    site = np.minimum(_first_from(others, caller, len(frames.line)), end - 1)
    return rows, outermost, site


def _kind_of_wrappers(lines: _Lines, frames: _Frames, outermost: _Positions, site: _Positions) -> _Positions:
    """The outermost wrapper that has a kind, of those between the outermost frame of a lock and the site; else it."""
    has_kind = lines.kind != (lines.kinds.index("") if "" in lines.kinds else -1)
    wrapper = _last_before(_where((lines.means == Meaning.WRAPPER) & has_kind, frames), site + 1)
    return np.maximum(outermost, wrapper)


def _verdicts(
    lines: _Lines,
    frames: _Frames,
    start: _Positions,
    outermost: _Positions,
    named: _Positions,
    in_futex: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], _Positions]:
    """Whether each machinery from `start` to `outermost` is contended, and the frame that gives its kind: `named`,
    where no user frame of a lock does."""
    user, means = ~lines.in_kernel, lines.means
    contended = means == Meaning.CONTENDED
    lock = _last_before(_where(user & ((means == Meaning.LOCKING) | contended), frames), outermost + 1)
    waiting = _last_before(_where(user & (means == Meaning.WAITING), frames), outermost + 1)
    has_lock, has_waiting = lock >= start, waiting >= start
    # Both are -1 or in another stack where there is none, so that the larger one is the outermost of this stack's.
    is_idle = has_waiting & (waiting > lock)
    slow_user = _last_before(_where(user & contended, frames), outermost + 1) >= start
    mechanism = _where((means == Meaning.MECHANISM) | (contended & lines.in_kernel), frames)
    is_slow = in_futex | (_last_before(mechanism, outermost + 1) >= start)
    is_contended = slow_user | (is_slow & ~is_idle)
    governing = np.where(has_lock | has_waiting, np.maximum(lock, waiting), named)
    return is_contended, np.where(is_contended & has_lock, lock, governing)


def _where(line_is: NDArray[np.bool_], frames: _Frames) -> _Positions:
    """The positions of the frames whose line is such, in order."""
    return np.flatnonzero(line_is[frames.line])


def _first_from(positions: _Positions, start: _Positions, none: int) -> _Positions:
    """For each start, the first of the positions that isn't before it; `none` where there is no such."""
    return np.append(positions, none)[np.searchsorted(positions, start)]


def _last_before(positions: _Positions, end: _Positions) -> _Positions:
    """For each end, the last of the positions before it; -1 where there is no such."""
    return np.append(positions, -1)[np.searchsorted(positions, end) - 1]
