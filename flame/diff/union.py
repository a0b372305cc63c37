"""Both sides of a comparison as one profile, in which every path of either side is one stack.

The profile's weights are whole numbers, as those of any other; what is compared are the values beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flame.diff.exposed import exposed_stacks
from flame.diff.inlining import with_one_sort_of_frame
from flame.diff.noise import Floats
from flame.diff.normalize import Scale
from flame.diff.weights import WAITS, measured, run_spread_of
from flame.frames import frame_stacks, stack_weights
from flame.locks.attribution import Attribution, attribute
from flame.locks.rules import LockRules
from flame.tree import merge
from lockflame.profile import (
    Function,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    SampleType,
    Stacks,
    Thread,
    samples_of_no_lock,
)

_WHOLE = 1e15
"""About what all paths weigh together: exact in a double, and much more than a path of one sample needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One side: of each of its recordings what goes along each path, not scaled.

    `weights` and `squared` (their variances, if runs didn't differ) are float64[recordings, paths]. `run_spread` is
    what two runs are taken to differ by, of the value.
    """

    weights: Floats
    squared: Floats
    scale: Scale
    run_spread: float


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """All paths of both sides.

    Stack `i` of `profile` is path `i`; it has one sample with the weights of `types`: its width, which is that of the
    side where it has more, before, and after. A weight of `resolution` is a scaled value of 1. `attribution` says which
    paths are in locks, None where waits are compared; `exposed` float64[paths] is the share of each that a busy machine
    changes most: 0 or 1, of waits all of it.
    """

    profile: Profile
    types: tuple[SampleType, SampleType, SampleType]
    before: Recorded
    after: Recorded
    resolution: float
    attribution: Attribution | None
    exposed: Floats


def unite(
    before: Sequence[Profile],
    after: Sequence[Profile],
    scales: tuple[Scale, Scale],
    sample_type: SampleType,
    names: tuple[str, str, str],
    rules: LockRules,
) -> Union:
    """Match the stacks of both sides by their frames: function and kind, whether it was inlined or not. `names` are
    those of the sample types that it gets: difference, before, after. `rules` say what a lock is."""
    profiles = (*before, *after)
    whole = with_one_sort_of_frame(joined(profiles, sample_type))
    columns = [measured(profile, sample_type) for profile in profiles]
    flat = np.concatenate([weights for weights, _ in columns]) if columns else np.zeros(0)
    tree = merge(frame_stacks(whole), (flat > 0).astype(np.int64), sample_type)
    merged = np.flatnonzero(tree.end_node >= 0)
    # Of the stacks that are one path, the heaviest stands for it: its addresses are in the details.
    heaviest = merged[np.lexsort((-flat[merged], tree.end_node[merged]))]
    _, first, counts = np.unique(tree.end_node[heaviest], return_index=True, return_counts=True)
    path = np.full(len(flat), -1, np.int64)
    path[heaviest] = np.repeat(np.arange(len(first)), counts)
    sides = _recorded((before, after), scales, columns, path, len(first), run_spread_of(sample_type))
    values = [side.weights.sum(axis=0) * side.scale.factor for side in sides]
    resolution = _resolution(max((float(value.sum()) for value in values), default=0.0))
    weights = [np.maximum(np.rint(value * resolution), value > 0).astype(np.int64) for value in values]
    types = tuple(SampleType(name, sample_type.unit) for name in names)
    stack = np.arange(len(first), dtype=np.int32)
    profile = replace(
        whole,
        sample_types=types,
        stacks=_selected(whole.stacks, heaviest[first]),
        samples=samples_of_no_lock(stack, np.zeros_like(stack), np.stack((np.maximum(*weights), *weights), axis=1)),
    )
    attribution = None if sample_type in WAITS else attribute(profile, rules)
    exposed = np.ones(len(first)) if attribution is None else exposed_stacks(profile, attribution).astype(np.float64)
    return Union(profile, (types[0], types[1], types[2]), sides[0], sides[1], resolution, attribution, exposed)


def joined(profiles: Sequence[Profile], sample_type: SampleType) -> Profile:
    """All profiles in a row, with their samples of one type, without their threads, locks and recordings."""
    mappings: list[Mapping] = []
    functions: list[Function] = []
    locations: list[Location] = []
    offsets = [np.zeros(1, np.int64)]
    flat = [np.zeros(0, np.int32)]
    weights = [np.zeros(0, np.int64)]
    length = 0
    for profile in profiles:
        flat.append(profile.stacks.locations + np.int32(len(locations)))
        offsets.append(profile.stacks.offsets[1:] + length)
        weights.append(stack_weights(profile, sample_type))
        length += len(profile.stacks.locations)
        locations += _shifted(profile.locations, len(mappings), len(functions))
        mappings += profile.mappings
        functions += profile.functions
    values = np.concatenate(weights)
    stack = np.arange(len(values), dtype=np.int32)
    return Profile(
        sample_types=(sample_type,),
        mappings=tuple(mappings),
        functions=tuple(functions),
        locations=tuple(locations),
        threads=(Thread(0, 0, ""),),
        stacks=Stacks(np.concatenate(offsets), np.concatenate(flat)),
        samples=samples_of_no_lock(stack, np.zeros_like(stack), values[:, np.newaxis]),
        recording=RecordingInfo(),
    )


def _shifted(locations: Sequence[Location], mappings: int, functions: int) -> Sequence[Location]:
    if not (mappings or functions):
        return locations
    return [
        Location(
            location.address,
            location.mapping + mappings if location.mapping >= 0 else -1,
            tuple(Line(line.function + functions, line.line) for line in location.lines),
            location.kind,
            location.unresolved_reason,
        )
        for location in locations
    ]


def _recorded(
    both: tuple[Sequence[Profile], Sequence[Profile]],
    scales: tuple[Scale, Scale],
    columns: Sequence[tuple[Floats, Floats]],
    path: NDArray[np.int64],
    paths: int,
    run_spread: float,
) -> list[Recorded]:
    sides: list[Recorded] = []
    row, start = 0, 0
    for profiles, scale in zip(both, scales, strict=True):
        weights, squared = np.zeros((2, len(profiles), paths))
        for index in range(len(profiles)):
            own_path = path[start : start + len(columns[row][0])]
            start += len(own_path)
            on_path = own_path >= 0
            for table, column in zip((weights, squared), columns[row], strict=True):
                table[index] = np.bincount(own_path[on_path], column[on_path], paths)
            row += 1
        sides.append(Recorded(weights, squared, scale, run_spread))
    return sides


def _resolution(largest: float) -> float:
    return 10.0 ** math.floor(math.log10(_WHOLE / largest)) if largest > 0 else 1.0


def _selected(stacks: Stacks, rows: NDArray[np.int64]) -> Stacks:
    """Some of the stacks, in this order."""
    lengths = stacks.offsets[rows + 1] - stacks.offsets[rows]
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    positions = np.arange(int(ends[-1])) + np.repeat(stacks.offsets[rows] - ends[:-1], lengths)
    return Stacks(ends, stacks.locations[positions])
