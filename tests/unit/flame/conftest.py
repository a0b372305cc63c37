"""Profiles for the tests of `flame`, made from stacks written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)

NS_PER_SAMPLE = 10_000_000
SUFFIXES = {"[k]": FrameKind.KERNEL, "[j]": FrameKind.JIT, "[m]": FrameKind.MARKER}

ProfileOf = Callable[..., Profile]


def _split(frame: str) -> tuple[str, FrameKind]:
    kind = SUFFIXES.get(frame[-3:], FrameKind.USER)
    return (frame, kind) if kind is FrameKind.USER else (frame[:-3], kind)


def profile_of(
    stacks: Sequence[tuple[Sequence[str | tuple[str, ...]], int]], recording: RecordingInfo | None = None
) -> Profile:
    """A profile of (stack root first, number of samples). A frame that is a tuple is one location: the names
    of inlined functions, innermost first. A name's end tells its kind: `[k]`, `[j]`, `[m]`, else user."""
    functions: dict[str, int] = {}
    locations: dict[tuple[str, ...], Location] = {}
    order: dict[tuple[str, ...], int] = {}
    flat: list[int] = []
    offsets = [0]
    for path, _ in stacks:
        for frame in reversed(path):
            key = frame if isinstance(frame, tuple) else (frame,)
            if key not in order:
                names = [_split(name) for name in key]
                lines = tuple(Line(functions.setdefault(name, len(functions))) for name, _ in names)
                locations[key] = Location(0x1000 + 16 * len(order), -1, lines, names[-1][1])
                order[key] = len(order)
            flat.append(order[key])
        offsets.append(len(flat))
    counts = np.array([count for _, count in stacks], np.int64)
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(),
        functions=tuple(Function(name, name) for name in functions),
        locations=tuple(locations.values()),
        threads=(Thread(7, 7, "main"),),
        stacks=Stacks(np.array(offsets, np.int64), np.array(flat, np.int32)),
        samples=samples_of_no_lock(
            stack=np.arange(len(stacks), dtype=np.int32),
            thread=np.zeros(len(stacks), np.int32),
            values=np.stack((counts, counts * NS_PER_SAMPLE), axis=1),
        ),
        recording=recording or RecordingInfo(samples=int(counts.sum())),
    )


@pytest.fixture(scope="session", name="profile_of")
def _profile_of() -> ProfileOf:
    return profile_of
