"""The locks of both sides: waits, their times, and contended CPU time, before and after.

Waits are counted, not sampled: their noise is the program's own. Of a single recording it is estimated from the counts:

- Waits come in bursts, as one long hold makes many wait. `n` waits are taken to be as sure as `n / BURST` that are
  independent of each other; so the variance of their sum is `BURST` times the sum of the squares of their times, which
  the histogram tells.
- Queues answer to a little more load with much longer waits, so two runs differ more by waits than by CPU time:
  by `WAIT_SPREAD` of the value. With several recordings, it is measured as `noise` does it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.diff.functions import Amounts, weights_and_squares
from flame.diff.matching import stable_name
from flame.diff.noise import Floats, Side, compare, limit, side_of
from flame.diff.normalize import Scale
from flame.diff.pace import Pace
from flame.locks.histogram import quantile_ns
from flame.locks.naming import class_name
from flame.locks.rules import LockRules
from flame.locks.wait_cpu import contended_sites
from flame.locks.wait_table import WaitRow, wait_table
from lockflame.profile import CPU, HISTOGRAM_BUCKETS, Profile

BURST = 4.0
WAIT_SPREAD = 0.2
AMOUNTS = 4
"""Of each lock so many numbers are looked at."""


@dataclass(frozen=True, slots=True)
class LockKey:
    """What a lock is found again by: its name, or that of its class, and its kind."""

    name: str
    kind: str


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
    """The locks of one recording: the rows of its table that have waits, and contended CPU time in nanoseconds."""

    rows: dict[LockKey, list[WaitRow]]
    cpu_ns: dict[LockKey, int]


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
    tables = [[_found(profile, rules) for profile in side] for side in (before, after)]
    keys = sorted(
        {key for side in tables for found in side for key in found.cpu_ns}, key=lambda key: (key.name, key.kind)
    )
    first, second = _counts(tables[0], keys, before), _counts(tables[1], keys, after)
    is_idle = tuple(_is_idle(tables, key) for key in keys)
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
    return Side(np.array([value]), np.array([chosen.sampling.sum()]), np.array([spread]), side.sample)


def _found(profile: Profile, rules: LockRules) -> _Found:
    found = _Found(defaultdict(list), defaultdict(int))
    if profile.locks:
        for row in wait_table(profile, rules).rows:
            key = LockKey(stable_name(row.lock), row.kind)
            found.rows[key].append(row)
            found.cpu_ns[key] += row.contended_cpu_ns
    else:
        # What the table would say without waits, in half the time.
        for contended in contended_sites(profile, rules):
            function, _, kind = contended.site
            found.cpu_ns[LockKey(class_name(kind, function), kind)] += contended.cpu_ns
    return found


def _is_idle(tables: Iterable[Iterable[_Found]], key: LockKey) -> bool:
    return any(row.is_idle for side in tables for found in side for row in found.rows.get(key, ()))


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
                squared[at, index] += _sum_of_squares(row)
                histograms[index] = [sum(pair) for pair in zip(histograms[index], row.histogram, strict=True)]
                max_ns[index] = max(max_ns[index], row.max_ns)
    cpu_ns, cpu_squared = (sum(float(column.sum()) for column in columns) for columns in _cpu_columns(profiles))
    return _Counts(waits, total, squared, cpu, cpu_squared / cpu_ns if cpu_ns else 0.0, histograms, max_ns)


def _cpu_columns(profiles: Sequence[Profile]) -> tuple[list[Floats], list[Floats]]:
    pairs = [weights_and_squares(profile, CPU) for profile in profiles]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _sum_of_squares(row: WaitRow) -> float:
    """Of the row's waits' times, as its histogram has them: in each bucket they are taken to be of its middle length,
    on the logarithm's scale. Made to agree with the total and the longest wait, which are known exactly."""
    counts = np.array(row.histogram, np.float64)
    lengths = np.minimum(2.0 ** (np.arange(len(counts)) - 0.5), float(row.max_ns))
    guessed = float((counts * lengths).sum())
    if guessed <= 0:
        return 0.0
    squares = float((counts * lengths**2).sum()) * (row.total_ns / guessed) ** 2
    return max(squares, float(row.max_ns) ** 2)


def _wait_sides(side: _Counts, scale: Scale, count_scale: Scale) -> tuple[Side, Side, Side]:
    """Numbers of waits, their total times and the mean of them."""
    waits = side_of(side.waits, side.waits * BURST, count_scale, WAIT_SPREAD, contended=1)
    total = side_of(side.total, side.squared * BURST, scale, WAIT_SPREAD, contended=1)
    count, time = side.waits.sum(axis=0), side.total.sum(axis=0)
    there = (count > 0) & (time > 0)
    safe_count = np.where(there, count, 1)
    mean = np.where(there, time / safe_count, 0)
    beyond_mean = np.maximum(side.squared.sum(axis=0) / safe_count - mean**2, 0)
    return waits, total, Side(mean, beyond_mean * BURST / safe_count, total.spread)


def _cpu_side(side: _Counts, scale: Scale) -> Side:
    return side_of(side.cpu, side.cpu * side.sample_ns, scale, contended=1)


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
    """Whether the ranges in which the quantiles lie are apart, by more than two runs differ anyway."""
    reach = limit(tests)
    apart = 1 + reach * math.hypot(WAIT_SPREAD, pace.spread, pace.contended_spread)
    ranges = [[_p99_range(side, index, reach) for index in range(len(side.max_ns))] for side in (first, second)]
    return tuple(
        low > 0 and other_low > 0 and (high * apart < other_low or other_high * apart < low)
        for (low, high), (other_low, other_high) in zip(*ranges, strict=True)
    )


def _p99_range(side: _Counts, index: int, reach: float) -> tuple[int, int]:
    """The waits of the ranks between which the 99th percentile lies; nothing without waits."""
    histogram = side.histograms[index]
    waits = sum(histogram)
    if not waits:
        return 0, 0
    deviation = reach * math.sqrt(BURST * 0.99 * 0.01 / waits)
    longest = side.max_ns[index]
    high = 0.99 + deviation
    return (
        quantile_ns(histogram, max(0.99 - deviation, 0.0), longest),
        longest if high >= 1 else quantile_ns(histogram, high, longest),
    )
