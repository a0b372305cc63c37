"""What a file may hold so that all that comes after can count with it: sums of 64 bits, times, depths of stacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lockflame.errors import LockflameError
from lockflame.pprof_samples import distinct_stacks
from lockflame.profile import (
    TRUNCATED_STACK,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    RecordingInfo,
    SampleType,
    Stacks,
)

FRAMES_MOST = 4096
"""Of a stack. Nobody can look at more, and a picture of them takes minutes."""
SUM_MOST = 2**63 - 1
TIME_MOST_NS = 2**62
"""Of a recording's length and its beginning since 1970: more than a century."""

NEGATIVE_VALUES = (
    "values below zero, as in a difference of profiles: they lessen sums, and pictures leave out what ends up "
    "below zero."
)
"""What is said of so many samples."""


def check_sums(path: str, sample_types: Iterable[SampleType], values: NDArray[np.int64]) -> None:
    """Raises `LockflameError` if the values of a type, int64[samples, types], add up to more than 64 bits hold."""
    sums: list[float] = np.abs(values.astype(np.float64)).sum(axis=0).tolist()
    for kind, total in zip(sample_types, sums, strict=True):
        if total >= SUM_MOST:
            raise LockflameError(f"cannot read {path}", f"its {kind.name} adds up to more than 2^63", "check the file")


def note_of_negatives(values: NDArray[np.int64]) -> str:
    """What has to be said of values below zero, int64[samples, types]; empty where there are none."""
    count = int(np.count_nonzero((values < 0).any(axis=1)))
    return f"{count:,} {'samples have' if count > 1 else 'sample has'} {NEGATIVE_VALUES}" if count else ""


def sound_times(recording: RecordingInfo) -> RecordingInfo:
    """The recording without a length or a beginning that can't be: 0 is unknown."""
    duration, started = recording.duration_ns, recording.started_unix_ns
    return replace(
        recording,
        duration_ns=duration if 0 <= duration <= TIME_MOST_NS else 0,
        started_unix_ns=started if 0 <= started <= TIME_MOST_NS else 0,
    )


def is_too_deep(stacks: Stacks) -> bool:
    """Whether a stack has more than `FRAMES_MOST` frames."""
    return int(np.diff(stacks.offsets).max(initial=0)) > FRAMES_MOST


def cut_short(profile: Profile) -> Profile:
    """The profile with the last `FRAMES_MOST` frames of each stack, and a mark before them that there were more."""
    stacks = profile.stacks
    lengths = np.diff(stacks.offsets)
    is_deep = lengths > FRAMES_MOST
    index = np.arange(len(stacks.locations)) - np.repeat(stacks.offsets[:-1], lengths)
    # The frame after the last one kept becomes the mark.
    locations = np.where(index == FRAMES_MOST, len(profile.locations), stacks.locations)[index <= FRAMES_MOST]
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.minimum(lengths, FRAMES_MOST + 1))))
    mark = Location(0, -1, (Line(len(profile.functions)),), FrameKind.MARKER)
    note = f"{int(is_deep.sum()):,} stacks have more than {FRAMES_MOST:,} frames: the outermost are left out."
    number, kept = distinct_stacks(Stacks(offsets, locations.astype(stacks.locations.dtype)))
    return replace(
        profile,
        functions=(*profile.functions, Function(TRUNCATED_STACK, TRUNCATED_STACK)),
        locations=(*profile.locations, mark),
        stacks=kept,
        samples=replace(profile.samples, stack=number[profile.samples.stack]),
        recording=replace(profile.recording, notes=(*profile.recording.notes, note)),
    )
