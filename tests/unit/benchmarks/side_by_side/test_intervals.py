"""Intervals of medians cover what they say; comparisons are of rounds, and never divide noise."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.side_by_side.intervals import (
    Interval,
    compare_losses,
    coverage_percent,
    interval_text,
    is_clearly_above,
    kind_text,
    measured_text,
    median_interval,
    nearest_place,
    paired_difference,
    paired_ratio,
    short_text,
)

NUMBERS = st.floats(-1e6, 1e6)
LOSSES = st.dictionaries(st.integers(0, 12), NUMBERS, max_size=12)


@pytest.mark.parametrize(
    ("count", "place", "coverage"),
    # Tables of the sign test: the binomial distribution with even odds.
    [(6, 1, 96.875), (7, 1, 98.4375), (8, 2, 92.96875), (9, 2, 96.09375), (10, 2, 97.8515625), (12, 3, 96.142578125)],
)
def test_the_place_is_that_of_the_sign_test(count: int, place: int, coverage: float) -> None:
    assert nearest_place(count) == (place, pytest.approx(coverage))


def test_no_place_is_nearer_to_95_percent() -> None:
    for count in range(6, 60):
        chosen = abs(nearest_place(count)[1] - 95)
        assert all(chosen <= abs(coverage_percent(count, place) - 95) for place in range(1, count // 2 + 1))


def test_intervals_hold_the_true_median_as_often_as_they_say() -> None:
    chance, held, tries = random.Random(1), 0, 4_000
    for _ in range(tries):
        interval = median_interval([chance.expovariate(1) for _ in range(9)])
        assert interval is not None
        held += interval.low <= math.log(2) <= interval.high
    assert 100 * held / tries == pytest.approx(96.1, abs=1.5)


def test_few_values_have_their_range_and_no_coverage() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == Interval(2.0, 1.0, 3.0, 3, None)
    assert median_interval([4.0]) == Interval(4.0, 4.0, 4.0, 1, None)
    assert median_interval([]) is None


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_the_median_is_in_its_interval_whatever_the_order(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval is not None
    assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)
    assert interval.median == statistics.median(values)
    assert median_interval(values[::-1]) == interval


@given(LOSSES, LOSSES)
def test_only_rounds_of_both_are_compared(ours: dict[int, float], peer: dict[int, float]) -> None:
    both = ours.keys() & peer.keys()
    difference, ratio = paired_difference(ours, peer), paired_ratio(ours, peer)
    assert (difference.count if difference else 0) == (ratio.count if ratio else 0) == len(both)
    if difference:
        assert difference.median == statistics.median(ours[number] - peer[number] for number in both)


def test_a_ratio_is_of_the_rounds_not_of_the_medians() -> None:
    ratio = paired_ratio({1: 1.0, 2: 20.0, 3: 300.0}, {1: 10.0, 2: 100.0, 3: 1000.0})
    assert ratio == Interval(0.2, 0.1, 0.3, 3, None)


def test_a_peer_that_needs_nothing_counts_against_us() -> None:
    ratio = paired_ratio({1: 1.0, 2: 1.0, 3: 1.0}, {1: 0.0, 2: -1.0, 3: 2.0})
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (0.5, math.inf, math.inf)


def test_losses_in_the_noise_are_not_divided() -> None:
    noise = {1: -1.0, 2: 0.0, 3: 2.0}
    small = compare_losses({1: 1.0, 2: 1.0, 3: 1.0}, {1: 0.5, 2: 1.9, 3: 1.0}, noise)
    assert small is not None
    assert not small.is_ratio
    assert small.interval.median == 0.0
    large = compare_losses({1: 1.0, 2: 1.0, 3: 1.0}, {1: 10.0, 2: 20.0, 3: 5.0}, noise)
    assert large is not None
    assert large.is_ratio
    assert large.interval.median == 0.1


def test_without_a_placebo_nothing_is_clear() -> None:
    assert not is_clearly_above([50.0, 60.0], [])
    assert not is_clearly_above([], [0.0])
    assert not is_clearly_above([-1.0, -2.0], [-9.0, -8.0])
    assert is_clearly_above([3.0, 2.0], [1.9, -8.0])


@given(LOSSES, LOSSES, LOSSES)
def test_a_ratio_of_losses_is_never_of_noise_alone(
    ours: dict[int, float], peer: dict[int, float], placebo: dict[int, float]
) -> None:
    compared = compare_losses(ours, peer, placebo)
    assert (compared is None) == (not ours.keys() & peer.keys())
    if compared and compared.is_ratio:
        assert math.isfinite(compared.interval.median)


def test_numbers_are_short() -> None:
    shown = [measured_text(value) for value in (0.35, 0.3514, 2.5, 24.0, 1384.4, -0.0004, math.inf)]
    assert shown == ["0.350", "0.351", "2.50", "24.0", "1384", "0.000", "∞"]
    short = [short_text(value) for value in (0, 0.0123, 0.348, 6.99, 13.6, -0.62)]
    assert short == ["0", "0.012", "0.35", "7.0", "14", "−0.62"]
    assert interval_text(Interval(-0.04, -0.5, 1.25, 7, 98.4), "points") == "0.0\xa0points [−0.5,\xa01.2]"
    assert interval_text(Interval(0.25, 0.2, 0.3, 7, 98.4), "×") == "0.250× [0.200,\xa00.300]"


def test_the_kind_of_interval_is_said() -> None:
    assert kind_text(7) == "7 rounds: sign test, 98.4 % coverage"
    assert kind_text(2) == "2 rounds: least to greatest value"
    assert kind_text(1) == "1 round: least to greatest value"
