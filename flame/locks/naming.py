"""Names for locks: what each is, what kind, and whether waiting for it means to have nothing to do.

- The *kind* is that of most of the time waited on it, by the rules' verdict on the waiters' stacks. Where these say no
  more than "a futex", or where there is no stack, the operation and the word itself tell: the kernel's PI locks, and
  mutexes, whose word holds their owner.
- It is *idle* where most of the time was waited in frames that wait for an event (condition variables, joins, parkers)
  and no lock called them; Python's GIL and InnoDB's locks are built on condition variables, and are locks. Semaphores
  and barriers aren't idle: who waits there is held up by others as often as not. A futex of the program's own is a
  *sleep*, and idle, when it ended by its timeout twice at least and never in another way than by that, a signal or the
  recording's end. So is a word without an owner of which no stack is known, and for which nobody did anything but wait.
- The *name* is the symbol of a variable. A lock without one, on the heap or in memory that processes share without a
  file, gets the name of its *class*: of the functions that take it, the one in which most time is waited for all
  nameless locks of its kind. So one lock per connection is one class, whichever of its functions was seen waiting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flame.locks.attribution import OWN
from flame.locks.lock_rows import FUTEX, LockRows, lock_rows
from flame.locks.rules import LockRules
from flame.names import short_name
from lockflame.profile import FutexOperation, Lock, Memory, Profile, WaitEnds

BEYOND_TABLE = "[locks beyond the table]"
"""The name of all futex words for which the kernel's table had no room."""
UNSAMPLED = "lock without a sampled wait"
PI_MUTEX = "PI mutex"
SLEEP = "sleep"

_NEVER_IDLE = frozenset({"semaphore", "barrier"})
_UNKNOWN_KINDS = frozenset({OWN, FUTEX})
_WAITED_FOR = frozenset({"condition", "parker", "semaphore", "barrier"})
_PAIRED = frozenset({"condition", "rwlock", "gil", "monitor", "parker"})
"""Kinds that glibc makes of two futex words side by side, the first at a multiple of 8 bytes (`__g_signals` of
`pthread_cond_t`, `__wrphase_futex` and `__writers_futex` of `pthread_rwlock_t`)."""

_OFFSET = re.compile(r"\+0x([0-9a-f]{1,16})\Z")
_NAMELESS_FILES = ("/dev/zero", "/SYSV", "/memfd:", "/anon_hugepage")
"""Shared memory that no file is behind; its offset says nothing to a reader."""

_PYTHON_RUNTIME = "_PyRuntime"
"""Where CPython keeps its GIL. Distributions strip the names of the functions that take it, this variable's they keep:
its condition variables are the GIL's, and so is one that was seen waited for by such a function."""

_Place: TypeAlias = tuple[str, str]
"""Function, and the file name of its binary."""
_Verdict: TypeAlias = tuple[str, bool]
"""Kind, and whether it is idle."""


def name_locks(profile: Profile, rules: LockRules, rows: LockRows | None = None) -> Profile:
    """The profile with name, kind and idleness of each lock filled in. `rows` are `lock_rows(profile, rules)`."""
    if not profile.locks:
        return profile
    rows = lock_rows(profile, rules) if rows is None else rows
    votes, places = _waits_by_lock(rows)
    verdicts = [_verdict(lock, votes.get(index, {})) for index, lock in enumerate(profile.locks)]
    nameless = {index: places.get(index, {}) for index, lock in enumerate(profile.locks) if not _symbol(lock)}
    class_places = _class_places(nameless, _release_places(profile, rows), [kind for kind, _ in verdicts])
    names = [
        _name(lock, kind, class_places.get(index))
        for index, (lock, (kind, _)) in enumerate(zip(profile.locks, verdicts, strict=True))
    ]
    idle_classes = _idle_classes(profile.locks, names, verdicts)
    locks = [
        replace(lock, name=name, kind=kind, is_idle=(name, kind) in idle_classes)
        for lock, name, (kind, _) in zip(profile.locks, names, verdicts, strict=True)
    ]
    return replace(profile, locks=tuple(locks))


def object_address(lock: Lock) -> int:
    """The address that stands for a lock of several futex words, where its kind is one of those."""
    return lock.address & ~7 if lock.kind in _PAIRED and not lock.has_owner else lock.address


def _waits_by_lock(rows: LockRows) -> tuple[dict[int, dict[_Verdict, int]], dict[int, dict[_Place, int]]]:
    """For each lock the time waited by verdict, and by place, in nanoseconds."""
    votes: dict[int, dict[_Verdict, int]] = defaultdict(lambda: defaultdict(int))
    places: dict[int, dict[_Place, int]] = defaultdict(lambda: defaultdict(int))
    waits = (rows.delay_ns > 0) & (rows.site >= 0)
    for lock, site, idle, delay_ns in _summed(rows, waits, rows.delay_ns):
        function, module, kind = rows.sites[site]
        votes[lock][kind, bool(idle) and kind not in _NEVER_IDLE] += delay_ns
        places[lock][function, module] += delay_ns
    return votes, places


def _release_places(profile: Profile, rows: LockRows) -> dict[int, set[_Place]]:
    """For each lock that has an owner, where it was given back: most often in the function that took it."""
    has_owner = np.array([lock.has_owner for lock in profile.locks], np.bool_)
    releases = (rows.caused_ns > 0) & (rows.site >= 0) & has_owner[rows.lock]
    found: dict[int, set[_Place]] = defaultdict(set)
    for lock, site, _, _ in _summed(rows, releases, rows.caused_ns):
        found[lock].add(rows.sites[site][:2])
    return found


def _summed(rows: LockRows, chosen: NDArray[np.bool_], weights: NDArray[np.int64]) -> list[list[int]]:
    """(lock, site, whether idle, weight) of the chosen rows, each combination of the first three once."""
    columns = np.stack([rows.lock[chosen], rows.site[chosen], rows.is_idle[chosen].astype(np.int64)], axis=1)
    distinct, inverse = np.unique(columns, axis=0, return_inverse=True)
    summed = np.zeros(len(distinct), np.int64)
    np.add.at(summed, inverse.reshape(-1), weights[chosen])
    return np.column_stack((distinct, summed)).tolist()


def _verdict(lock: Lock, votes: dict[_Verdict, int]) -> _Verdict:
    """The kind of a lock and whether it is idle, by the time waited with each verdict, or without any."""
    if lock.memory is Memory.UNKNOWN:
        return FUTEX, False
    kind, is_idle = min(votes, key=lambda vote: (-votes[vote], vote)) if votes else (FUTEX, False)
    if lock.operation is FutexOperation.LOCK_PI and kind in (*_UNKNOWN_KINDS, "mutex"):
        return PI_MUTEX, False
    if kind == "condition" and (lock.symbol.startswith(_PYTHON_RUNTIME) or ("gil", False) in votes):
        return "gil", False
    if kind not in _UNKNOWN_KINDS:
        return kind, is_idle
    if lock.has_owner:
        return "mutex", False
    if lock.operation is FutexOperation.WAIT_REQUEUE_PI:
        return "condition", True
    if not votes and lock.ends.still_open == lock.ends.total:
        return kind, True
    return (SLEEP, True) if _only_times_out(lock.ends) else (kind, is_idle)


def _only_times_out(ends: WaitEnds) -> bool:
    return ends.timed_out > 1 and ends.timed_out + ends.interrupted + ends.still_open == ends.total


def _class_places(
    nameless: dict[int, dict[_Place, int]], releases: dict[int, set[_Place]], kinds: Sequence[str]
) -> dict[int, _Place]:
    """For each lock without a name the place that names its class; none for those without a place.

    Whichever of a class's places one lock was seen at, the heaviest of all that it has decides. Where a mutex was given
    back counts too, if such locks are waited for there.
    """
    totals: dict[tuple[str, _Place], int] = defaultdict(int)
    for index, places in nameless.items():
        for place, delay_ns in places.items():
            totals[kinds[index], place] += delay_ns
    chosen: dict[int, _Place] = {}
    for index, places in nameless.items():
        kind = kinds[index]
        own = {*places, *(place for place in releases.get(index, ()) if (kind, place) in totals)}
        if own:
            chosen[index] = min(own, key=lambda place: (-totals[kind, place], place))
    return chosen


def _symbol(lock: Lock) -> str:
    """What the lock is called by its place; empty where that says nothing."""
    if lock.memory is Memory.UNKNOWN:
        return BEYOND_TABLE
    if lock.memory is Memory.SHARED and lock.symbol.startswith(_NAMELESS_FILES):
        return ""
    return lock.symbol


def _name(lock: Lock, kind: str, place: _Place | None) -> str:
    symbol = _symbol(lock)
    if symbol:
        return _symbol_of_pair(symbol) if kind in _PAIRED and not lock.has_owner else symbol
    return class_name(kind, place[0]) if place else UNSAMPLED


def _symbol_of_pair(symbol: str) -> str:
    offset = _OFFSET.search(symbol)
    if not offset:
        return symbol
    first = int(offset[1], 16) & ~7
    return f"{symbol[: offset.start()]}{f'+0x{first:x}' if first else ''}"


def class_name(kind: str, function: str) -> str:
    """What locks of a kind are called that have no name but are waited for in a function: `lock taken in f`."""
    site = short_name(function)
    if kind in _WAITED_FOR:
        return f"{kind} waited for in {site}"
    return {"join": f"thread joined in {site}", SLEEP: f"sleep in {site}"}.get(kind, f"lock taken in {site}")


def _idle_classes(
    locks: Sequence[Lock], names: Sequence[str], verdicts: Sequence[_Verdict]
) -> frozenset[tuple[str, str]]:
    """The names and kinds of which most of the time was waited for locks that are idle: a class is as a whole."""
    balance: dict[tuple[str, str], int] = defaultdict(int)
    for lock, name, (kind, is_idle) in zip(locks, names, verdicts, strict=True):
        weight = max(lock.total_ns, 1)
        balance[name, kind] += weight if is_idle else -weight
    return frozenset(key for key, weight in balance.items() if weight > 0)
