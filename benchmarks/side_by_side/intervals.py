"""Medians with an interval, and two tools compared round by round. Nothing is assumed about how values are spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

AIMED_COVERAGE_PERCENT = 95.0
LEAST_VALUES = 6
"""With fewer, no pair of order statistics covers the median in 95 % of all cases: the whole range is shown."""
NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Interval:
    """A median of `count` values, and where the true median lies.

    `coverage_percent` is how often such an interval holds the true median; None where it is only the range of the
    values, from the least to the greatest.
    """

    median: float
    low: float
    high: float
    count: int
    coverage_percent: float | None


@dataclass(frozen=True, slots=True)
class LossComparison:
    """Two tools' losses, round by round: their ratio, or where it would divide noise, their difference in points."""

    interval: Interval
    is_ratio: bool


def median_interval(values: Sequence[float]) -> Interval | None:
    """The median with the interval of the sign test whose coverage is nearest to 95 %; None without values.

    The interval runs from the k-th least to the k-th greatest value. The true median is outside only if fewer than k
    values fall on one side of it, and each falls there with even odds. Infinite values are welcome, NaN is not.
    """
    if not values:
        return None
    ordered = sorted(values)
    count = len(ordered)
    median = statistics.median(ordered)
    if count < LEAST_VALUES:
        return Interval(median, ordered[0], ordered[-1], count, None)
    place, coverage = nearest_place(count)
    return Interval(median, ordered[place - 1], ordered[count - place], count, coverage)


def nearest_place(count: int) -> tuple[int, float]:
    """The k of the sign test's interval for so many values, and its coverage in percent."""
    # From the widest on: of two that are as near, the wider is kept.
    places = range(1, (count + 1) // 2 + 1)
    place = min(places, key=lambda place: abs(coverage_percent(count, place) - AIMED_COVERAGE_PERCENT))
    return place, coverage_percent(count, place)


def coverage_percent(count: int, place: int) -> float:
    """How often the median is between the `place`-th least and the `place`-th greatest of `count` values."""
    tail = sum(math.comb(count, below) for below in range(place))
    return 100 - 200 * tail / 2**count


def paired_ratio(ours: Mapping[int, float], peer: Mapping[int, float]) -> Interval | None:
    """Ours divided by the peer's, in each round in which both ran. None without such a round.

    A peer's value of 0 or less counts as a ratio without bound: against us.
    """
    return median_interval([_ratio(ours[number], peer[number]) for number in sorted(ours.keys() & peer.keys())])


def paired_difference(ours: Mapping[int, float], peer: Mapping[int, float]) -> Interval | None:
    """Ours minus the peer's, in each round in which both ran. None without such a round."""
    return median_interval([ours[number] - peer[number] for number in sorted(ours.keys() & peer.keys())])


def is_clearly_above(values: Sequence[float], placebo: Sequence[float]) -> bool:
    """Whether the interval of `values` is above 0 and above all of the placebo's. Not without a placebo."""
    measured, noise = median_interval(values), median_interval(placebo)
    return measured is not None and noise is not None and measured.low > max(noise.high, 0.0)


def compare_losses(
    ours: Mapping[int, float], peer: Mapping[int, float], placebo: Mapping[int, float]
) -> LossComparison | None:
    """Our loss beside the peer's, both in percent; `placebo` is what the target loses with no tool at all.

    The ratio where the peer's loss is clearly above the placebo's, else the difference in points. None where they have
    no round in common.
    """
    both = ours.keys() & peer.keys()
    if is_clearly_above([peer[number] for number in sorted(both)], list(placebo.values())):
        ratio = paired_ratio(ours, peer)
        return None if ratio is None else LossComparison(ratio, is_ratio=True)
    difference = paired_difference(ours, peer)
    return None if difference is None else LossComparison(difference, is_ratio=False)


def _ratio(ours: float, peer: float) -> float:
    return ours / peer if peer > 0 else math.inf


def kind_text(count: int) -> str:
    """What the interval of so many values is."""
    rounds = f"{count} round{'s' if count != 1 else ''}"
    if count < LEAST_VALUES:
        return f"{rounds}: least to greatest value"
    return f"{rounds}: sign test, {nearest_place(count)[1]:.1f} % coverage"


def measured_text(value: float) -> str:
    """A figure for comparing with a limit: three digits after the point below 2, none from 100 on."""
    size = abs(value)
    return _number_text(value, 3 if size < 2 else 2 if size < 10 else 1 if size < 100 else 0)


def short_text(value: float) -> str:
    """A figure for a reader in a hurry: two digits that count, at most four after the point."""
    size = abs(value)
    if size >= 10 or size == 0:
        return _number_text(value, 0)
    return _number_text(value, min(4, 1 - math.floor(math.log10(size))))


def tenths_text(value: float) -> str:
    """Percent or points."""
    return _number_text(value, 1)


def interval_text(interval: Interval, unit: str, number_text: Callable[[float], str] = measured_text) -> str:
    """A median with its interval, as "0.251× [0.240, 0.263]"; percent and points by tenths.

    A line may only be broken before the bracket.
    """
    of_number = tenths_text if unit in ("%", "points") else number_text
    low, high = of_number(interval.low), of_number(interval.high)
    return f"{with_unit(of_number(interval.median), unit)} [{low},{NO_BREAK}{high}]"


def with_unit(number: str, unit: str) -> str:
    """A number and its unit, which stay on one line."""
    return f"{number}{'' if unit in ('×', '') else NO_BREAK}{unit}"


def _number_text(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    # "z": what is rounded to 0 has no sign.
    return f"{value:z.{digits}f}".replace("-", "−")
