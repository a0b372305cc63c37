"""Locks by the names that they have in all recordings of both sides together.

A lock without a variable is named by the function that takes it: of several, the one with most of the time waited
(`flame.locks.naming`). Each recording judges that by itself. A fix that moves most of the waiting to another function
would make two locks of one, the first of them gone and the second new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.diff.matching import stable_name
from flame.locks.lock_rows import LockRows, WaitSite
from flame.locks.naming import class_name, name_locks
from flame.locks.rules import LockRules
from lockflame.profile import Lock, Profile


@dataclass(frozen=True, slots=True)
class LockKey:
    """What a lock is found again by: its name, or that of its class, and its kind."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """The locks of some recordings, in their order. `of_class` says what is waited for most where a lock would be taken
    that has only this name: of CPU time in a recording that has no wait for it."""

    locks: tuple[tuple[Lock, ...], ...]
    of_class: Mapping[LockKey, LockKey]

    def key(self, name: str, kind: str) -> LockKey:
        """What a lock of which no wait is known is compared as."""
        plain = LockKey(stable_name(name), kind)
        return self.of_class.get(plain, plain)


def key_of(lock: Lock) -> LockKey:
    """What a lock with a name is compared as."""
    return LockKey(lock.name, lock.kind)


def named_together(profiles: Sequence[Profile], rows: Sequence[LockRows], rules: LockRules) -> Named:
    """The locks of these profiles, named together. `rows` are `lock_rows` of each of them."""
    if not profiles:
        return Named((), {})
    whole = replace(profiles[0], locks=tuple(lock for profile in profiles for lock in profile.locks))
    together = _joined(profiles, rows)
    locks = [replace(lock, name=stable_name(lock.name)) for lock in name_locks(whole, rules, together).locks]
    ends = np.cumsum([len(profile.locks) for profile in profiles]).tolist()
    starts = [0, *ends[:-1]]
    of_each = tuple(tuple(locks[start:end]) for start, end in zip(starts, ends, strict=True))
    return Named(of_each, _classes(locks, together))


def _joined(profiles: Sequence[Profile], rows: Sequence[LockRows]) -> LockRows:
    """The rows of all profiles, their locks numbered one after the other. Sites are the same in all programs: a build
    may have another file name. Stacks and threads are no longer those of a profile."""
    numbers: dict[WaitSite, int] = {}
    locks: list[NDArray[np.int64]] = []
    sites: list[NDArray[np.int64]] = []
    first = 0
    for profile, own in zip(profiles, rows, strict=True):
        number = [numbers.setdefault((function, "", kind), len(numbers)) for function, _, kind in own.sites]
        sites.append(np.array([*number, -1], np.int64)[own.site])
        locks.append(own.lock + first)
        first += len(profile.locks)
    return replace(
        rows[0],
        sites=tuple(numbers),
        lock=np.concatenate(locks),
        site=np.concatenate(sites),
        stack=np.concatenate([own.stack for own in rows]),
        thread=np.concatenate([own.thread for own in rows]),
        delay_ns=np.concatenate([own.delay_ns for own in rows]),
        caused_ns=np.concatenate([own.caused_ns for own in rows]),
        is_idle=np.concatenate([own.is_idle for own in rows]),
    )


def _classes(locks: Sequence[Lock], rows: LockRows) -> dict[LockKey, LockKey]:
    """For the name of each site's class, what is waited for longest there."""
    waits = (rows.delay_ns > 0) & (rows.site >= 0)
    pairs, inverse = np.unique(rows.site[waits] * max(len(locks), 1) + rows.lock[waits], return_inverse=True)
    delays = np.bincount(inverse, rows.delay_ns[waits], len(pairs))
    waited: dict[LockKey, dict[LockKey, float]] = defaultdict(lambda: defaultdict(float))
    for pair, delay_ns in zip(pairs, delays.tolist(), strict=True):
        site, lock = divmod(int(pair), len(locks))
        function, _, kind = rows.sites[site]
        waited[LockKey(stable_name(class_name(kind, function)), kind)][key_of(locks[lock])] += delay_ns
    return {name: min(found, key=lambda key: (-found[key], key.name, key.kind)) for name, found in waited.items()}
