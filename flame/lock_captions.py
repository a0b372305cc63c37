"""What stands above and below a picture of lock waits in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.captions import Fact, left_out, measured, program_of
from flame.frames import FrameStacks, stack_weights
from flame.layout import Layout
from flame.listing import Entry, Listing
from flame.lock_marks import HOLDER_NOT_SAMPLED, WAITER_NOT_SAMPLED, ViewName, is_lock_mark, lock_mark
from flame.names import short_name
from flame.palette import LOCK_PALETTE, middle_shade
from flame.text import amount, counted, isolated, percent, shortened
from lockflame.profile import HELD, TRUNCATED_STACK, FrameKind, Lock, Profile

_PATHS = 5
_CALLERS = 2
_LINE_CHARACTERS = 118
_FEW_STACKS = 100
_WOKEN_MUCH = 0.1
_HEADINGS = {
    ViewName.WAIT: "Time waited for locks",
    ViewName.HOLDER: "Time that others waited, by who released the lock",
    ViewName.CHAIN: "Time waited for locks, and who held them",
}
_HELD_HEADING = "Time that locks were held, by who gave them back"
_HEADLINES = {
    ViewName.WAIT: "The longest waits:",
    ViewName.HOLDER: "Who held up most:",
    ViewName.CHAIN: "The worst chains:",
}


def lock_heading(profile: Profile, view: ViewName) -> str:
    """The title of a picture that wasn't given one, e.g. `Time waited for locks of mariadbd (PID 4711)`."""
    program = program_of(profile.recording)
    heading = _HELD_HEADING if _is_of_holds(profile) else _HEADINGS[view]
    if not program:
        return heading
    return f"{heading} of {program}" if view is ViewName.WAIT else f"{heading}: {program}"


def lock_measured(profile: Profile, idle_ns: int) -> list[Fact]:
    """Where, when and how the waits were recorded, and how much of them isn't in the picture because it is idle."""
    recording = replace(profile.recording, event="", frequency_asked_hz=0, cpu_time_ns=0)
    facts = measured(recording, profile.container)
    if recording.probes:
        # Of each kind of probes the names follow, which would fill lines.
        kinds = [group.partition(" ")[0] for group in recording.probes.split("; ")]
        facts.append(Fact(f"by {isolated(' and '.join(kinds))}"))
    idle = amount(idle_ns, "nanoseconds")
    facts.append(Fact(f"idle waits left out: {idle} (--idle shows them)" if idle_ns else "no idle waits left out"))
    return facts


def lock_completeness(profile: Profile, layout: Layout, view: ViewName) -> list[Fact]:
    """On how much the picture stands, and what is missing from it."""
    recording = profile.recording
    facts: list[Fact] = []
    if view is not ViewName.HOLDER:
        facts.append(_taken(recording.wait_samples, "waiters", is_exact=is_trace(profile)))
    if view is not ViewName.WAIT:
        facts.append(_taken(recording.holder_samples, "holders", is_exact=is_trace(profile)))
    spread = "and so is that of each path" if is_trace(profile) else "their distribution over paths is sampled"
    facts.append(Fact(f"times of locks are exact, {spread}"))
    facts += _unclear(profile)
    if view is not ViewName.WAIT:
        facts += _woken(profile)
    facts += [
        _missing(recording.waits_left_out, "on locks that there was no room for"),
        _missing(recording.waits_unseen, "unseen"),
        Fact(f"{counted(recording.lost, 'record')} lost", warns=recording.lost > 0),
        left_out(layout),
    ]
    return facts


def lock_notes(profile: Profile, view: ViewName) -> dict[str, str]:
    """For the name of each lock's frame, what is known of the lock, or of all of that name, in the whole recording."""
    of_mark: dict[str, list[Lock]] = {}
    for lock in profile.locks:
        of_mark.setdefault(lock_mark(lock, view), []).append(lock)
    return {mark: _known(locks) for mark, locks in of_mark.items()}


def _known(locks: list[Lock]) -> str:
    waits, total_ns = sum(lock.ends.total for lock in locks), sum(lock.total_ns for lock in locks)
    words = [f"whole recording: {amount(total_ns, 'nanoseconds')} in {counted(waits, 'wait')}"]
    if waits:
        words.append(f"{amount(total_ns // waits, 'nanoseconds')} on average")
    words.append(f"longest {amount(max(lock.max_ns for lock in locks), 'nanoseconds')}")
    if woken_ns := sum(lock.woken_ns for lock in locks):
        words.append(f"{percent(woken_ns, total_ns)} of it after a release, before the woken thread ran")
    if len(locks) > 1:
        words.append(f"{len(locks):,} addresses")
    return ", ".join(words)


def lock_listing(profile: Profile, stacks: FrameStacks, view: ViewName) -> Listing:
    """How much was waited, and the paths with the most of it. `stacks` are those of the profile."""
    total = int(profile.samples.values[:, 0].sum())
    if not total:
        return Listing("No thread was held up by a lock.")
    duration = profile.recording.duration_ns
    mean = f", {total / duration:,.3g} threads at a time on average" if duration else ""
    locks = counted(len(np.unique(profile.samples.lock)), "lock")
    if _is_of_holds(profile):
        headline = f"{locks} held for {amount(total, 'nanoseconds')}{mean}. The longest:"
    else:
        headline = f"{amount(total, 'nanoseconds')} waited for {locks}{mean}. {_HEADLINES[view]}"
    entries = tuple(
        Entry(
            text=shortened(f"{index + 1}  {_text(stacks, path, view)}", _LINE_CHARACTERS),
            measure=f"{amount(path.time_ns, 'nanoseconds')} ({percent(path.time_ns, total)})",
            tooltip=_text(stacks, path, view),
            stack=path.stack,
            depth=path.mark - int(stacks.offsets[path.stack]) + 1,
        )
        for index, path in enumerate(_worst_paths(profile, stacks))
    )
    return Listing(headline, "contention", entries, shade=middle_shade(LOCK_PALETTE))


def _is_of_holds(profile: Profile) -> bool:
    return profile.sample_types[:1] == (HELD,)


def is_trace(profile: Profile) -> bool:
    """Whether each wait and hold was traced, rather than sampled."""
    return any(lock.held is not None for lock in profile.locks)


@dataclass(frozen=True, slots=True)
class _Path:
    """A lock, with the frame below and the one above it. `mark` is where in the frames of all stacks the lock is in
    the heaviest `stack`."""

    time_ns: int
    stack: int
    mark: int


def _worst_paths(profile: Profile, stacks: FrameStacks) -> list[_Path]:
    """Those with the most time, of all that differ in the lock, in the frame below or in the one above.

    Those of which one side isn't known come last: there is nothing to be done about them.
    """
    weights = stack_weights(profile, profile.sample_types[0])
    is_mark = np.array([is_lock_mark(name) for name in stacks.table.names], np.bool_)
    marks = np.append(
        np.flatnonzero((is_mark & (stacks.table.kinds == FrameKind.MARKER))[stacks.frames]), len(stacks.frames)
    )
    mark = marks[np.searchsorted(marks, stacks.offsets[:-1])]
    chosen = np.flatnonzero((weights > 0) & (mark + 1 < stacks.offsets[1:]))
    mark = mark[chosen]
    above = np.where(mark > stacks.offsets[chosen], stacks.frames[mark - 1], -1)
    columns = (stacks.frames[mark], stacks.frames[mark + 1], above)
    is_note = np.append((stacks.table.kinds == FrameKind.MARKER) & ~is_mark, False)
    is_unknown = is_note[stacks.frames[mark + 1]] | is_note[above]
    order = np.lexsort((-weights[chosen], *columns))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in columns])
    firsts = np.flatnonzero(is_first)
    sums = np.add.reduceat(weights[chosen][order], firsts) if len(firsts) else weights[:0]
    heaviest = order[firsts]
    worst: list[int] = np.lexsort((-sums, is_unknown[heaviest]))[:_PATHS].tolist()
    return [_Path(int(sums[row]), int(chosen[heaviest[row]]), int(mark[heaviest[row]])) for row in worst]


def _text(stacks: FrameStacks, path: _Path, view: ViewName) -> str:
    """The lock of a path, and the functions next to it."""
    first, end = int(stacks.offsets[path.stack]), int(stacks.offsets[path.stack + 1])
    lock = isolated(_name(stacks, path.mark)[1:-1])
    callers = _CALLERS if view is not ViewName.CHAIN else 1
    waiter = _functions(stacks, list(range(path.mark + 1, min(path.mark + 2 + callers, end))))
    if view is not ViewName.CHAIN:
        return f"{lock} in {waiter}"
    holder = _functions(stacks, list(range(path.mark - 1, max(path.mark - 2 - callers, first - 1), -1)))
    return f"{waiter} → {lock} {holder}"


def _functions(stacks: FrameStacks, positions: list[int]) -> str:
    """A function and its callers."""
    return " < ".join(isolated(short_name(_name(stacks, at))) for at in positions)


def _name(stacks: FrameStacks, position: int) -> str:
    return stacks.table.names[int(stacks.frames[position])]


def _unclear(profile: Profile) -> list[Fact]:
    """How much of the time has no stack, one cut short of its thread's start, or a nameless function at the lock."""
    weights = stack_weights(profile, profile.sample_types[0])
    names = [profile.functions[location.lines[-1].function].name for location in profile.locations]
    truncated = _on_stacks(profile, weights, _is_at(profile, [name == TRUNCATED_STACK for name in names]))
    is_unnamed = _is_at(profile, [bool(location.unresolved_reason) for location in profile.locations])
    unnamed = _on_stacks(profile, weights, is_unnamed & _is_beside_lock(profile, names))
    whole = int(weights.sum())
    unsampled = _on_stacks(
        profile, weights, _is_at(profile, [name in (WAITER_NOT_SAMPLED, HOLDER_NOT_SAMPLED) for name in names])
    )
    return [
        Fact(f"{percent(unsampled, whole)} of the time without a sampled path", warns=unsampled > 0.10 * whole),
        Fact(f"{percent(truncated, whole)} of the time on truncated stacks", warns=truncated > 0.03 * whole),
        Fact(f"{percent(unnamed, whole)} in functions without a name", warns=unnamed > 0.10 * whole),
    ]


def _is_at(profile: Profile, of_location: list[bool]) -> NDArray[np.bool_]:
    """Which of all stacks' frames, in a row, are at such a location."""
    return np.array(of_location, np.bool_)[profile.stacks.locations]


def _is_beside_lock(profile: Profile, names: list[str]) -> NDArray[np.bool_]:
    """Which of all stacks' frames, in a row, are next to the lock's: what waits for it, and what holds it."""
    is_mark = _is_at(
        profile,
        [
            location.kind is FrameKind.MARKER and is_lock_mark(name)
            for location, name in zip(profile.locations, names, strict=True)
        ],
    )
    beside = np.zeros(len(is_mark), np.bool_)
    beside[1:] |= is_mark[:-1]  # a lock is never the last of its stack
    ends_before = np.zeros(len(is_mark) + 1, np.bool_)
    ends_before[profile.stacks.offsets] = True  # a frame and the next one there are of two stacks
    beside[:-1] |= is_mark[1:] & ~ends_before[1:-1]
    return beside


def _on_stacks(profile: Profile, weights: NDArray[np.int64], hits: NDArray[np.bool_]) -> int:
    """The weight of the stacks that have such a frame."""
    stacks = profile.stacks
    counts = np.concatenate((np.zeros(1, np.int64), np.cumsum(hits, dtype=np.int64)))
    return int(weights[counts[stacks.offsets[1:]] > counts[stacks.offsets[:-1]]].sum())


def _woken(profile: Profile) -> list[Fact]:
    """How much of what was waited for the picture's locks its holders have no part in."""
    used: list[int] = np.unique(profile.samples.lock).tolist()
    locks = [profile.locks[index] for index in used if index >= 0]
    total_ns, woken_ns = sum(lock.total_ns for lock in locks), sum(lock.woken_ns for lock in locks)
    if not woken_ns:
        return []
    text = f"{percent(woken_ns, total_ns)} was waited after a release, before the woken thread ran"
    return [Fact(f"{text}: shared out to the holders", warns=woken_ns > _WOKEN_MUCH * total_ns)]


def _taken(stacks: int, whose: str, *, is_exact: bool) -> Fact:
    few = 0 < stacks < _FEW_STACKS and not is_exact
    text = f"{counted(stacks, 'stack')} of {whose} taken"
    return Fact(f"only {text}, shares are rough" if few else text, few)


def _missing(waits: int, how: str) -> Fact:
    return Fact(f"{counted(waits, 'wait')} {how}", warns=waits > 0)
