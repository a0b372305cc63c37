"""What of two sides can be compared, and what of it has to be said or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flame.diff.matching import comparable
from flame.diff.pace import note_of_pace
from lockflame.errors import LockflameError
from lockflame.profile import CAUSED_DELAY, CONTENTIONS, CPU, DELAY, Profile, SampleType

_WAIT_TYPES = frozenset({CONTENTIONS.name, DELAY.name, CAUSED_DELAY.name})


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """The recordings of both sides, functions named such that they can be matched.

    `sample_type` is what functions are compared by. Without `has_waits`, lock waits were left out. Without
    `kernel_frames`, functions of the kernel are to be left out. `notes` are whole sentences for the reader.
    """

    before: tuple[Profile, ...]
    after: tuple[Profile, ...]
    sample_type: SampleType
    has_waits: bool
    kernel_frames: bool
    notes: tuple[str, ...]


def pair_up(before: Sequence[Profile], after: Sequence[Profile]) -> Sides:
    """Finds what both sides have. Raises `LockflameError` where that is nothing, or a side has no samples."""
    everything = (*before, *after)
    for side, profiles in (("before", before), ("after", after)):
        if not any(len(profile.samples) for profile in profiles):
            raise LockflameError("nothing to compare", f"there are no samples {side}", "record while the program works")
    sample_type, notes = _common_type(before, after)
    has_waits = all(_has_waits(profile) for profile in everything)
    if not has_waits and any(_has_waits(profile) for profile in everything):
        notes.append("lock waits aren't in all files and are left out: locks are compared by contended CPU time alone")
    kernel_frames = len({profile.recording.kernel_frames for profile in everything}) == 1
    if not kernel_frames:
        notes.append("the kernel's frames were recorded in some files only: its functions are left out")
    if any(_has_negative(profile, sample_type) for profile in everything):
        notes.append("there are negative values, as of a difference of profiles: they count as nothing")
    notes += _differences(before, after)
    first, second = (
        tuple(comparable(profile if has_waits else _without_waits(profile)) for profile in side)
        for side in (before, after)
    )
    return Sides(first, second, sample_type, has_waits, kernel_frames, tuple(notes))


def _common_type(before: Sequence[Profile], after: Sequence[Profile]) -> tuple[SampleType, list[str]]:
    """CPU time, or time waited, or else the first type that all files have; and what types are left out."""
    types = [profile.sample_types for profile in (*before, *after)]
    common = [kind for kind in types[0] if all(kind in other for other in types)]
    if not common:
        raise LockflameError(
            "nothing to compare",
            f"the files have no sample type in common: {_type_names(before)} before, {_type_names(after)} after",
            "give profiles of the same kind",
        )
    chosen = next((kind for kind in (CPU, DELAY) if kind in common), common[0])
    # Waits are spoken of on their own.
    left = sorted({kind.name for other in types for kind in other if kind not in common} - _WAIT_TYPES)
    notes = [f"sample types that aren't in all files are left out: {', '.join(left)}"] if left else []
    return chosen, notes


def _type_names(profiles: Sequence[Profile]) -> str:
    names = {f"{kind.name} ({kind.unit})": None for profile in profiles for kind in profile.sample_types}
    return ", ".join(names)


def _has_waits(profile: Profile) -> bool:
    return bool(profile.recording.probes or profile.locks)


def _has_negative(profile: Profile, sample_type: SampleType) -> bool:
    return bool((profile.samples.values[:, profile.sample_types.index(sample_type)] < 0).any())


def _without_waits(profile: Profile) -> Profile:
    if not profile.locks:
        return profile
    rows = np.flatnonzero(profile.samples.lock < 0)
    return replace(profile, samples=profile.samples.select(rows), locks=())


def _differences(before: Sequence[Profile], after: Sequence[Profile]) -> list[str]:
    """What differs between the sides in a way that numbers may differ for."""
    facts: list[tuple[Callable[[Profile], str], str]] = [
        (lambda profile: profile.recording.host, "other machines ({}): their CPU time isn't the same"),
        (
            lambda profile: profile.recording.event,
            "other events ({}): what runs with interrupts off is seen by cycles alone",
        ),
        (
            lambda profile: f"{profile.recording.frequency_asked_hz or 'unknown'} Hz",
            "other rates ({}): CPU time is compared, numbers of samples aren't",
        ),
        (lambda profile: _program(profile.recording.command), "other programs ({})"),
    ]
    notes: list[str] = []
    for fact, sentence in facts:
        first, second = (", ".join(sorted({fact(profile) for profile in side})) for side in (before, after))
        if first != second and "unknown" not in f"{first}{second}" and first and second:
            notes.append(sentence.format(f"{first} before, {second} after"))
    of_pace = note_of_pace(before, after)
    return [*notes, of_pace] if of_pace else notes


def _program(command: str) -> str:
    """The file name of a command's program."""
    words = command.split()
    return words[0].rpartition("/")[2] if words else ""
