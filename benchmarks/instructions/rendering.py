"""Rendering: a profile of generated stacks to SVG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.instructions.part import Input, Part, check
from flame.svg import render_svg
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

STACKS = 300
DEPTH = 20
FUNCTIONS = 500
BRANCHING = 1.35
"""How many branches each has that leads on to the next level."""
NS_PER_SAMPLE = 10_101_010


def make(_: Path, stacks: int, seed: int) -> Input:
    """A profile whose picture has a few thousand frames."""
    profile = _profile(stacks, seed)
    outermost = profile.functions[int(profile.stacks[0][-1])].name
    expected = outermost.replace("<", "&lt;").replace(">", "&gt;")

    def work() -> None:
        # Another object, as what is known of a profile may be kept with it.
        svg = render_svg(replace(profile))
        check(svg.endswith("</svg>\n") and expected in svg, "the picture isn't whole")

    return Input(stacks, work)


def _profile(count: int, seed: int) -> Profile:
    functions = tuple(Function(_name(index, seed), f"f{index}") for index in range(FUNCTIONS))
    locations = tuple(
        Location(index, -1, (Line(index),), FrameKind.KERNEL if index % 9 == 0 else FrameKind.USER)
        for index in range(FUNCTIONS)
    )
    stacks = _stacks(count)
    counts = np.random.default_rng(seed).integers(1, 20, count)
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(),
        functions=functions,
        locations=locations,
        threads=(Thread(1, 1, "main"),),
        stacks=Stacks(np.arange(count + 1, dtype=np.int64) * DEPTH, stacks.reshape(-1)),
        samples=samples_of_no_lock(
            stack=np.arange(count, dtype=np.int32),
            thread=np.zeros(count, np.int32),
            values=np.stack((counts, counts * NS_PER_SAMPLE), axis=1),
        ),
        recording=RecordingInfo(samples=int(counts.sum())),
    )


def _name(function: int, seed: int) -> str:
    return f"engine{function % 50}::Table{function % 170}<int>::look_up_{function}_{seed}(int)"


def _stacks(count: int) -> NDArray[np.int32]:
    """int32[count, DEPTH] of functions, leaf first: stacks with near numbers have the same callers for long."""
    number = np.arange(count)
    levels: list[NDArray[np.int64]] = []
    for level in range(DEPTH):
        branch = (number * BRANCHING**level / count).astype(np.int64)
        levels.append((branch * 7919 + level * 31) % FUNCTIONS)
    return np.stack(levels[::-1], axis=1).astype(np.int32)


PART = Part("render", "stack", f"{STACKS:,} stacks of {DEPTH} frames, {FUNCTIONS:,} functions", STACKS, make)
