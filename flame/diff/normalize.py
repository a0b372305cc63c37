"""What makes two sides comparable: a factor for each, such that weights are per second, per unit of work or shares."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flame.diff.pace import FREE, Pace, paces_of
from lockflame.errors import LockflameError
from lockflame.profile import CPU, Profile, SampleType

NS_PER_SECOND = 1e9


class Mode(enum.Enum):
    """What a weight is divided by. The values are what the command line calls them."""

    SECOND = "second"
    TOTAL = "total"
    NONE = "none"
    WORK = "work"


@dataclass(frozen=True, slots=True)
class Scale:
    """How one side's weights are made comparable.

    A sum over all recordings of the side, times `factor`, is the side's value; `words` tell what that is: `per second
    of recording`. It is the mean of the recordings' own values, each of which counts by its entry in `parts` (they sum
    up to 1): recording `i` has the value `weight * factor / parts[i]`. A recording of no length has the part 0.
    `pace` is by how much of a value this side may differ for the machine's sake alone.
    """

    factor: float
    words: str
    parts: tuple[float, ...]
    pace: Pace = FREE


def scales(
    before: Sequence[Profile],
    after: Sequence[Profile],
    mode: Mode | str,
    work: tuple[float, float] | None = None,
    sample_type: SampleType = CPU,
) -> tuple[Scale, Scale]:
    """The scales of both sides. `work` is what was done in all recordings of each side, and asked for by `Mode.WORK`.

    `sample_type` matters for `Mode.TOTAL` alone, where values are shares of the side's sum of it, 0 to 1, or 0. Raises
    `LockflameError` where a side's length isn't known, or it did no work.
    """
    mode = Mode(mode)
    works = work or (0.0, 0.0)
    first = _scale(before, mode, works[0], sample_type, "before")
    second = _scale(after, mode, works[1], sample_type, "after")
    paces = paces_of(before, after, over_time=mode in (Mode.SECOND, Mode.NONE))
    return replace(first, pace=paces[0]), replace(second, pace=paces[1])


def fitting_mode(before: Sequence[Profile], after: Sequence[Profile]) -> Mode:
    """Per second where every recording's length is known; else shares of the total."""
    lengths = [profile.recording.duration_ns for profile in (*before, *after)]
    return Mode.SECOND if all(length > 0 for length in lengths) else Mode.TOTAL


def _scale(profiles: Sequence[Profile], mode: Mode, work: float, sample_type: SampleType, side: str) -> Scale:
    lengths = [float(profile.recording.duration_ns) for profile in profiles]
    if mode is Mode.SECOND:
        if not all(length > 0 for length in lengths):
            raise LockflameError(
                f"cannot compare {side} per second",
                "a file doesn't tell how long was recorded",
                "compare shares instead, with --normalize total",
            )
        return Scale(NS_PER_SECOND / sum(lengths), "per second of recording", _parts(lengths))
    if mode is Mode.TOTAL:
        totals = [_total(profile, sample_type) for profile in profiles]
        return Scale(1 / sum(totals) if sum(totals) > 0 else 0.0, "of the total", _parts(totals))
    if mode is Mode.WORK:
        if not 0 < work < float("inf"):
            raise LockflameError(f"cannot compare {side} per unit of work", "no work was done", "give it with --work")
        return Scale(1 / work, "per unit of work", _parts(lengths))
    return Scale(1 / max(len(profiles), 1), "per recording" if len(profiles) > 1 else "", _parts([1.0] * len(profiles)))


def _total(profile: Profile, sample_type: SampleType) -> float:
    if sample_type not in profile.sample_types:
        return 0.0
    values = profile.samples.values[:, profile.sample_types.index(sample_type)]
    return float(np.maximum(values, 0).sum(dtype=np.float64))


def _parts(amounts: Sequence[float]) -> tuple[float, ...]:
    """Each amount's share of their sum; equal shares where not all are known."""
    whole = sum(amounts)
    if whole <= 0:
        return tuple(1 / len(amounts) for _ in amounts)
    return tuple(amount / whole for amount in amounts)
