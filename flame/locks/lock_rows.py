"""The waits and releases of a profile, with the functions that called the locks: one row for each of their samples."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flame.locks.attribution import OWN, Attribution, Verdict, attribute
from flame.locks.rules import LockRules
from flame.locks.sites import SiteKey, sites_of_stacks
from lockflame.profile import CAUSED_DELAY, DELAY, HELD, FrameKind, Profile, SampleType

FUTEX = "futex"
"""The kind of a lock of which only the system call is known."""

WaitSite: TypeAlias = tuple[str, str, str]
"""Function, file name of its binary, and kind of the lock that it calls; `OWN` where no rule knows the kind."""


_LIBC = re.compile(r"libc\.so|libc-2\.|ld-linux|ld-musl|libpthread")


@dataclass(frozen=True, slots=True, eq=False)
class LockRows:
    """The rows of a profile's samples that belong to a lock, and whose stack says who called it.

    `lock`, `stack` and `thread` index the profile's tables, `site` indexes `sites` and is -1 where the stack has none
    (a marker instead of what no sample stands for): int64[rows] each. `delay_ns` is what was waited, `caused_ns` what
    a release is charged with, or in a trace the time held, int64[rows]. `is_idle` (bool[rows]): the rules say that the
    stack waits for an event. `depth` (int32[stacks]) is how many frames a stack has before its site, -1 without one.
    """

    sites: tuple[WaitSite, ...]
    lock: NDArray[np.int64]
    stack: NDArray[np.int64]
    thread: NDArray[np.int64]
    site: NDArray[np.int64]
    delay_ns: NDArray[np.int64]
    caused_ns: NDArray[np.int64]
    is_idle: NDArray[np.bool_]
    depth: NDArray[np.int32]


def lock_rows(profile: Profile, rules: LockRules) -> LockRows:
    """The rows of all locks. Their stacks were taken in a futex call, and are judged as such."""
    samples = profile.samples
    rows = np.flatnonzero(samples.lock >= 0)
    in_futex = np.zeros(len(profile.stacks), np.bool_)
    in_futex[samples.stack[rows]] = True
    attribution = attribute(profile, rules, in_futex)
    attribution = _only(attribution, in_futex & ~_is_in_kernel(profile, attribution))
    keys, site_of_stack = sites_of_stacks(profile, attribution, by_place=False)
    sites, index = wait_sites(keys)
    stack = samples.stack[rows].astype(np.int64)
    site = site_of_stack[stack]
    return LockRows(
        sites=sites,
        lock=samples.lock[rows].astype(np.int64),
        stack=stack,
        thread=samples.thread[rows].astype(np.int64),
        site=np.where(site >= 0, np.append(index, -1)[site], -1),
        delay_ns=_column(profile, DELAY)[rows],
        caused_ns=_column(profile, release_type(profile))[rows],
        is_idle=attribution.verdict[stack] == Verdict.LOCKING,
        depth=attribution.depth,
    )


def release_type(profile: Profile) -> SampleType:
    """What is known of those who release locks: what others waited meanwhile, or in a trace how long they held them."""
    return HELD if HELD in profile.sample_types else CAUSED_DELAY


def wait_sites(keys: list[SiteKey]) -> tuple[tuple[WaitSite, ...], NDArray[np.int64]]:
    """The distinct sites of these keys, and for each key the index of its own: int64[keys]."""
    distinct: dict[WaitSite, int] = {}
    index = [
        distinct.setdefault((function, module, _kind(kind, function, module)), len(distinct))
        for function, module, kind, _, _ in keys
    ]
    return tuple(distinct), np.array(index, np.int64)


def _kind(kind: str, function: str, module: str) -> str:
    """What the rules don't know is a futex of the program's own, or one of the locks within libc: `malloc`'s."""
    if kind not in (FUTEX, OWN):
        return kind
    is_libc = bool(_LIBC.match(module)) and "+0x" not in function
    return "mutex" if is_libc else OWN


def _is_in_kernel(profile: Profile, attribution: Attribution) -> NDArray[np.bool_]:
    """Which stacks have their site in the kernel: those of a thread killed in its wait have no other frames."""
    kinds = np.array([location.kind for location in profile.locations] or [FrameKind.USER], np.uint8)
    return (attribution.location >= 0) & (kinds[attribution.location] == FrameKind.KERNEL)


def _only(attribution: Attribution, stacks: NDArray[np.bool_]) -> Attribution:
    """Sites for these stacks alone."""
    return replace(
        attribution,
        verdict=np.where(stacks, attribution.verdict, Verdict.NONE).astype(np.uint8),
        depth=np.where(stacks, attribution.depth, -1).astype(np.int32),
    )


def _column(profile: Profile, sample_type: SampleType) -> NDArray[np.int64]:
    """The values of one type, int64[rows]; zeros where the profile doesn't have it."""
    if sample_type in profile.sample_types:
        return profile.samples.values[:, profile.sample_types.index(sample_type)]
    return np.zeros(len(profile.samples), np.int64)
