"""The locks of both sides: waits, their times, and contended CPU time, before and after."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.diff.functions import Amounts
from flame.diff.lock_names import LockKey, Named, key_of, named_together
from flame.diff.noise import Floats, Side, compare, limit, side_of
from flame.diff.normalize import Scale
from flame.diff.pace import Pace
from flame.diff.weights import BURST, WAIT_SPREAD, sum_of_squares, weights_and_squares
from flame.locks.histogram import quantile_ns
from flame.locks.naming import class_name
from flame.locks.rules import LockRules
from flame.locks.wait_cpu import contended_sites
from flame.locks.wait_table import WaitRow, WaitTable, wait_table
from lockflame.profile import CPU, HISTOGRAM_BUCKETS, Lock, Profile

AMOUNTS = 4
"""Of each lock so many numbers are looked at."""


@dataclass(frozen=True, slots=True)
class WaitTimes:
    """What one side's waits for a lock were like, whatever their number, in nanoseconds; all 0 without waits."""

    mean_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class LockTable:
    """A row for each lock that was waited for, or lost CPU time, on either side.

    `waits`, `total` (nanoseconds) and `contended_cpu` (nanoseconds) are made comparable by the scales; `mean` (of a
    wait, in nanoseconds), `times_before` and `times_after` are as they are. Of the longest wait no noise is known: it
    is a single one.
    """

    keys: tuple[LockKey, ...]
    is_idle: tuple[bool, ...]
    waits: Amounts
    total: Amounts
    mean: Amounts
    contended_cpu: Amounts
    times_before: tuple[WaitTimes, ...]
    times_after: tuple[WaitTimes, ...]
    p99_stands_out: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """One side's locks: float64[recordings, locks] each, not scaled; `histograms` has one for each."""

    waits: Floats
    total: Floats
    squared: Floats
    cpu: Floats
    sample_ns: float
    histograms: list[list[int]]
    max_ns: list[int]


@dataclass(frozen=True, slots=True)
class _Found:
    """The locks of one recording: the rows of its table, contended CPU time in nanoseconds, and which are idle."""

    rows: dict[LockKey, list[WaitRow]]
    cpu_ns: dict[LockKey, int]
    idle: set[LockKey]


def lock_table(
    before: Sequence[Profile],
    after: Sequence[Profile],
    wait_scales: tuple[Scale, Scale],
    cpu_scales: tuple[Scale, Scale],
    rules: LockRules,
    count_scales: tuple[Scale, Scale] | None = None,
) -> LockTable:
    """The locks of both sides. Scales differ only where values are shares of a total: of all time waited, of all CPU
    time, and of all waits (`count_scales`, by default the first)."""
    found = _found((*before, *after), rules)
    tables = found[: len(before)], found[len(before) :]
    keys = sorted({key for one in found for key in one.cpu_ns}, key=lambda key: (key.name, key.kind))
    first, second = _counts(tables[0], keys, before), _counts(tables[1], keys, after)
    is_idle = tuple(any(key in one.idle for one in found) for key in keys)
    tests = AMOUNTS * max(is_idle.count(False), 1)
    counts = count_scales or wait_scales
    of_waits = zip(
        _wait_sides(first, wait_scales[0], counts[0]), _wait_sides(second, wait_scales[1], counts[1]), strict=True
    )
    waits, total, mean = (_amounts(*sides, tests) for sides in of_waits)
    return LockTable(
        keys=tuple(keys),
        is_idle=is_idle,
        waits=waits,
        total=total,
        mean=mean,
        contended_cpu=_amounts(_cpu_side(first, cpu_scales[0]), _cpu_side(second, cpu_scales[1]), tests),
        times_before=_times(first),
        times_after=_times(second),
        p99_stands_out=_p99_differs(first, second, tests, wait_scales[0].pace),
    )


def sum_over_rows(amounts: Amounts, chosen: Sequence[int]) -> Amounts:
    """Of some locks together: amounts of a single value."""
    rows = np.array(chosen, np.int64)
    first, second = (_summed(side, rows) for side in (amounts.before, amounts.after))
    return _amounts(first, second, 1)


def _amounts(before: Side, after: Side, tests: int) -> Amounts:
    return Amounts(before, after, compare(before, after, tests))


def _summed(side: Side, rows: NDArray[np.int64]) -> Side:
    """The sum of some values. Runs that are bad for one lock are so for others: their deviations add up."""
    chosen = side.at(rows)
    value = float(chosen.value.sum())
    spread = (float(np.sqrt(chosen.runs).sum()) / value) ** 2 if value > 0 else 0.0
    return Side(np.array([value]), np.array([chosen.sampling.sum()]), np.array([spread]), side.sample, side.pace)


def _found(profiles: Sequence[Profile], rules: LockRules) -> list[_Found]:
    tables = {at: wait_table(profile, rules) for at, profile in enumerate(profiles) if profile.locks}
    together = named_together(
        [table.profile for table in tables.values()], [table.lock_rows for table in tables.values()], rules
    )
    locks = dict(zip(tables, together.locks, strict=True))
    found: list[_Found] = []
    for at, profile in enumerate(profiles):
        one = _Found(defaultdict(list), defaultdict(int), set())
        if at in tables:
            _add_rows(one, _fitting(tables[at], profile, locks[at], rules), locks[at], together)
        else:
            # What the table would say without waits, in half the time.
            for contended in contended_sites(profile, rules):
                function, _, kind = contended.site
                one.cpu_ns[together.key(class_name(kind, function), kind)] += contended.cpu_ns
        found.append(one)
    return found


def _fitting(table: WaitTable, profile: Profile, locks: Sequence[Lock], rules: LockRules) -> WaitTable:
    """The table with rows that have one name each: locks which are a class by themselves need not be one together."""
    apart: set[int] = set()
    for row in table.rows:
        if len({key_of(locks[index]) for index in row.members}) > 1:
            apart.update(row.members)
    return wait_table(profile, rules, apart) if apart else table


def _add_rows(found: _Found, table: WaitTable, locks: Sequence[Lock], together: Named) -> None:
    for row in table.rows:
        key = key_of(locks[row.members[0]]) if row.members else together.key(row.lock, row.kind)
        found.rows[key].append(row)
        found.cpu_ns[key] += row.contended_cpu_ns
        if row.members and locks[row.members[0]].is_idle:
            found.idle.add(key)


def _counts(tables: Sequence[_Found], keys: Sequence[LockKey], profiles: Sequence[Profile]) -> _Counts:
    waits, total, squared, cpu = np.zeros((4, len(tables), len(keys)))
    histograms = [[0] * HISTOGRAM_BUCKETS for _ in keys]
    max_ns = [0] * len(keys)
    for at, found in enumerate(tables):
        for index, key in enumerate(keys):
            cpu[at, index] = found.cpu_ns.get(key, 0)
            for row in found.rows.get(key, ()):
                waits[at, index] += row.waits
                total[at, index] += row.total_ns
                squared[at, index] += sum_of_squares(row.histogram, row.total_ns, row.max_ns)
                histograms[index] = [sum(pair) for pair in zip(histograms[index], row.histogram, strict=True)]
                max_ns[index] = max(max_ns[index], row.max_ns)
    cpu_ns, cpu_squared = (sum(float(column.sum()) for column in columns) for columns in _cpu_columns(profiles))
    return _Counts(waits, total, squared, cpu, cpu_squared / cpu_ns if cpu_ns else 0.0, histograms, max_ns)


def _cpu_columns(profiles: Sequence[Profile]) -> tuple[list[Floats], list[Floats]]:
    pairs = [weights_and_squares(profile, CPU) for profile in profiles]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _wait_sides(side: _Counts, scale: Scale, count_scale: Scale) -> tuple[Side, Side, Side]:
    """Numbers of waits, their total times and the mean of them."""
    waits = side_of(side.waits, side.waits * BURST, count_scale, WAIT_SPREAD, exposed=1)
    total = side_of(side.total, side.squared * BURST, scale, WAIT_SPREAD, exposed=1)
    count, time = side.waits.sum(axis=0), side.total.sum(axis=0)
    there = (count > 0) & (time > 0)
    safe_count = np.where(there, count, 1)
    mean = np.where(there, time / safe_count, 0)
    beyond_mean = np.maximum(side.squared.sum(axis=0) / safe_count - mean**2, 0)
    return waits, total, Side(mean, beyond_mean * BURST / safe_count, total.spread)


def _cpu_side(side: _Counts, scale: Scale) -> Side:
    return side_of(side.cpu, side.cpu * side.sample_ns, scale, exposed=1)


def _times(side: _Counts) -> tuple[WaitTimes, ...]:
    count, time = side.waits.sum(axis=0), side.total.sum(axis=0)
    return tuple(
        WaitTimes(
            round(float(time[index] / count[index])) if count[index] else 0,
            quantile_ns(side.histograms[index], 0.99, longest),
            longest,
        )
        for index, longest in enumerate(side.max_ns)
    )


def _p99_differs(first: _Counts, second: _Counts, tests: int, pace: Pace) -> tuple[bool, ...]:
    """Whether the ranges in which the quantiles lie are apart, by more than two runs differ anyway: by as much as
    `noise` has it, where the spread is that of the ratio's logarithm. `pace` is the same for both sides."""
    reach = limit(tests)
    apart = math.exp(reach * math.sqrt(2) * math.hypot(WAIT_SPREAD, pace.spread))
    uneven = math.exp(reach * pace.exposed_spread)
    ranges = [[_p99_range(side, index, reach, uneven) for index in range(len(side.max_ns))] for side in (first, second)]
    return tuple(
        low > 0 and other_low > 0 and (high * apart < other_low or other_high * apart < low)
        for (low, high), (other_low, other_high) in zip(*ranges, strict=True)
    )


def _p99_range(side: _Counts, index: int, reach: float, uneven: float) -> tuple[int, int]:
    """The waits of the ranks between which the 99th percentile lies; nothing without waits.

    On a busy machine there are short waits, and long ones in which the holder has no CPU. It isn't known how many of
    these there would be another time: up to `uneven` times as many or as few.
    """
    histogram = side.histograms[index]
    waits = sum(histogram)
    if not waits:
        return 0, 0
    deviation = reach * math.sqrt(BURST * 0.99 * 0.01 / waits)
    longest = side.max_ns[index]
    low, high = 1 - 0.01 * uneven - deviation, 1 - 0.01 / uneven + deviation
    return (
        quantile_ns(histogram, max(low, 0.0), longest),
        longest if high >= 1 else quantile_ns(histogram, high, longest),
    )
