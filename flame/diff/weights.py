"""The weights of a profile's stacks, and how sure they are.

Waits are counted, not sampled: their noise is the program's own. Of a single recording it is estimated from the counts:

- Waits come in bursts, as one long hold makes many wait. `n` waits are taken to be as sure as `n / BURST` that are
  independent of each other; so the variance of their sum is `BURST` times the sum of the squares of their times, which
  the histogram tells.
- Queues answer to a little more load with much longer waits, so two runs differ more by waits than by CPU time:
  by `WAIT_SPREAD` of the value. With several recordings, it is measured as `noise` does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flame.diff.noise import RUN_SPREAD, Floats, squares
from lockflame.profile import CAUSED_DELAY, CONTENTIONS, DELAY, Lock, Profile, SampleType

BURST = 4.0
WAIT_SPREAD = 0.2
WAITS = (CONTENTIONS, DELAY, CAUSED_DELAY)


def measured(profile: Profile, sample_type: SampleType) -> tuple[Floats, Floats]:
    """For each stack its weight and its variance, if two runs didn't differ: float64[stacks] each."""
    if sample_type not in WAITS:
        return weights_and_squares(profile, sample_type)
    weights, squared = wait_weights_and_squares(profile, sample_type)
    return weights, squared * BURST


def run_spread_of(sample_type: SampleType) -> float:
    """What two runs are taken to differ by, of a value of this type."""
    return WAIT_SPREAD if sample_type in WAITS else RUN_SPREAD


def weights_and_squares(profile: Profile, sample_type: SampleType) -> tuple[Floats, Floats]:
    """For each stack its weight and the sum of its samples' squared weights, float64[stacks] each.

    Where the file doesn't count samples, each of its rows is taken to be one: more noise than there is, if anything.
    Negative weights, which no recording has, count as nothing.
    """
    stacks = len(profile.stacks)
    if sample_type not in profile.sample_types:
        return np.zeros(stacks), np.zeros(stacks)
    rows = profile.samples
    weight = np.maximum(rows.values[:, profile.sample_types.index(sample_type)], 0)
    squared = squares(weight, _counts(profile, weight))
    return _summed(rows.stack, weight.astype(np.float64), stacks), _summed(rows.stack, squared, stacks)


def wait_weights_and_squares(profile: Profile, sample_type: SampleType) -> tuple[Floats, Floats]:
    """For each stack of a picture of waits its time, and the sum of its waits' squared times: float64[stacks] each.

    Rows hold many waits, or releases that were charged with many, of unknown lengths. Each lock's histogram tells
    them, of all its paths together: a path has its share. Of a lock without one, each row is taken to be one wait:
    more noise than there is, if anything. Where no lock is known, each row's waits count as equal.
    """
    if not profile.locks or sample_type not in profile.sample_types:
        return weights_and_squares(profile, sample_type)
    rows, stacks = profile.samples, len(profile.stacks)
    weight = np.maximum(rows.values[:, profile.sample_types.index(sample_type)], 0).astype(np.float64)
    # One more for rows of no lock, whose number is -1.
    lengths = np.array([*(_length_of_ns(lock) for lock in profile.locks), 0.0])
    length = lengths[rows.lock]
    squared = weight * np.where(length > 0, length, weight)
    return _summed(rows.stack, weight, stacks), _summed(rows.stack, squared, stacks)


def sum_of_squares(histogram: Sequence[int], total_ns: int, max_ns: int) -> float:
    """Of the waits' times, as their histogram has them: in each bucket they are taken to be of its middle length, on
    the logarithm's scale. Made to agree with the total and the longest wait, which are known exactly."""
    if total_ns <= 0:
        return 0.0
    counts = np.array(histogram, np.float64)
    lengths = np.minimum(2.0 ** (np.arange(len(counts)) - 0.5), float(max_ns))
    guessed = float((counts * lengths).sum())
    squares = float((counts * lengths**2).sum()) * (total_ns / guessed) ** 2 if guessed > 0 else 0.0
    return max(squares, float(max_ns) ** 2)


def _length_of_ns(lock: Lock) -> float:
    """How long the waits are that the nanoseconds of a lock belong to, on average over these; 0 if that isn't known."""
    if lock.total_ns <= 0:
        return 0.0
    return sum_of_squares(lock.histogram, lock.total_ns, lock.max_ns) / lock.total_ns


def _counts(profile: Profile, weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many samples each row is, int64[rows]."""
    counts = np.zeros(len(weight), np.int64)
    for name in ("samples", "contentions", "count"):
        column = next((index for index, kind in enumerate(profile.sample_types) if kind.name == name), None)
        if column is not None:
            counts = np.where(counts > 0, counts, profile.samples.values[:, column])
    return np.maximum(counts, 1)


def _summed(stack: NDArray[np.int32], values: Floats, stacks: int) -> Floats:
    return np.bincount(stack, values, stacks).astype(np.float64, copy=False)
