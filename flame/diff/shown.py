"""What of two sides a difference picture shows: CPU time, or lock waits by who waits or by who holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flame.diff.lock_names import named_together
from flame.diff.sides import Sides
from flame.lock_marks import ViewName
from flame.lock_views import view_of
from flame.locks.lock_rows import lock_rows
from flame.locks.rules import LockRules
from lockflame.errors import LockflameError
from lockflame.profile import CAUSED_DELAY, CPU, DELAY, FrameKind, Profile, SampleType, Stacks

_TYPES = {ViewName.WAIT: DELAY, ViewName.HOLDER: CAUSED_DELAY}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture's part of both sides. `idle_ns` is the time in idle waits that was left out, before and after."""

    view: ViewName
    before: tuple[Profile, ...]
    after: tuple[Profile, ...]
    sample_type: SampleType
    idle_ns: tuple[int, int] = (0, 0)


def default_view(sides: Sides) -> ViewName:
    """What functions are compared by, which is CPU time where there is any; else waits."""
    has_any = any(profile.total(sides.sample_type) for profile in (*sides.before, *sides.after))
    return ViewName.WAIT if sides.has_waits and sides.sample_type == CPU and not has_any else ViewName.CPU


def shown_of(sides: Sides, view: ViewName, rules: LockRules, *, with_idle: bool = False) -> Shown:
    """The part of both sides that is in a picture; of waits those that aren't idle, unless `with_idle`.

    Where the kernel's frames are known of some recordings only, no side has them: they would all be new or gone.
    Raises `LockflameError` for a picture of waits where not all recordings have them.
    """
    before, after = (
        side if sides.kernel_frames else tuple(_without_kernel(profile) for profile in side)
        for side in (sides.before, sides.after)
    )
    if view is ViewName.CPU:
        return Shown(view, before, after, sides.sample_type)
    if not sides.has_waits:
        raise LockflameError(
            "cannot compare lock waits", "not all files have them", "record both sides with: lockflame record --locks"
        )
    named = _with_table_names((*before, *after), rules)
    first, first_idle_ns = _waits(named[: len(before)], view, rules, with_idle=with_idle)
    second, second_idle_ns = _waits(named[len(before) :], view, rules, with_idle=with_idle)
    return Shown(view, first, second, _TYPES[view], (first_idle_ns, second_idle_ns))


def _waits(
    profiles: Sequence[Profile], view: ViewName, rules: LockRules, *, with_idle: bool
) -> tuple[tuple[Profile, ...], int]:
    views = [view_of(profile, view, rules, with_idle=with_idle) for profile in profiles]
    return tuple(shown.profile for shown in views), sum(shown.idle_ns for shown in views)


def _with_table_names(profiles: Sequence[Profile], rules: LockRules) -> list[Profile]:
    """The profiles with locks named as the table of locks has them."""
    named = named_together(profiles, [lock_rows(profile, rules) for profile in profiles], rules)
    return [replace(profile, locks=locks) for profile, locks in zip(profiles, named.locks, strict=True)]


def _without_kernel(profile: Profile) -> Profile:
    """The profile with stacks that end where the kernel was entered."""
    if not len(profile.stacks.locations):
        return profile
    stacks = profile.stacks
    is_kept = np.array([location.kind is not FrameKind.KERNEL for location in profile.locations], np.bool_)
    kept = is_kept[stacks.locations]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)))
    return replace(profile, stacks=Stacks(ends[stacks.offsets], stacks.locations[kept]))
