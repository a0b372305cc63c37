"""The pictures of a profile with lock waits: each is a profile of its own, made of the recorded one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.filters import only_threads, with_note
from flame.lock_marks import ViewName, lock_label
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
    Profile,
    SampleColumns,
    SampleType,
    Thread,
)

_LOCK_TYPES = (CONTENTIONS, DELAY, CAUSED_DELAY, HOLDS, HELD)
_LOCKS_NAMED = 8


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
    # Late: a picture of CPU time does without.
    from flame.lock_merging import chain_profile, holder_profile, wait_profile
    from flame.locks.lock_rows import release_type

    idle = np.array([lock.is_idle and not with_idle for lock in profile.locks], np.bool_)
    idle_ns = sum(lock.total_ns for lock, is_left_out in zip(profile.locks, idle.tolist(), strict=True) if is_left_out)
    shown = _of_locks(_with_a_thread(profile), ~idle)
    if name is ViewName.WAIT:
        return LockView(name, wait_profile(_part(shown, (DELAY, CONTENTIONS), threads), rules), idle_ns)
    if name is ViewName.HOLDER:
        releases = _part(shown, (release_type(profile),), threads)
        return LockView(name, holder_profile(releases, rules, with_notes=not threads), idle_ns)
    releases = _part(shown, (release_type(profile),))
    return LockView(name, chain_profile(_part(shown, (DELAY,), threads), releases, rules), idle_ns)


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
