"""Which differences are more than noise.

A value is a sum of weights over samples, made comparable by a `Scale`. What it would be in another recording of the
same program differs for two reasons, and its variance is the sum of both:

1. *Sampling.* Samples are counted as independent events, rarely seen each: a sum of `n` samples of weight `w` has the
   variance `n * w**2`. Where nothing was seen, up to one sample may have been missed.
2. *The runs.* Two runs of a program never do quite the same, nor does the machine: frequency, neighbours, who meets
   whom at a lock. This spread goes with the value: it is `RUN_SPREAD` of it. With several recordings on a side, it is
   measured: their spread beyond that of sampling, over all values together (the median of them) and, where that is
   more, of the value itself. It goes down with the number of recordings, sampling's with their length. Where the
   machine had less time for the program than it could have used, that is a spread of its own (`pace`), which
   locks and interrupts have more of (`exposed`).

Where the machine had more time for one side than for the other, what that explains of a change is taken off first.

A change stands out when it is beyond `limit` standard deviations of what it would be if both sides were equal. The
limit grows with the number of values that are looked at, for who looks at thousands of functions always finds one
beyond 95 %: in a comparison of equals, anything at all stands out in `FALSE_ALARMS` of the cases at most (Bonferroni).
Values of so few samples that nothing could be said of them, were they all on one side, count for nothing (Tarone,
Biometrics 46, 1990): most functions of a program are such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from flame.diff.normalize import Scale

FALSE_ALARMS = 0.05
RUN_SPREAD = 0.05
PRIOR_RUNS = 1
"""As many recordings the assumed spread counts for, beside those that measure it: few of them may happen to agree."""
_MEDIAN_OF_SQUARES = 0.4549
"""The median of the square of a normal variable of variance 1."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The values of one side, made comparable, float64[n] each; none is negative.

    `sampling` is that part of their variances; `spread` is the other, between runs, relative to the value's square.
    `sample` is what one sample weighs, on average; 0 where nothing was seen, or the values are no sums of samples.
    `pace` is the share that the side had of the CPU time which it could have used.
    """

    value: Floats
    sampling: Floats
    spread: Floats
    sample: float = 0.0
    pace: float = 1.0

    @property
    def runs(self) -> Floats:
        """The part of the variances that is due to the differences between runs, float64[n]."""
        return self.spread * self.value**2

    @property
    def variance(self) -> Floats:
        """Of each value, float64[n]."""
        return self.sampling + self.runs

    def at(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Side:
        """Some of the values, by a mask or by their numbers."""
        return replace(self, value=self.value[rows], sampling=self.sampling[rows], spread=self.spread[rows])

    def times(self, factor: Floats) -> Side:
        """The values that each would be multiplied by its factor."""
        return replace(self, value=self.value * factor, sampling=self.sampling * factor**2)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """After minus before, with its 95 % interval, float64[n] each, and whether it is more than noise, bool[n].

    `deviations` is by how many standard deviations after is above before, float64[n].
    """

    change: Floats
    low: Floats
    high: Floats
    deviations: Floats
    stands_out: NDArray[np.bool_]


def squares(weights: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """For rows of samples the sum of the squares of their weights, float64[rows].

    Row by row, `counts[i]` samples have the weight `weights[i]` together, and are taken to have equal parts of it.
    """
    weight = weights.astype(np.float64)
    return weight * weight / np.maximum(counts, 1)


def side_of(
    weights: Floats,
    squared: Floats,
    scale: Scale,
    run_spread: float = RUN_SPREAD,
    exposed: Floats | float = 0.0,
) -> Side:
    """The values of a side from those of its recordings, whose samples may overlap: functions, nodes of a tree.

    `weights` and `squared` (the sums of `squares`) are float64[recordings, n], not scaled yet. `run_spread` is what two
    runs are taken to differ by, of the value, on a machine that has time for both. `exposed` is the share of each value
    that a busy machine changes most, 0 to 1: of both sides together, as one of them may have seen hardly any.
    """
    value = weights.sum(axis=0) * scale.factor
    sampling = squared.sum(axis=0) * scale.factor**2
    total = float(value.sum())
    sample = float(sampling.sum()) / total if total > 0 else 0.0
    own_spread = run_spread**2 + scale.pace.spread**2 + (scale.pace.exposed_spread * exposed) ** 2
    between = _between_runs(weights, squared, scale, np.broadcast_to(own_spread, value.shape))
    return Side(value, sampling, between, sample, scale.pace.share)


def compare(before: Side, after: Side, tests: int = 0) -> Change:
    """All values of both sides, which must be of the same length. `tests` is as in `is_significant`."""
    reach = NormalDist().inv_cdf(0.975) * np.sqrt(before.variance + after.variance)
    least, most = _explained(before, after)
    first, second = at_one_pace(before, after)
    variances = equal_variances(first, second)
    return Change(
        after.value - before.value,
        _difference(before, after, most) - reach,
        _difference(before, after, least) + reach,
        _ratio(second.value - first.value, np.sqrt(variances[0] + variances[1])),
        is_significant(first.value, variances[0], second.value, variances[1], tests or tests_among((before, after))),
    )


def at_one_pace(before: Side, after: Side) -> tuple[Side, Side]:
    """Both sides without what the machine's pace explains of their difference, if not all of it: then they are equal.

    Their ratio is divided by what it may be for the pace alone, the nearest to itself; half of that goes to each side.
    """
    least, most = _explained(before, after)
    ratio = np.divide(after.value, before.value, out=np.full_like(before.value, np.inf), where=before.value > 0)
    root = np.sqrt(np.clip(ratio, least, most))
    return before.times(root), after.times(1 / root)


def _explained(before: Side, after: Side) -> tuple[float, float]:
    """The least and the most that after may be of before for the pace alone."""
    ratio = after.pace / before.pace
    return min(ratio, 1.0), max(ratio, 1.0)


def _difference(before: Side, after: Side, ratio: float) -> Floats:
    """After minus before, if they were to have that ratio anyway."""
    return after.value / ratio**0.5 - before.value * ratio**0.5


def equal_variances(before: Side, after: Side) -> tuple[Floats, Floats]:
    """The variances that values would have if both sides were equal, to be given to `is_significant`.

    Each side is then as good an estimate of the other's rate as of its own; the sum of both variances is that of a
    score test. So what wasn't seen in a short recording, but was in a long one, has a variance all the same. The spread
    between runs is taken of the logarithmic mean of both values, which compares their ratio; a sample is the least
    that a value is taken to be there, as nothing has no ratio.
    """
    sample = max(before.sample, after.sample)
    middle = _logarithmic_mean(np.maximum(before.value, sample), np.maximum(after.value, sample))
    return (
        after.value * _sample_weights(before, after) + _spread_beside(before, after) * middle**2,
        before.value * _sample_weights(after, before) + _spread_beside(after, before) * middle**2,
    )


def _spread_beside(side: Side, other: Side) -> Floats:
    """What was not seen on one side would have differed between runs as it does on the other."""
    return np.where(side.value > 0, side.spread, other.spread)


def is_significant(
    before_weight: Floats, before_variance: Floats, after_weight: Floats, after_variance: Floats, tests: int = 0
) -> NDArray[np.bool_]:
    """Which changes of values (made comparable) are more than noise, bool[n], of `tests` that are looked at.

    Without `tests`, as many as there are values but 0: more than `tests_among` finds.
    """
    there = (before_weight > 0) | (after_weight > 0)
    deviations = _ratio(after_weight - before_weight, np.sqrt(before_variance + after_variance))
    return there & (np.abs(deviations) > limit(tests or int(there.sum())))


def tests_among(*pairs: tuple[Side, Side]) -> int:
    """How many values of these pairs of sides can stand out, if as many are looked at; at least 1."""
    most = np.sort(np.concatenate([_most_deviations(before, after) for before, after in pairs]))
    low, high = 1, max(len(most), 1)
    while low < high:
        middle = (low + high) // 2
        if len(most) - int(np.searchsorted(most, limit(middle))) <= middle:
            high = middle
        else:
            low = middle + 1
    return low


def _most_deviations(before: Side, after: Side) -> Floats:
    """How many deviations a change would be if all that was seen of a value had been seen on one side: float64[n]."""
    first, second = _sample_weights(before, after), _sample_weights(after, before)
    samples = _ratio(before.value, first) + _ratio(after.value, second)
    uneven = np.maximum(_ratio(first, second), _ratio(second, first))
    return np.sqrt(samples * np.maximum(uneven, 1.0))


def _sample_weights(side: Side, other: Side) -> Floats:
    """What a sample of each value weighs, on average; of all values, where it has none; of the other side's, where
    nothing was seen at all on this one."""
    return np.where(side.value > 0, _ratio(side.sampling, side.value), side.sample or other.sample)


def _logarithmic_mean(first: Floats, second: Floats) -> Floats:
    """It lies between both; 0 where one of them is 0."""
    both = (first > 0) & (second > 0)
    ratio = np.divide(second, first, out=np.ones_like(first), where=both)
    logarithm = np.log(ratio)
    apart = np.abs(logarithm) > 1e-6  # closer together, either of them will do
    mean = np.divide(second - first, logarithm, out=first.copy(), where=apart)
    return np.where(both, mean, 0.0)


def limit(tests: int) -> float:
    """How many standard deviations a change has to be, where so many are looked at."""
    return -NormalDist().inv_cdf(FALSE_ALARMS / (2 * max(tests, 1)))


def _between_runs(weights: Floats, squared: Floats, scale: Scale, assumed: Floats) -> Floats:
    """The variance of the mean that is due to the differences between runs, relative to its square: float64[n].

    `assumed` is that of one recording, float64[n]: with several it is measured, and `assumed` is one measure of it.
    """
    value = weights.sum(axis=0) * scale.factor
    parts = np.array(scale.parts)
    concentration = float((parts**2).sum())
    seen = parts > 0
    count = int(np.count_nonzero(seen))
    if count < 2:
        return assumed
    parts = parts[seen, None]
    runs = weights[seen] * scale.factor / parts
    sampling = squared[seen] * (scale.factor / parts) ** 2
    # Of each run the variance beyond sampling's. The mean has a part of each run in it, which makes both less.
    beyond = ((runs - value) ** 2 - sampling * (1 - parts)) * parts
    between = _ratio(beyond.sum(axis=0) / (1 - concentration), value**2)
    measured = _typical_variance(between[value > 0]) * (count - 1)
    typical = (PRIOR_RUNS * assumed + measured) / (PRIOR_RUNS + count - 1)
    return np.maximum(between, typical) * concentration


def _typical_variance(relative: Floats) -> float:
    """The relative variance between runs that is typical of all values."""
    return max(float(np.median(relative)), 0.0) / _MEDIAN_OF_SQUARES if len(relative) else 0.0


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
