"""The stacks of a profile's lock waits and releases with the locks as frames, for each of the pictures of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flame.lock_chains import OTHERS, Chains, Charges, shared_out, summed
from flame.lock_marks import (
    HOLDER_NOT_SAMPLED,
    NOT_RELEASED,
    OTHER_HOLDERS,
    WAITER_NOT_SAMPLED,
    ViewName,
    lock_mark,
)
from flame.lock_stacks import Pieces, StackParts
from flame.locks.attribution import attribute
from flame.locks.rules import LockRules
from lockflame.profile import HELD, Lock, Profile, SampleColumns

FRAMES_MOST = 3_000_000
"""Of all stacks of a picture of chains; beyond, holders of little weight are put together."""

# Notes in the place of a holder's stack, beside OTHERS.
_UNRELEASED, _UNSAMPLED = -2, -3
_NOTES = {OTHERS: OTHER_HOLDERS, _UNRELEASED: NOT_RELEASED, _UNSAMPLED: HOLDER_NOT_SAMPLED}


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


def wait_profile(profile: Profile, rules: LockRules) -> Profile:
    """Who waits, for which lock. The profile is of samples with a lock each."""
    builder = _Builder(profile, ViewName.WAIT, rules)
    samples = profile.samples
    lock, stack = samples.lock.astype(np.int64), samples.stack.astype(np.int64)
    made = builder.parts.profile_of([builder.marks(lock), builder.paths(stack, WAITER_NOT_SAMPLED)])
    return replace(made, samples=replace(samples, stack=np.arange(len(samples), dtype=np.int32)))


def holder_profile(releases: Profile, rules: LockRules, *, with_notes: bool) -> Profile:
    """Who releases which lock. With notes, the time that no release was charged with is shown as well."""
    builder = _Builder(releases, ViewName.HOLDER, rules)
    own = releases.samples
    charged = Charges(own.lock.astype(np.int64), own.stack.astype(np.int64), own.values[:, 0])
    notes = _not_charged(releases, charged) if with_notes else Charges(*(np.zeros(0, np.int64) for _ in range(3)))
    whole = _joined(charged, notes)
    made = builder.parts.profile_of([builder.marks(whole.lock), builder.paths(whole.stack, HOLDER_NOT_SAMPLED)])
    thread = np.concatenate((own.thread, np.zeros(len(notes), np.int32)))
    return replace(made, samples=_columns(whole.lock, thread, whole.time_ns))


def chain_profile(waits: Profile, releases: Profile, rules: LockRules) -> Profile:
    """Who waits, for which lock, and on top of it who held it."""
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
