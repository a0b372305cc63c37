"""speedscope's own format out (https://www.speedscope.app/file-format-schema.json): "sampled" profiles with weights."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from lockflame.formats.parts import NO_STACK, Part, valid
from lockflame.profile import Profile

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNITS = {"nanoseconds": "nanoseconds", "bytes": "bytes"}

_Frame = tuple[str, str, int]


def speedscope_json(parts: Sequence[Part], title: str, exporter: str) -> bytes:
    """A `.speedscope.json` with a profile for each part, the first shown first. Weights are whole, times in ns.

    A frame is a function: its name, file and first line. Inlined functions are frames of their own.
    """
    frames: dict[_Frame, int] = {}
    profiles = [_profile(part, frames) for part in parts]
    content = {
        "$schema": SCHEMA,
        "name": valid(title),
        "exporter": exporter,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in frames]},
        "profiles": profiles,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _frame(frame: _Frame) -> dict[str, str | int]:
    name, path, line = frame
    return {
        "name": valid(name),
        **({"file": valid(path)} if path else {}),
        **({"line": line} if path and line > 0 else {}),
    }


def _profile(part: Part, frames: dict[_Frame, int]) -> dict[str, object]:
    profile = part.profile
    weights = np.zeros(len(profile.stacks), np.int64)
    np.add.at(weights, profile.samples.stack, part.weights)
    callers_first = _callers_first(profile, frames)
    shown: list[int] = np.flatnonzero(weights > 0).tolist()
    samples: list[list[int]] = []
    for stack in shown:
        locations: list[int] = profile.stacks[stack][::-1].tolist()
        path = [number for location in locations for number in callers_first[location]]
        samples.append(path or [frames.setdefault((NO_STACK, "", 0), len(frames))])
    return {
        "type": "sampled",
        "name": part.title,
        "unit": _UNITS.get(part.sample_type.unit, "none"),
        "startValue": 0,
        "endValue": int(weights[shown].sum()),
        "samples": samples,
        "weights": weights[shown].tolist(),
    }


def _callers_first(profile: Profile, frames: dict[_Frame, int]) -> list[list[int]]:
    """The frames of each location, outermost first."""
    numbers = [
        frames.setdefault((function.name, function.path, function.line), len(frames)) for function in profile.functions
    ]
    return [[numbers[line.function] for line in reversed(location.lines)] for location in profile.locations]
