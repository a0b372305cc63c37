"""How sure the time waited along a path is: by how long the single waits for its lock were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flame.diff.functions import weights_and_squares
from flame.diff.noise import Floats
from lockflame.profile import Profile, SampleType


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
    lengths = np.array([*(_length_of_ns(lock.histogram, lock.total_ns, lock.max_ns) for lock in profile.locks), 0.0])
    length = lengths[rows.lock]
    squared = weight * np.where(length > 0, length, weight)
    return _summed(rows.stack, weight, stacks), _summed(rows.stack, squared, stacks)


def _length_of_ns(histogram: Sequence[int], total_ns: int, max_ns: int) -> float:
    """How long the waits are that the nanoseconds of a lock belong to, on average over these; 0 if that isn't known.

    As in the table of locks, waits are taken to be of their bucket's middle length, on the logarithm's scale, made to
    agree with the total and the longest.
    """
    if total_ns <= 0:
        return 0.0
    counts = np.array(histogram, np.float64)
    lengths = np.minimum(2.0 ** (np.arange(len(counts)) - 0.5), float(max_ns))
    guessed = float((counts * lengths).sum())
    squares = float((counts * lengths**2).sum()) * (total_ns / guessed) ** 2 if guessed > 0 else 0.0
    return max(squares, float(max_ns) ** 2) / total_ns


def _summed(stack: NDArray[np.int32], values: Floats, stacks: int) -> Floats:
    return np.bincount(stack, values, stacks).astype(np.float64, copy=False)
