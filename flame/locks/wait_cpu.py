"""CPU time of contended locks, shared out to those that are waited for at the same places: a lock that is spun on
first and slept on then is one row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flame.locks.attribution import Verdict, attribute
from flame.locks.lock_rows import LockRows, WaitSite, wait_sites
from flame.locks.rules import LockRules
from flame.locks.sites import sites_of_stacks
from lockflame.profile import CPU, Profile


@dataclass(frozen=True, slots=True)
class ContendedSite:
    """A place that loses CPU time to locks which others hold, and the heaviest of its stacks: an index, and how many
    frames that has before the site."""

    site: WaitSite
    cpu_ns: int
    stack: int
    depth: int


def contended_sites(profile: Profile, rules: LockRules) -> list[ContendedSite]:
    """All such places, in the order of their stacks."""
    attribution = attribute(profile, rules)
    weights = attribution.weights(profile, CPU, Verdict.CONTENDED)
    keys, site_of_stack = sites_of_stacks(profile, attribution, by_place=False)
    sites, index = wait_sites(keys)
    cpu_ns: dict[int, int] = defaultdict(int)
    heaviest: dict[int, int] = {}
    for stack in np.flatnonzero(weights > 0).tolist():
        site = int(index[site_of_stack[stack]])
        cpu_ns[site] += int(weights[stack])
        if site not in heaviest or weights[stack] > weights[heaviest[site]]:
            heaviest[site] = stack
    return [
        ContendedSite(sites[site], total, heaviest[site], int(attribution.depth[heaviest[site]]))
        for site, total in cpu_ns.items()
    ]


def delays_by_site(rows: LockRows, group_of_lock: list[int]) -> dict[WaitSite, dict[int, int]]:
    """How long was waited at each site for the locks of each group, in nanoseconds."""
    delays: dict[WaitSite, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    chosen = np.flatnonzero((rows.site >= 0) & (rows.delay_ns > 0))
    columns = (rows.lock[chosen].tolist(), rows.site[chosen].tolist(), rows.delay_ns[chosen].tolist())
    for lock, site, delay_ns in zip(*columns, strict=True):
        delays[rows.sites[site]][group_of_lock[lock]] += delay_ns
    return delays


def split(total: int, weights: Mapping[int, int]) -> dict[int, int]:
    """The total in proportion to the weights, in whole numbers that sum up to it. The weights' sum isn't 0."""
    whole = sum(weights.values())
    parts: dict[int, int] = {}
    before = 0
    for key in sorted(weights):
        after = before + weights[key]
        parts[key] = total * after // whole - total * before // whole
        before = after
    return parts
