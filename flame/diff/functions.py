"""The functions of both sides: CPU time of their own and with all that they call, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flame.diff.exposed import exposed_stacks
from flame.diff.noise import Change, Floats, Side, compare, side_of, tests_among
from flame.diff.normalize import Scale
from flame.diff.weights import WAITS, measured, run_spread_of
from flame.frames import FrameStacks, frame_stacks, stack_weights
from flame.locks.attribution import attribute
from flame.locks.rules import LockRules
from lockflame.profile import CPU, FrameKind, Profile, SampleType


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """What a function is found again by: its name, and whether it is the program's, the kernel's or generated."""

    name: str
    kind: FrameKind


@dataclass(frozen=True, slots=True, eq=False)
class Amounts:
    """One quantity of each row on both sides, and its change."""

    before: Side
    after: Side
    change: Change


@dataclass(frozen=True, slots=True, eq=False)
class FunctionTable:
    """A row for each function with weight on either side. `own` is the weight of its own code, inlined or not;
    `total` with all that it calls, in which a function that calls itself counts once for each sample. `whole` is a
    single value: all that was sampled, which is looked at alone."""

    keys: tuple[FunctionKey, ...]
    own: Amounts
    total: Amounts
    whole: Amounts

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class _Incidence:
    """Which functions are on which stacks: `own` int64[stacks] is that of the leaf, -1 without; each pair of `stack`
    and `function` is there once."""

    functions: tuple[FunctionKey, ...]
    own: NDArray[np.int64]
    stack: NDArray[np.int64]
    function: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """Of one recording the weight of each function, its square, and what of it is exposed: float64[functions].
    `whole` is the same of all that was sampled, float64[1]."""

    functions: tuple[FunctionKey, ...]
    own: tuple[Floats, Floats, Floats]
    total: tuple[Floats, Floats, Floats]
    whole: tuple[Floats, Floats, Floats]


def function_table(
    before: Sequence[Profile],
    after: Sequence[Profile],
    scales: tuple[Scale, Scale],
    rules: LockRules,
    sample_type: SampleType = CPU,
    *,
    kernel: bool = True,
) -> FunctionTable:
    """The functions of both sides, by names, for one sample type; without `kernel`, but those of the kernel.

    Markers, such as a cut stack's, are none.
    """
    sides = [[_recording(profile, sample_type, rules) for profile in profiles] for profiles in (before, after)]
    recordings = [recording for side in sides for recording in side]
    found = {key for recording in recordings for key in recording.functions if kernel or key.kind != FrameKind.KERNEL}
    keys = sorted(found, key=lambda key: (key.name, key.kind))
    place = {key: index for index, key in enumerate(keys)}
    spread = run_spread_of(sample_type)
    own, total = (_both_sides([_sums(side, place, own=own) for side in sides], scales, spread) for own in (True, False))
    # What calls nothing is looked at once.
    callers = (own[0].value != total[0].value) | (own[1].value != total[1].value)
    tests = tests_among((own[0].at(callers), own[1].at(callers)), (total[0], total[1]))
    whole = _both_sides([np.array([one.whole for one in side]).swapaxes(0, 1) for side in sides], scales, spread)
    return FunctionTable(
        tuple(keys),
        Amounts(own[0], own[1], compare(own[0], own[1], tests)),
        Amounts(total[0], total[1], compare(total[0], total[1], tests)),
        Amounts(whole[0], whole[1], compare(whole[0], whole[1], 1)),
    )


def _summed(index: NDArray[np.integer[Any]], values: Floats, length: int) -> Floats:
    """The sum of the values that have each index, float64[length]."""
    return np.bincount(index, values, length).astype(np.float64, copy=False)


def exposed_weights(profile: Profile, sample_type: SampleType, rules: LockRules) -> Floats:
    """For each stack the weight of what a busy machine changes most, float64[stacks]."""
    if sample_type not in profile.sample_types:
        return np.zeros(len(profile.stacks))
    if sample_type in WAITS:
        return stack_weights(profile, sample_type).astype(np.float64)
    is_exposed = exposed_stacks(profile, attribute(profile, rules))
    return np.where(is_exposed, stack_weights(profile, sample_type), 0).astype(np.float64)


def _recording(profile: Profile, sample_type: SampleType, rules: LockRules) -> _Recording:
    incidence = _incidence(frame_stacks(profile))
    count = len(incidence.functions)
    columns = (*measured(profile, sample_type), exposed_weights(profile, sample_type, rules))
    leaves = incidence.own >= 0
    own = [_summed(incidence.own[leaves], column[leaves], count) for column in columns]
    total = [_summed(incidence.function, column[incidence.stack], count) for column in columns]
    whole = [column.sum(keepdims=True) for column in columns]
    return _Recording(
        incidence.functions, (own[0], own[1], own[2]), (total[0], total[1], total[2]), (whole[0], whole[1], whole[2])
    )


def _incidence(stacks: FrameStacks) -> _Incidence:
    table = stacks.table
    functions: dict[FunctionKey, int] = {}
    of_frame = np.array(
        [
            -1 if kind == FrameKind.MARKER else functions.setdefault(FunctionKey(name, FrameKind(kind)), len(functions))
            for name, kind in zip(table.names, table.kinds.tolist(), strict=True)
        ],
        np.int64,
    )
    frames = of_frame[stacks.frames]
    own = np.full(len(stacks), -1, np.int64)
    filled = np.flatnonzero(np.diff(stacks.offsets))
    own[filled] = frames[stacks.offsets[filled]]
    stack = np.repeat(np.arange(len(stacks)), np.diff(stacks.offsets))
    width = max(len(functions), 1)
    # Sorted by hand: numpy 2.4's unique() hashes, and takes ten times as long for millions of pairs.
    pairs = np.sort((stack * width + frames)[frames >= 0])
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    return _Incidence(tuple(functions), own, pairs // width, pairs % width)


def _sums(recordings: Sequence[_Recording], place: dict[FunctionKey, int], *, own: bool) -> Floats:
    """Of one side the weights, their squares and what of them is exposed: float64[3, recordings, functions]."""
    sums = np.zeros((3, len(recordings), len(place)))
    for row, recording in enumerate(recordings):
        chosen = [index for index, key in enumerate(recording.functions) if key in place]
        columns = [place[recording.functions[index]] for index in chosen]
        for kind, of_functions in enumerate(recording.own if own else recording.total):
            sums[kind, row, columns] = of_functions[chosen]
    return sums


def _both_sides(sums: Sequence[Floats], scales: tuple[Scale, Scale], run_spread: float) -> tuple[Side, Side]:
    exposed = exposed_share([(side[0], side[2]) for side in sums])
    first, second = (
        side_of(side[0], side[1], scale, run_spread, exposed) for side, scale in zip(sums, scales, strict=True)
    )
    return first, second


def exposed_share(sides: Sequence[tuple[Floats, Floats]]) -> Floats:
    """What of the weights of both sides together is exposed to the machine, 0 to 1: float64[n], of pairs of both."""
    weight, exposed = (sum((side[at].sum(axis=0) for side in sides), np.zeros(1)) for at in (0, 1))
    return np.divide(exposed, weight, out=np.zeros_like(weight), where=weight > 0)
