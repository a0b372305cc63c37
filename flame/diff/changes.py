"""How much the frames of a difference picture changed: in numbers, as one of nine steps, and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.diff.functions import exposed_share
from flame.diff.noise import Floats, Side, at_one_pace, equal_variances, is_significant, limit, side_of, tests_among
from flame.diff.normalize import Scale
from flame.diff.union import Recorded, Union
from flame.palette import Rgb
from flame.text import amount, percent
from flame.tree import node_weights
from flame.views import Merged

STEPS = 4
"""Steps to either side of what is within the noise."""

# Blue and orange differ for all the common kinds of colour blindness, and each step is darker than the one before.
# The last ones, of paths that one side doesn't have at all, keep further away. Black text is readable on each.
_LESS: tuple[Rgb, ...] = ((196, 218, 244), (152, 192, 240), (112, 164, 232), (58, 120, 214))
_MORE: tuple[Rgb, ...] = ((255, 222, 184), (253, 194, 132), (246, 160, 80), (226, 104, 16))
SHADES: tuple[Rgb, ...] = (*_LESS[::-1], (222, 222, 226), *_MORE)
"""The colour of each step, from `-STEPS` to `STEPS`."""

SHADE_LABELS = (
    "gone",
    "half or less",
    "3/4 or less",
    "less",
    "within the noise",
    "more",
    "4/3 or more",
    "double or more",
    "new",
)
"""What the legend calls them."""

_QUARTER, _HALF = 0.25, 0.5
_SAME = 0.1
"""Values are about the same that differ by no more than this part of them."""
_SUFFIXES = {"per second of recording": "/s", "per unit of work": "/unit", "": ""}
_SHARE = "of the total"


@dataclass(frozen=True, slots=True)
class Measure:
    """What the values are, in words: of which unit, and made comparable how."""

    unit: str
    words: str

    @property
    def is_share(self) -> bool:
        """Whether values are shares of their side's total, 0 to 1."""
        return self.words == _SHARE

    @property
    def suffix(self) -> str:
        """What follows an amount: `/s`."""
        return _SUFFIXES.get(self.words, f" {self.words}")

    def text(self, value: float) -> str:
        """A value: `1.23 s/s`."""
        if self.is_share:
            return percent(value, 1)
        return f"{amount(value, self.unit)}{self.suffix}" if value else "0"

    def both(self, before: float, after: float) -> str:
        """Both values: `1.23 s/s → 610 ms/s`."""
        return f"{self.text(before)} → {self.text(after)}"


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The values of both sides, float64[n] each, and by how much they would have to differ to stand out of the noise.

    `step` int64[n] is 0 within the noise, else how much less (below 0) or more there is after.
    """

    before: Floats
    after: Floats
    noise: Floats
    step: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.before)


def measure_of(unit: str, scales: tuple[Scale, Scale]) -> Measure:
    """The measure of values with these scales."""
    return Measure(unit, scales[0].words or scales[1].words)


def frame_changes(union: Union, merged: Merged) -> Changes:
    """The changes of the frames in a picture's layout, one entry each."""
    tree, node = merged.tree, merged.layout.node

    def summed(row: Floats) -> Floats:
        return node_weights(tree, row)[node]

    before, after = both_sides(union, summed, len(node))
    # A frame that has all of its caller's time is the same to look at.
    row = np.zeros(len(tree), np.int64)
    row[node] = np.arange(len(node))
    caller = row[tree.parent[node]]
    is_other = (before.value != before.value[caller]) | (after.value != after.value[caller])
    is_other[:1] = True
    changes = compared(before, after, is_other)
    return judged_as(changes, whole_change(union), np.zeros_like(node, np.int64))


def whole_change(union: Union) -> Changes:
    """The change of all paths together, which is looked at alone."""

    def summed(row: Floats) -> Floats:
        return np.array([row.sum()])

    before, after = both_sides(union, summed, 1)
    return compared(before, after)


def both_sides(union: Union, summed: Callable[[Floats], Floats], count: int) -> tuple[Side, Side]:
    """The values of both sides, `count` of them, of which `summed` makes one recording's from its paths' weights."""
    first, second = (_sums(union, side, summed, count) for side in (union.before, union.after))
    exposed = exposed_share([(first[0], first[2]), (second[0], second[2])])
    before, after = (
        side_of(weights, squared, side.scale, side.run_spread, exposed)
        for side, (weights, squared, _) in ((union.before, first), (union.after, second))
    )
    return before, after


def _sums(
    union: Union, recorded: Recorded, summed: Callable[[Floats], Floats], count: int
) -> tuple[Floats, Floats, Floats]:
    """Weights and their squares, float64[recordings, count], and what of the weights is exposed: float64[1, count],
    of all recordings."""
    weights, squared = np.zeros((2, len(recorded.weights), count))
    for row in range(len(recorded.weights)):
        weights[row], squared[row] = summed(recorded.weights[row]), summed(recorded.squared[row])
    return weights, squared, summed(recorded.weights.sum(axis=0) * union.exposed)[np.newaxis]


def compared(before: Side, after: Side, looked_at: NDArray[np.bool_] | None = None) -> Changes:
    """The changes of these values. Those `looked_at` are as many different ones as a reader sees; by default all."""
    tests = tests_among((before, after) if looked_at is None else (before.at(looked_at), after.at(looked_at)))
    first, second = at_one_pace(before, after)
    variances = equal_variances(first, second)
    stands_out = is_significant(first.value, variances[0], second.value, variances[1], tests)
    step = np.where(stands_out, steps(before.value, after.value), 0)
    of_pace = np.abs((after.value - before.value) - (second.value - first.value))
    noise = of_pace + limit(tests) * np.sqrt(variances[0] + variances[1])
    return Changes(before.value, after.value, noise, step)


def judged_as(changes: Changes, others: Changes, index: NDArray[np.int64]) -> Changes:
    """Changes of about the same values as one of `others`, which are fewer to look at, stand out where that does.

    `index` int64[n] is which of them it might be for each, or -1. A reader would find it odd if a function stood out,
    but not the frame that is nearly all there is of it.
    """
    if not (len(changes) and len(others)):
        return changes
    is_same = (
        (index >= 0)
        & np.isclose(changes.before, others.before[index], rtol=_SAME, atol=0)
        & np.isclose(changes.after, others.after[index], rtol=_SAME, atol=0)
        & (others.step[index] != 0)
        & (changes.step == 0)
    )
    noise = np.where(is_same, np.minimum(others.noise[index], changes.noise), changes.noise)
    is_now = is_same & (np.abs(changes.after - changes.before) > noise)
    return replace(changes, noise=noise, step=np.where(is_now, steps(changes.before, changes.after), changes.step))


def steps(before: Floats, after: Floats) -> NDArray[np.int64]:
    """The steps of changes that stand out: 1 for any, 2 from a quarter of the larger side, 3 from a half, 4 for all."""
    largest = np.maximum(before, after)
    part = np.divide(after - before, largest, out=np.zeros_like(before), where=largest > 0)
    size = 1 + (np.abs(part) >= _QUARTER) + (np.abs(part) >= _HALF) + (np.abs(part) >= 1)
    return np.sign(part).astype(np.int64) * size


def shade(step: int) -> Rgb:
    """The colour of a step."""
    return SHADES[STEPS + step]


def in_words(measure: Measure, changes: Changes) -> list[str]:
    """What tooltips say of each frame; the first one is the root, of which the shares are.

    `before 1.23 s/s (12 %) → after 610 ms/s (6 %), −50 %`.
    """
    before: list[float] = changes.before.tolist()
    after: list[float] = changes.after.tolist()
    texts: list[str] = []
    for first, second, step in zip(before, after, changes.step.tolist(), strict=True):
        sides = f"before {_of(measure, first, before[0])} → after {_of(measure, second, after[0])}"
        texts.append(f"{sides}, {change_text(first, second)}{'' if step else ', within the noise'}")
    return texts


def change_text(before: float, after: float) -> str:
    """`−50 %`, `+3.2 %`, `new` or `gone`. Only what is gone is all of it: else it is `−99.9 %` at most."""
    if not before or not after:
        return "new" if after else "gone" if before else "±0 %"
    change = 100 * (after - before) / before
    if abs(change) < 0.05:
        return "±0 %"
    size = abs(change)
    if change < -99:
        digits = f"{min(size, 99.9):.1f}"
    else:
        digits = f"{size:,.0f}" if size >= 10 else f"{size:.1f}".removesuffix(".0")
    return f"{'+' if change > 0 else '−'}{digits} %"


def _of(measure: Measure, value: float, whole: float) -> str:
    text = measure.text(value)
    return text if measure.is_share or not value else f"{text} ({percent(value, whole)})"
