"""Lock sites: where a program calls its locks, and what CPU time goes there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flame.frames import stack_weights
from flame.locks.attribution import Attribution, Verdict
from flame.locks.interval import effective_samples, wilson
from lockflame.profile import CPU, SAMPLES, FrameKind, Location, Profile, SampleType

NEGLIGIBLE_SHARE = 0.01
"""Below this share of the CPU time, contention isn't worth speaking of: every kernel has some."""

SiteKey: TypeAlias = tuple[str, str, str, str, int]
"""Function, module, kind of lock, source path, and line or address: see `_key_of`."""


@dataclass(frozen=True, slots=True)
class LockSite:
    """One place that calls a lock. Names are as the profile has them: not escaped for a terminal or a file.

    `contended_cpu_ns` and `locking_cpu_ns` don't overlap. `share` is their sum's share of the profile's CPU time (0 to
    1), `share_low` and `share_high` its 95 % interval. `address` is where the function was when it called, as linked
    (the heaviest, where there are several); `path` is empty and `line` 0 where the source isn't known. `user_caller` is
    the function that called the kernel, for sites within it. `samples` and `threads` count what was charged.
    """

    site: str
    path: str
    line: int
    address: int
    module: str
    frame_kind: FrameKind
    user_caller: str
    kind: str
    contended_cpu_ns: int
    locking_cpu_ns: int
    samples: int
    share: float
    share_low: float
    share_high: float
    threads: int


@dataclass(frozen=True, slots=True)
class LockPath:
    """A site that holds the program up, and the heaviest stack that leads there.

    `share` is the contended part of the profile's CPU time, 0 to 1. `stack` indexes `Profile.stacks`; its frames from
    index `depth` on (leaf first, inlined ones too) are the site and its callers, those before are the lock.
    """

    site: str
    kind: str
    contended_cpu_ns: int
    share: float
    stack: int
    depth: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The charged rows of a profile's samples: `site` indexes the keys; all are arrays of one entry per row."""

    site: NDArray[np.int64]
    stack: NDArray[np.int32]
    thread: NDArray[np.int32]
    cpu_ns: NDArray[np.int64]
    samples: NDArray[np.int64]
    contended: NDArray[np.bool_]


def lock_sites(profile: Profile, attribution: Attribution) -> list[LockSite]:
    """All lock sites, the most contended first, then by locking CPU time and name. Empty without CPU time.

    A site is a function and kind of lock at one source line, or at one address where lines aren't known.
    """
    keys, site_of_stack = sites_of_stacks(profile, attribution, by_place=True)
    rows = _charged_rows(profile, attribution, site_of_stack)
    whole = profile.total(CPU)
    if whole <= 0 or not keys:
        return []
    independent = effective_samples(_column(profile, CPU), _column(profile, SAMPLES))
    contended = _summed(rows.site, np.where(rows.contended, rows.cpu_ns, 0), len(keys))
    locking = _summed(rows.site, np.where(rows.contended, 0, rows.cpu_ns), len(keys))
    samples = _summed(rows.site, rows.samples, len(keys))
    threads = _distinct(rows.site, rows.thread, len(keys), len(profile.threads))
    heaviest = _heaviest_stacks(rows, len(keys))
    found: list[LockSite] = []
    for index, (site, module, kind, path, _) in enumerate(keys):
        total = int(contended[index] + locking[index])
        if total <= 0:
            continue
        location = profile.locations[attribution.location[heaviest[index]]]
        share = min(1.0, total / whole)
        low, high = wilson(share, independent)
        found.append(
            LockSite(
                site=site,
                path=path,
                line=location.lines[attribution.line[heaviest[index]]].line,
                address=location.address,
                module=module,
                frame_kind=location.kind,
                user_caller=_user_caller(profile, location, int(heaviest[index])),
                kind=kind,
                contended_cpu_ns=int(contended[index]),
                locking_cpu_ns=int(locking[index]),
                samples=int(samples[index]),
                share=share,
                share_low=low,
                share_high=high,
                threads=int(threads[index]),
            )
        )
    return sorted(found, key=lambda row: (-row.contended_cpu_ns, -row.locking_cpu_ns, row.site, row.line, row.address))


def _user_caller(profile: Profile, site: Location, stack: int) -> str:
    """The innermost function outside the kernel of a stack whose site is in the kernel; empty for other sites."""
    if site.kind is not FrameKind.KERNEL:
        return ""
    locations: list[int] = profile.stacks[stack].tolist()
    outside = (profile.locations[at] for at in locations)
    called = next((location for location in outside if location.kind in (FrameKind.USER, FrameKind.JIT)), None)
    return profile.functions[called.lines[0].function].name if called else ""


def worst_paths(profile: Profile, attribution: Attribution, limit: int = 3) -> list[LockPath]:
    """The functions that lose the most CPU time to contention, worst first, at most `limit`, none without any.

    A function is here one site for each kind of lock, whatever the line: as a flame graph shows it.
    """
    keys, site_of_stack = sites_of_stacks(profile, attribution, by_place=False)
    weights = np.where(attribution.verdict == Verdict.CONTENDED, stack_weights(profile, CPU), 0)
    whole = profile.total(CPU)
    if whole <= 0:
        return []
    charged = np.flatnonzero((site_of_stack >= 0) & (weights > 0))
    contended = _summed(site_of_stack[charged], weights[charged], len(keys))
    order: list[int] = sorted(np.flatnonzero(contended).tolist(), key=lambda site: (-int(contended[site]), keys[site]))
    paths: list[LockPath] = []
    for site in order[: max(limit, 0)]:
        stack = int(np.argmax(np.where(site_of_stack == site, weights, -1)))
        cpu_ns = int(contended[site])
        paths.append(
            LockPath(keys[site][0], keys[site][2], cpu_ns, cpu_ns / whole, stack, int(attribution.depth[stack]))
        )
    return paths


def sites_of_stacks(
    profile: Profile, attribution: Attribution, *, by_place: bool
) -> tuple[list[SiteKey], NDArray[np.int64]]:
    """The distinct sites, and for each stack the index of its own, -1 where it isn't charged: int64[stacks].

    Unless `by_place`, a function is one site for each kind of lock, whatever the line.
    """
    site_of_stack = np.full(len(profile.stacks), -1, np.int64)
    charged = np.flatnonzero(attribution.verdict)
    columns = (attribution.location, attribution.line, attribution.kind)
    triples = np.stack([column[charged].astype(np.int64) for column in columns], axis=1)
    distinct, inverse = np.unique(triples, axis=0, return_inverse=True)
    index: dict[SiteKey, int] = {}
    rows: list[tuple[int, int, int]] = distinct.tolist()
    of_triple = [
        index.setdefault(_key_of(profile, location, line, attribution.kinds[kind], by_place=by_place), len(index))
        for location, line, kind in rows
    ]
    site_of_stack[charged] = np.array(of_triple, np.int64)[inverse.reshape(-1)]
    return list(index), site_of_stack


def _key_of(profile: Profile, location_index: int, line_index: int, kind: str, *, by_place: bool) -> SiteKey:
    location = profile.locations[location_index]
    line = location.lines[line_index]
    function = profile.functions[line.function]
    module = os.path.basename(profile.mappings[location.mapping].path) if location.mapping >= 0 else ""
    # Addresses are told from lines by their sign, which no line has.
    place = (line.line if line.line > 0 else ~location.address) if by_place else 0
    return function.name, module, kind, function.path if by_place else "", place


def _charged_rows(profile: Profile, attribution: Attribution, site_of_stack: NDArray[np.int64]) -> _Rows:
    samples = profile.samples
    # Waits for locks use no CPU.
    charged = np.flatnonzero((site_of_stack[samples.stack] >= 0) & (samples.lock < 0))
    stack = samples.stack[charged]
    return _Rows(
        site=site_of_stack[stack],
        stack=stack,
        thread=samples.thread[charged],
        cpu_ns=_column(profile, CPU)[charged],
        samples=_column(profile, SAMPLES)[charged],
        contended=attribution.verdict[stack] == Verdict.CONTENDED,
    )


def _column(profile: Profile, sample_type: SampleType) -> NDArray[np.int64]:
    """The values of one type, int64[rows]; without that type, a row is one sample and has no CPU time."""
    if sample_type in profile.sample_types:
        return profile.samples.values[:, profile.sample_types.index(sample_type)]
    return np.full(len(profile.samples), 1 if sample_type == SAMPLES else 0, np.int64)


def _summed(index: NDArray[np.int64], values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    result = np.zeros(length, np.int64)
    np.add.at(result, index, values)
    return result


def _distinct(index: NDArray[np.int64], values: NDArray[np.int32], length: int, bound: int) -> NDArray[np.int64]:
    """How many distinct values (below `bound`) each index has, int64[length]."""
    pairs = np.sort(index * max(bound, 1) + values)
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    return np.bincount(pairs // max(bound, 1), minlength=length)


def _heaviest_stacks(rows: _Rows, length: int) -> NDArray[np.int64]:
    """For each site the stack of its heaviest row, contended ones before others, int64[length]."""
    result = np.zeros(length, np.int64)
    order = np.lexsort((rows.cpu_ns, rows.contended))
    result[rows.site[order]] = rows.stack[order]
    return result
