"""What is more than noise: against simulated recordings, of which the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flame.diff import noise
from flame.diff.noise import (
    RUN_SPREAD,
    Change,
    Floats,
    Side,
    at_one_pace,
    compare,
    equal_variances,
    is_significant,
    limit,
    side_of,
    squares,
)
from flame.diff.normalize import Scale
from flame.diff.pace import Pace

NS = 1e7
ROWS = 400


def sampled(
    random: np.random.Generator, rates: Floats, lengths: tuple[float, ...], spread: float = 0.0, weight: float = NS
) -> Side:
    """A side of recordings of so many seconds, `rates` being samples per second, which differ by `spread` per run."""
    runs = [rates * np.maximum(random.normal(1, spread, len(rates)), 0) * length for length in lengths]
    weights = np.array([random.poisson(expected) for expected in runs]) * weight
    whole = sum(lengths)
    return side_of(weights, weights * weight, Scale(1 / whole, "", tuple(length / whole for length in lengths)))


def rates(random: np.random.Generator) -> Floats:
    """Few heavy functions and many light ones."""
    return 50 * random.pareto(0.8, ROWS) / 10 + 0.05


def outcomes(count: int, *, lengths: tuple[float, ...], spread: float) -> list[Change]:
    """Comparisons of equals."""
    random = np.random.default_rng(7)
    found: list[Change] = []
    for _ in range(count):
        expected = rates(random)
        found.append(compare(*(sampled(random, expected, lengths, spread) for _ in range(2))))
    return found


@pytest.mark.parametrize(
    ("lengths", "spread"), [((10.0,), 0.0), ((10.0,), RUN_SPREAD), ((5.0, 10.0, 5.0), 0.02), ((10.0,) * 3, 0.15)]
)
def test_equals_stand_out_in_few_comparisons(lengths: tuple[float, ...], spread: float) -> None:
    alarms = sum(bool(change.stands_out.any()) for change in outcomes(100, lengths=lengths, spread=spread))
    assert alarms <= 10


def test_the_interval_holds_the_truth() -> None:
    inside = np.concatenate(
        [((change.low <= 0) & (change.high >= 0)) for change in outcomes(30, lengths=(10.0,), spread=RUN_SPREAD)]
    )
    assert 0.93 < inside.mean() <= 1


def test_half_of_a_function_is_found() -> None:
    random = np.random.default_rng(4)
    before = np.full(300, 2.0)
    before[0] = 60
    after = before.copy()
    after[0] = 30
    change = compare(sampled(random, before, (10.0,)), sampled(random, after, (10.0,)))
    assert np.flatnonzero(change.stands_out).tolist() == [0]
    assert change.deviations[0] < -limit(300)
    assert change.low[0] < -30 * NS < change.high[0]


def test_several_recordings_that_agree_show_smaller_changes() -> None:
    random = np.random.default_rng(5)
    before = np.array([400.0, 300.0, 500.0, 200.0])
    after = before * [0.85, 1, 1, 1]
    once = compare(sampled(random, before, (10.0,)), sampled(random, after, (10.0,)))
    often = compare(sampled(random, before, (10.0,) * 5), sampled(random, after, (10.0,) * 5))
    assert not once.stands_out.any()
    assert often.stands_out.tolist() == [True, False, False, False]


def test_recordings_that_differ_make_their_own_noise() -> None:
    """A value that is twice as much in one of three runs is no sure one, however many samples it has."""
    calm = [[1000.0] * 6, [1010] * 6, [990] * 6]
    weights = np.hstack((np.array([[1000.0], [2000], [1000]]), calm)) * NS
    scale = Scale(1 / 30, "", (1 / 3,) * 3)
    before = side_of(weights, weights * NS, scale)
    after = side_of(weights * 1.4, weights * 1.4 * NS, scale)
    assert before.runs[0] > 50 * before.runs[1]
    assert compare(before, after).stands_out.tolist() == [False] + [True] * 6


def test_what_a_short_recording_has_not_is_not_gone() -> None:
    random = np.random.default_rng(1)
    long = sampled(random, np.array([2.0, 500.0]), (100.0,))
    assert long.value[0] > 0
    weights = np.array([[0.0, 250 * NS]])
    short = side_of(weights, weights * NS, Scale(2.0, "", (1.0,)))
    assert not compare(short, long).stands_out[0]
    assert not compare(long, short).stands_out[0]
    alike = side_of(weights * 200, weights * 200 * NS, Scale(1 / 100, "", (1.0,)))
    assert compare(alike, long).stands_out[0]


def test_fewer_and_heavier_samples_are_less_sure() -> None:
    """Half of the samples of twice the weight have the same sum, and twice the variance."""
    weights, counts = np.array([800, 800]), np.array([8, 4])
    assert squares(weights, counts).tolist() == [80_000, 160_000]
    assert squares(np.array([5]), np.array([0])).tolist() == [25]


def test_equal_sides_do_not_differ() -> None:
    side = sampled(np.random.default_rng(2), np.array([0.0, 3.0, 900.0]), (10.0,))
    change = compare(side, side)
    assert not change.stands_out.any()
    assert change.deviations.tolist() == [0, 0, 0]


def test_the_limit_grows_with_what_is_looked_at() -> None:
    assert limit(1) == pytest.approx(1.96, abs=0.01)
    assert 4.4 < limit(10_000) < 4.7


def test_values_of_few_samples_are_no_tests() -> None:
    weights = np.concatenate((np.full(50, 100 * NS), np.full(1000, NS)))[None]
    side = side_of(weights, weights * NS, Scale(1.0, "", (1.0,)))
    assert noise.tests_among((side, side)) == 50
    assert noise.tests_among((side.at(np.arange(50, 60)),) * 2) == 1


def test_without_tests_all_values_count() -> None:
    before, after = np.array([100.0] + [50.0] * 999), np.array([160.0] + [50.0] * 999)
    variance = np.full(1000, 200.0)
    assert not is_significant(before, variance, after, variance).any()
    assert is_significant(before, variance, after, variance, 1).tolist() == [True] + [False] * 999


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_all_that_was_seen_may_be_gone_or_new(gone: bool) -> None:
    """A side of which nothing at all was seen has samples as heavy as the other's."""
    there, nothing = (
        side_of(np.array([[seen]]), np.array([[seen * NS]]), Scale(1.0, "", (1.0,))) for seen in (50 * NS, 0.0)
    )
    change = compare(there, nothing) if gone else compare(nothing, there)
    assert change.stands_out.tolist() == [True]
    assert noise.tests_among((there, nothing)) == 1
    few = side_of(np.array([[3 * NS]]), np.array([[3 * NS * NS]]), Scale(1.0, "", (1.0,)))
    assert not compare(few, nothing).stands_out[0]


def test_what_a_pace_explains_is_taken_off() -> None:
    """Twice the pace explains up to twice as much, and no less than there was."""
    scale = Scale(1.0, "", (1.0,))
    weights = np.array([[1000.0, 1000, 1000, 1000, 1000, 0]]) * NS
    slow = side_of(weights, weights * NS, replace(scale, pace=Pace(0.4, 0.0, 0.0)))
    weights = np.array([[1000.0, 1500, 2000, 4000, 500, 1000]]) * NS
    fast = side_of(weights, weights * NS, replace(scale, pace=Pace(0.8, 0.0, 0.0)))
    first, second = at_one_pace(slow, fast)
    assert (second.value / np.maximum(first.value, 1)).tolist()[:5] == pytest.approx([1, 1, 1, 2, 0.5])
    change = compare(slow, fast)
    assert change.stands_out.tolist() == [False, False, False, True, True, True]
    assert change.change.tolist() == (fast.value - slow.value).tolist()
    assert (change.low <= change.change).all()
    assert (change.low[:3] < 0).all()
    assert (change.high[:3] > 0).all()
    other = compare(fast, slow)
    assert other.deviations.tolist() == pytest.approx((-change.deviations).tolist())


def test_variances_of_equals_take_both_sides() -> None:
    one = Side(np.array([0.0]), np.array([0.0]), np.array([0.0]), sample=2.0)
    other = Side(np.array([10.0]), np.array([5.0]), np.array([0.04]), sample=0.5)
    first, second = equal_variances(one, other)
    middle = (10 - 2) / np.log(10 / 2)
    assert first.tolist() == pytest.approx([20 + 0.04 * middle**2])
    assert second.tolist() == pytest.approx([0.04 * middle**2])


def test_what_is_exposed_is_as_unsure_as_the_machine_was_busy() -> None:
    weights = np.array([[100.0, 100.0]])
    pace = Pace(0.5, 0.3, 0.8)
    side = side_of(weights, weights, Scale(1.0, "", (1.0,), pace), 0.4, exposed=np.array([0.0, 0.5]))
    assert side.spread.tolist() == pytest.approx([0.25, 0.25 + 0.4**2])
