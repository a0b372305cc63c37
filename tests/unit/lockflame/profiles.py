"""Small profiles made by hypothesis, and how to compare two without regard to the order of their tables."""

from __future__ import annotations

import os
from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
UNSIGNED = st.sampled_from([0, 1, 2**47, 2**64 - 1]) | st.integers(0, 2**64 - 1)
SIGNED = st.sampled_from([0, 1, 2**63 - 1]) | st.integers(0, 2**40)
NAMES = TEXTS | st.binary(min_size=1, max_size=4).map(os.fsdecode)
"""What `os.fsdecode` makes of bytes: those that are no UTF-8 are lone surrogates."""


def escaped(text: str) -> str:
    """How text comes back from a file: bytes that are no UTF-8 as their escapes."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


@st.composite
def recordings(draw: st.DrawFn) -> RecordingInfo:
    values: dict[str, object] = {}
    for field in fields(RecordingInfo):
        values[field.name] = draw(
            {"str": NAMES, "int": SIGNED, "bool": st.booleans(), "tuple[str, ...]": st.lists(NAMES, max_size=2)}[
                str(field.type)
            ]
        )
    return RecordingInfo(**values | {"notes": tuple(values["notes"])})  # pyright: ignore


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """At most a few rows in each table, all of them valid."""
    mappings = draw(
        st.lists(st.builds(Mapping, UNSIGNED, UNSIGNED, UNSIGNED, NAMES, st.sampled_from(["", "ab" * 20])), max_size=2)
    )
    functions = draw(st.lists(st.builds(Function, NAMES, NAMES, NAMES, SIGNED), min_size=1, max_size=3))
    lines = st.builds(Line, st.integers(0, len(functions) - 1), SIGNED)
    locations = draw(
        st.lists(
            st.builds(
                Location,
                address=UNSIGNED,
                mapping=st.integers(-1, len(mappings) - 1),
                lines=st.lists(lines, min_size=1, max_size=2).map(tuple),
                kind=st.sampled_from(FrameKind),
                unresolved_reason=NAMES,
            ),
            min_size=1,
            max_size=4,
        )
    )
    threads = draw(
        st.lists(st.builds(Thread, st.integers(0, 2**31), st.integers(0, 2**31), NAMES, NAMES), min_size=1, max_size=3)
    )
    stacks = draw(st.lists(st.lists(st.integers(0, len(locations) - 1), max_size=4), min_size=1, max_size=4))
    row = st.tuples(st.integers(0, len(stacks) - 1), st.integers(0, len(threads) - 1), SIGNED, SIGNED)
    rows = np.array(draw(st.lists(row, max_size=6)), np.int64).reshape(-1, 4)
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=tuple(mappings),
        functions=tuple(functions),
        locations=tuple(locations),
        threads=tuple(threads),
        stacks=Stacks(
            np.cumsum([0, *map(len, stacks)], dtype=np.int64),
            np.array([location for stack in stacks for location in stack], np.int32),
        ),
        samples=samples_of_no_lock(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int32), rows[:, 2:]),
        recording=draw(recordings()),
    )


Row = tuple[list[int], Thread, list[int]]


def rows_of(profile: Profile) -> list[Row]:
    """Each sample's locations, thread and values."""
    samples = profile.samples
    return [
        (profile.stacks[int(stack)].tolist(), profile.threads[int(thread)], values)
        for stack, thread, values in zip(samples.stack, samples.thread, samples.values.tolist(), strict=True)
    ]
