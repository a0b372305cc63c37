"""The lock table of a profile with waits: a row for each lock or class, and for CPU time that none explains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from flame.locks.histogram import quantile_ns
from flame.locks.lock_rows import LockRows, lock_rows
from flame.locks.naming import class_name, name_locks, object_address
from flame.locks.rules import LockRules
from flame.locks.wait_cpu import ContendedSite, contended_sites, delays_by_site, split
from flame.locks.wait_stacks import WeightedStack, names_of_stack, weighted_stacks
from lockflame.profile import HISTOGRAM_BUCKETS, Lock, Profile, WaitEnds

PATH_NAMES = 3
"""How many functions a worst path has: the one that called the lock, and its next callers."""
_ENDS = tuple(field.name for field in fields(WaitEnds))
ASCENDING = frozenset({"lock", "kind"})


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A lock, or all locks of a class: those of the same name and kind. Times are in nanoseconds.

    Exact, from the kernel's counts: `waits`, `ends`, `total_ns`, `max_ns`, `histogram`, `unreleased_ns`.
    `threads` is exact for one address; for several it is at least so many, as their counts may be of the same threads.
    The quantiles lie in the right bucket of the histogram, and so within a factor of two. `share` is `total_ns` of the
    recording's duration: how many threads waited at a time, on average. `caused_ns` is what releases are charged with;
    `has_owner` says that they are holders, else whoever woke the waiters. `contended_cpu_ns` is the CPU time spent
    where the waits are. Paths are functions' names, the lock's caller first; empty where no sample shows one.
    """

    lock: str
    kind: str
    is_idle: bool
    members: tuple[int, ...]
    """Indices of `Profile.locks`, the longest waited for first; empty for CPU time without waits."""
    addresses: int
    waits: int
    threads: int
    total_ns: int
    p50_ns: int
    p99_ns: int
    max_ns: int
    share: float
    contended_cpu_ns: int
    caused_ns: int
    unreleased_ns: int
    woken_ns: int
    has_owner: bool
    histogram: tuple[int, ...]
    ends: WaitEnds
    wait_path: tuple[str, ...]
    hold_path: tuple[str, ...]

    @property
    def mean_ns(self) -> int:
        """The mean of all waits."""
        return round(self.total_ns / self.waits) if self.waits else 0


@dataclass(frozen=True, slots=True, eq=False)
class WaitTable:
    """All rows, the longest waited for first, and what they were made of.

    `profile` has its locks named; `by_lock`, int64, are the indices into `lock_rows` in the order of their locks.
    """

    profile: Profile
    lock_rows: LockRows
    by_lock: NDArray[np.int64]
    rows: tuple[WaitRow, ...]

    def waiters(self, row: WaitRow) -> list[WeightedStack]:
        """The stacks that waited for a row's locks, heaviest first."""
        return self._stacks(row, self.lock_rows.delay_ns)

    def holders(self, row: WaitRow) -> list[WeightedStack]:
        """The stacks with which they were given back, or their waiters woken, heaviest first."""
        return self._stacks(row, self.lock_rows.caused_ns)

    def _stacks(self, row: WaitRow, weight_ns: NDArray[np.int64]) -> list[WeightedStack]:
        rows = self.lock_rows
        members = np.array(row.members, np.int64)
        first, end = (np.searchsorted(rows.lock[self.by_lock], members, side) for side in ("left", "right"))
        spans = [self.by_lock[start:stop] for start, stop in zip(first.tolist(), end.tolist(), strict=True)]
        of_row = np.concatenate([np.zeros(0, np.int64), *spans])
        of_row = of_row[weight_ns[of_row] > 0]
        return weighted_stacks(self.profile, rows.stack[of_row], weight_ns[of_row], rows.depth)


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """Which locks make a row: `of_lock[i]` is the group of lock `i`, `members` the locks of each."""

    of_lock: list[int]
    members: list[list[int]]


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What samples say of a row."""

    threads: int
    contended_cpu_ns: int
    caused_ns: int
    wait_path: tuple[str, ...]
    hold_path: tuple[str, ...]


def wait_table(profile: Profile, rules: LockRules, apart: Collection[int] = ()) -> WaitTable:
    """The table of a profile's locks. Those whose index is in `apart` get rows of their own, and not their class."""
    rows = lock_rows(profile, rules)
    named = name_locks(profile, rules, rows)
    groups = _grouped(named.locks, apart)
    cpu_ns, sites_left = _shared_out(contended_sites(profile, rules), delays_by_site(rows, groups.of_lock))
    group = np.array(groups.of_lock, np.int64)[rows.lock]
    sampled = _sampled(named, rows, group, len(groups.members), cpu_ns)
    found = [_row(named, members, of_group) for members, of_group in zip(groups.members, sampled, strict=True)]
    found = _with_cpu_sites(named, found, sites_left)
    order = sorted(found, key=lambda row: (-row.total_ns, row.lock, row.kind))
    return WaitTable(named, rows, np.argsort(rows.lock), tuple(order))


def sorted_rows(rows: Sequence[WaitRow], attribute: str) -> list[WaitRow]:
    """The rows by one of their attributes: texts ascending, amounts largest first, ties in the order given."""
    return sorted(rows, key=attrgetter(attribute), reverse=attribute not in ASCENDING)


def _grouped(locks: Sequence[Lock], apart: Collection[int]) -> _Groups:
    groups: dict[tuple[str, str, int], int] = {}
    of_lock = [
        groups.setdefault((lock.name, lock.kind, index if index in apart else -1), len(groups))
        for index, lock in enumerate(locks)
    ]
    members: list[list[int]] = [[] for _ in groups]
    for index, group in enumerate(of_lock):
        members[group].append(index)
    return _Groups(of_lock, members)


def _sampled(
    profile: Profile, rows: LockRows, group: NDArray[np.int64], groups: int, cpu_ns: dict[int, int]
) -> list[_Sampled]:
    """What samples say of each group. `group` is that of each row, `cpu_ns` the CPU time of groups that have some."""
    threads = _sampled_threads(profile, rows, group, groups)
    wait_paths = _worst_paths(profile, rows, group, rows.delay_ns)
    hold_paths = _worst_paths(profile, rows, group, rows.caused_ns)
    caused = np.zeros(groups, np.int64)
    np.add.at(caused, group, rows.caused_ns)
    return [
        _Sampled(threads[at], cpu_ns.get(at, 0), int(caused[at]), wait_paths.get(at, ()), hold_paths.get(at, ()))
        for at in range(groups)
    ]


def _row(profile: Profile, members: list[int], sampled: _Sampled) -> WaitRow:
    """The row of these locks, of which there is one at least."""
    locks = [profile.locks[index] for index in members]
    histogram = tuple(map(sum, zip(*(lock.histogram for lock in locks), strict=True)))
    total_ns, max_ns = sum(lock.total_ns for lock in locks), max(lock.max_ns for lock in locks)
    ends = _summed_ends(locks)
    counts = [lock.threads for lock in locks]
    duration_ns = profile.recording.duration_ns
    return WaitRow(
        lock=locks[0].name,
        kind=locks[0].kind,
        is_idle=locks[0].is_idle,
        members=tuple(sorted(members, key=lambda index: (-profile.locks[index].total_ns, index))),
        addresses=len({(lock.pid, object_address(lock)) for lock in locks}),
        waits=ends.total,
        threads=min(sum(counts), max(*counts, sampled.threads)) if len(counts) > 1 else counts[0],
        total_ns=total_ns,
        p50_ns=quantile_ns(histogram, 0.5, max_ns),
        p99_ns=quantile_ns(histogram, 0.99, max_ns),
        max_ns=max_ns,
        share=total_ns / duration_ns if duration_ns > 0 else 0.0,
        contended_cpu_ns=sampled.contended_cpu_ns,
        caused_ns=sampled.caused_ns,
        unreleased_ns=sum(lock.unreleased_ns for lock in locks),
        woken_ns=sum(lock.woken_ns for lock in locks),
        has_owner=2 * sum(lock.total_ns for lock in locks if lock.has_owner) > total_ns,
        histogram=histogram,
        ends=ends,
        wait_path=sampled.wait_path,
        hold_path=sampled.hold_path,
    )


def _summed_ends(locks: Sequence[Lock]) -> WaitEnds:
    if len(locks) == 1:
        return locks[0].ends
    return WaitEnds(**{name: sum(getattr(lock.ends, name) for lock in locks) for name in _ENDS})


def _sampled_threads(profile: Profile, rows: LockRows, group: NDArray[np.int64], groups: int) -> list[int]:
    """How many threads were sampled waiting in each group, a thread that changed its name being one."""
    tasks: dict[tuple[int, int], int] = {}
    task = np.array([tasks.setdefault((thread.pid, thread.tid), len(tasks)) for thread in profile.threads], np.int64)
    waits = rows.delay_ns > 0
    pairs = np.unique(group[waits] * max(len(tasks), 1) + task[rows.thread[waits]])
    return np.bincount(pairs // max(len(tasks), 1), minlength=groups).tolist()


def _worst_paths(
    profile: Profile, rows: LockRows, group: NDArray[np.int64], weight_ns: NDArray[np.int64]
) -> dict[int, tuple[str, ...]]:
    """For each group the path with the most weight; none where no stack has a site."""
    chosen = (rows.site >= 0) & (weight_ns > 0)
    stacks = max(len(profile.stacks), 1)
    pairs, inverse = np.unique(group[chosen] * stacks + rows.stack[chosen], return_inverse=True)
    weights = np.zeros(len(pairs), np.int64)
    np.add.at(weights, inverse, weight_ns[chosen])
    paths: dict[int, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
    for pair, weight in zip(pairs.tolist(), weights.tolist(), strict=True):
        index, stack = divmod(pair, stacks)
        paths[index][names_of_stack(profile, stack, int(rows.depth[stack]), PATH_NAMES)] += weight
    return {index: min(found, key=lambda path: (-found[path], path)) for index, found in paths.items()}


def _shared_out(
    sites: list[ContendedSite], delays: dict[tuple[str, str, str], dict[int, int]]
) -> tuple[dict[int, int], list[ContendedSite]]:
    """The CPU time of each group, and the sites at which none is waited for."""
    cpu_ns: dict[int, int] = defaultdict(int)
    left: list[ContendedSite] = []
    for contended in sites:
        if contended.site not in delays:
            left.append(contended)
            continue
        for group, part in split(contended.cpu_ns, delays[contended.site]).items():
            cpu_ns[group] += part
    return cpu_ns, left


def _with_cpu_sites(profile: Profile, rows: list[WaitRow], sites: list[ContendedSite]) -> list[WaitRow]:
    """The rows, with CPU time at sites where nothing is waited for added to what has the same name, or as rows."""
    found = dict(enumerate(rows))
    by_name = {(row.lock, row.kind): index for index, row in found.items()}
    for contended in sites:
        function, _, kind = contended.site
        key = (class_name(kind, function), kind)
        index = by_name.setdefault(key, len(found))
        row = found.get(index) or _row_without_waits(*key)
        path = row.wait_path or names_of_stack(profile, contended.stack, contended.depth, PATH_NAMES)
        found[index] = replace(row, contended_cpu_ns=row.contended_cpu_ns + contended.cpu_ns, wait_path=path)
    return list(found.values())


def _row_without_waits(lock: str, kind: str) -> WaitRow:
    return WaitRow(
        lock=lock,
        kind=kind,
        is_idle=False,
        members=(),
        addresses=0,
        waits=0,
        threads=0,
        total_ns=0,
        p50_ns=0,
        p99_ns=0,
        max_ns=0,
        share=0.0,
        contended_cpu_ns=0,
        caused_ns=0,
        unreleased_ns=0,
        woken_ns=0,
        has_owner=False,
        histogram=(0,) * HISTOGRAM_BUCKETS,
        ends=WaitEnds(),
        wait_path=(),
        hold_path=(),
    )
