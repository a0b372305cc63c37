"""The pictures of a profile with lock waits: each is a profile of its own, made of the recorded one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.filters import only_threads, with_note
from flame.lock_chains import OTHERS, Chains, Charges, shared_out, summed
from flame.lock_marks import (
    HOLDER_NOT_SAMPLED,
    NOT_RELEASED,
    OTHER_HOLDERS,
    WAITER_NOT_SAMPLED,
    ViewName,
    lock_label,
    lock_mark,
)
from flame.lock_stacks import Pieces, StackParts
from flame.locks.attribution import attribute
from flame.locks.lock_rows import release_type
from flame.locks.rules import LockRules
from flame.text import isolated
from lockflame.errors import LockflameError
from lockflame.profile import (
    CAUSED_DELAY,
    CONTENTIONS,
    CPU,
    DELAY,
    HELD,
    HOLDS,
    Lock,
    Profile,
    SampleColumns,
    SampleType,
    Thread,
)

FRAMES_MOST = 3_000_000
"""Of all stacks of a picture of chains; beyond, holders of little weight are put together."""

_LOCK_TYPES = (CONTENTIONS, DELAY, CAUSED_DELAY, HOLDS, HELD)
_LOCKS_NAMED = 8
# Notes in the place of a holder's stack, beside OTHERS.
_UNRELEASED, _UNSAMPLED = -2, -3
_NOTES = {OTHERS: OTHER_HOLDERS, _UNRELEASED: NOT_RELEASED, _UNSAMPLED: HOLDER_NOT_SAMPLED}


@dataclass(frozen=True, slots=True, eq=False)
class LockView:
    """A picture's profile. `idle_ns` is the time in idle waits that was left out of it, 0 in that of CPU time."""

    name: ViewName
    profile: Profile
    idle_ns: int = 0


def default_view(profile: Profile) -> ViewName:
    """CPU time, unless the profile has none but has lock waits."""
    return ViewName.WAIT if profile.locks and not profile.total(CPU) else ViewName.CPU


def view_of(
    profile: Profile, name: ViewName, rules: LockRules, *, with_idle: bool = False, threads: Sequence[str] = ()
) -> LockView:
    """One picture of a recorded profile.

    Its sample types are: `wait` DELAY and CONTENTIONS, `holder` that of `release_type`, `chain` DELAY. In all three
    the time of a lock adds up to its exact total. `threads` (names or TIDs) are waiters, for `holder` who released.
    Raises `LockflameError` if the profile was taken without locks, or has no such thread.
    """
    if name is ViewName.CPU:
        cpu = cpu_part(profile)
        return LockView(name, only_threads(cpu, threads) if threads else cpu)
    _check_has_waits(profile)
    idle = np.array([lock.is_idle and not with_idle for lock in profile.locks], np.bool_)
    idle_ns = sum(lock.total_ns for lock, is_left_out in zip(profile.locks, idle.tolist(), strict=True) if is_left_out)
    shown = _of_locks(_with_a_thread(profile), ~idle)
    if name is ViewName.WAIT:
        return LockView(name, _waits(_part(shown, (DELAY, CONTENTIONS), threads), rules), idle_ns)
    if name is ViewName.HOLDER:
        releases = _part(shown, (release_type(profile),), threads)
        return LockView(name, _holders(releases, rules, with_notes=not threads), idle_ns)
    releases = _part(shown, (release_type(profile),))
    return LockView(name, _chains(_part(shown, (DELAY,), threads), releases, rules), idle_ns)


def cpu_part(profile: Profile) -> Profile:
    """A profile without its lock waits and their sample types; itself if it has no locks."""
    if not profile.locks:
        return profile
    kept = tuple(kind for kind in profile.sample_types if kind not in _LOCK_TYPES)
    samples = profile.samples.select(profile.samples.lock < 0)
    return replace(profile, sample_types=kept, samples=_with_types(profile, samples, kept), locks=())


def only_locks(profile: Profile, wanted: Sequence[str]) -> Profile:
    """The waits and releases of the locks of these names or addresses (`0x…`), without CPU samples.

    A name that no lock has in full stands for all that it is a part of. Raises `LockflameError` if one fits none.
    """
    _check_has_waits(profile)
    chosen = np.zeros(len(profile.locks), np.bool_)
    for text in wanted:
        fits = _fitting(profile, text)
        if not fits.any():
            raise LockflameError(
                f"no lock of the profile is called {text}", _known_locks(profile), "see lockflame locks"
            )
        chosen |= fits
    before = sum(lock.total_ns for lock in profile.locks)
    part = _of_locks(profile, chosen)
    now = sum(lock.total_ns for lock in part.locks)
    return with_note(part, f"locks {', '.join(wanted)}", now, before, "all time waited")


def _check_has_waits(profile: Profile) -> None:
    if not (profile.locks or profile.recording.probes):
        raise LockflameError(
            "cannot show lock waits", "the profile was taken without them", "record it with: lockflame record --locks"
        )


def _fitting(profile: Profile, text: str) -> NDArray[np.bool_]:
    names = [(lock.name, lock.symbol, f"0x{lock.address:x}") for lock in profile.locks]
    if not text:
        return np.zeros(len(names), np.bool_)
    exact = np.array([text in own or text.lower() == own[2] for own in names], np.bool_)
    if exact.any():
        return exact
    return np.array([any(text in name for name in own[:2]) for own in names], np.bool_)


def _known_locks(profile: Profile) -> str:
    ranked = sorted(profile.locks, key=lambda lock: -lock.total_ns)
    names = list(dict.fromkeys(isolated(lock_label(lock)) for lock in ranked))
    more = f" and {len(names) - _LOCKS_NAMED:,} more" if len(names) > _LOCKS_NAMED else ""
    return f"it has {', '.join(names[:_LOCKS_NAMED])}{more}" if names else "it has none"


def _of_locks(profile: Profile, chosen: NDArray[np.bool_]) -> Profile:
    """The profile with these locks only, and only their samples."""
    number = np.append(np.where(chosen, np.cumsum(chosen) - 1, -1), -1).astype(np.int32)
    renumbered = replace(profile.samples, lock=number[profile.samples.lock])
    locks = tuple(lock for lock, is_chosen in zip(profile.locks, chosen.tolist(), strict=True) if is_chosen)
    return replace(profile, locks=locks, samples=renumbered.select(renumbered.lock >= 0))


def _with_a_thread(profile: Profile) -> Profile:
    """The profile with a thread at least, for time that belongs to none."""
    return replace(profile, threads=profile.threads or (Thread(profile.recording.pid, 0, ""),))


def _part(profile: Profile, types: tuple[SampleType, ...], threads: Sequence[str] = ()) -> Profile:
    """The samples that have any of these types, with these only."""
    samples = _with_types(profile, profile.samples, types)
    part = replace(profile, sample_types=types, samples=samples.select((samples.values != 0).max(axis=1)))
    return only_threads(part, threads) if threads else part


def _with_types(profile: Profile, samples: SampleColumns, types: tuple[SampleType, ...]) -> SampleColumns:
    """The samples with these columns of values; 0 for a type that the profile doesn't have."""
    columns = [
        samples.values[:, profile.sample_types.index(kind)]
        if kind in profile.sample_types
        else np.zeros(len(samples), np.int64)
        for kind in types
    ]
    values = np.stack(columns, axis=1) if columns else np.zeros((len(samples), 0), np.int64)
    return replace(samples, values=values)


class _Builder:
    """Stacks with the marks of a profile's locks."""

    def __init__(self, profile: Profile, name: ViewName, rules: LockRules) -> None:
        marks: dict[str, int] = {}
        numbers = [marks.setdefault(lock_mark(lock, name), len(marks)) for lock in profile.locks]
        self.mark_of_lock = np.array(numbers, np.int64)
        self.parts = StackParts(profile, attribute(profile, rules))
        self._marks = self.parts.markers(list(marks))

    def marks(self, locks: NDArray[np.int64]) -> Pieces:
        """The frames of these locks: the same for locks of the same name."""
        return self._marks.at(self.mark_of_lock[locks])

    def paths(self, stacks: NDArray[np.int64], nothing: str, *, upside_down: bool = False) -> Pieces:
        """Stacks, or the notes that stand in their place; `nothing` is that of stacks without frames."""
        texts = (*_NOTES.values(), nothing)
        notes = self.parts.markers(texts)
        distinct, inverse = np.unique(stacks, return_inverse=True)
        real = np.maximum(distinct, 0)
        if not (distinct >= 0).any():
            pieces = notes.at(np.zeros(len(distinct), np.int64))
        else:
            pieces = self.parts.upside_down(real) if upside_down else self.parts.upright(real)
        note = np.where(pieces.length == 0, len(texts) - 1, -1)
        for index, number in enumerate(_NOTES):
            note[distinct == number] = index
        is_note = note >= 0
        start = np.where(is_note, notes.start[note], pieces.start)
        return Pieces(start, np.where(is_note, 1, pieces.length)).at(inverse)


def _waits(waits: Profile, rules: LockRules) -> Profile:
    builder = _Builder(waits, ViewName.WAIT, rules)
    samples = waits.samples
    lock, stack = samples.lock.astype(np.int64), samples.stack.astype(np.int64)
    made = builder.parts.profile_of([builder.marks(lock), builder.paths(stack, WAITER_NOT_SAMPLED)])
    return replace(made, samples=replace(samples, stack=np.arange(len(samples), dtype=np.int32)))


def _holders(releases: Profile, rules: LockRules, *, with_notes: bool) -> Profile:
    builder = _Builder(releases, ViewName.HOLDER, rules)
    own = releases.samples
    charged = Charges(own.lock.astype(np.int64), own.stack.astype(np.int64), own.values[:, 0])
    notes = _not_charged(releases, charged) if with_notes else Charges(*(np.zeros(0, np.int64) for _ in range(3)))
    whole = _joined(charged, notes)
    made = builder.parts.profile_of([builder.marks(whole.lock), builder.paths(whole.stack, HOLDER_NOT_SAMPLED)])
    thread = np.concatenate((own.thread, np.zeros(len(notes), np.int32)))
    return replace(made, samples=_columns(whole.lock, thread, whole.time_ns))


def _chains(waits: Profile, releases: Profile, rules: LockRules) -> Profile:
    builder = _Builder(waits, ViewName.CHAIN, rules)
    waiters, released = (
        summed(
            Charges(part.samples.lock.astype(np.int64), part.samples.stack.astype(np.int64), part.samples.values[:, 0])
        )
        for part in (waits, releases)
    )
    holders = _joined(released, _not_charged(releases, released))
    without = np.setdiff1d(waiters.lock, holders.lock)
    nobody = Charges(without, np.full(len(without), _UNSAMPLED), np.ones(len(without), np.int64))
    chains = shared_out(waiters, _joined(holders, nobody), len(waits.locks))
    chains = _limited(chains, waiters, waits)
    lock = waiters.lock[chains.waiter]
    made = builder.parts.profile_of(
        [
            builder.paths(chains.holder, HOLDER_NOT_SAMPLED, upside_down=True),
            builder.marks(lock),
            builder.paths(waiters.stack[chains.waiter], WAITER_NOT_SAMPLED),
        ]
    )
    return replace(made, samples=_columns(lock, np.zeros(len(lock), np.int32), chains.time_ns))


def _not_charged(releases: Profile, charged: Charges) -> Charges:
    """The time of each lock that no release was charged with: nobody gave it back, or no sample was taken of it."""
    is_trace = HELD in releases.sample_types
    unreleased = np.array([0 if is_trace else lock.unreleased_ns for lock in releases.locks], np.int64)
    totals = np.array([_held_ns(lock) if is_trace else lock.total_ns for lock in releases.locks], np.int64)
    sampled = np.zeros(len(totals), np.int64)
    np.add.at(sampled, charged.lock, charged.time_ns)
    unsampled = np.maximum(totals - unreleased - sampled, 0)
    numbers = np.arange(len(totals))
    notes = Charges(
        np.concatenate((numbers, numbers)),
        np.repeat(np.array([_UNRELEASED, _UNSAMPLED]), len(totals)),
        np.concatenate((unreleased, unsampled)),
    )
    return summed(notes)


def _held_ns(lock: Lock) -> int:
    return lock.held.total_ns if lock.held else 0


def _limited(chains: Chains, waiters: Charges, profile: Profile) -> Chains:
    """The heaviest chains, as many as have `FRAMES_MOST` frames; of the others only the waiters."""
    lengths = np.diff(profile.stacks.offsets)
    frames = lengths[waiters.stack[chains.waiter]] + lengths[np.maximum(chains.holder, 0)] * (chains.holder >= 0)
    order = np.argsort(-chains.time_ns, kind="stable")
    holder = chains.holder.copy()
    holder[order[np.cumsum(frames[order]) > FRAMES_MOST]] = OTHERS
    merged = summed(Charges(chains.waiter, holder, chains.time_ns))
    return Chains(merged.lock, merged.stack, merged.time_ns)


def _joined(first: Charges, second: Charges) -> Charges:
    return Charges(
        np.concatenate((first.lock, second.lock)),
        np.concatenate((first.stack, second.stack)),
        np.concatenate((first.time_ns, second.time_ns)),
    )


def _columns(lock: NDArray[np.int64], thread: NDArray[np.int32], time_ns: NDArray[np.int64]) -> SampleColumns:
    """Samples of one type, each with a stack of its own."""
    stack = np.arange(len(lock), dtype=np.int32)
    return SampleColumns(stack, thread, time_ns[:, np.newaxis], lock.astype(np.int32))
