"""The user part of a profile's stacks, and which of them are whole: what tests of the unwinder compare."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lockflame.profile import SAMPLES, TRUNCATED_STACK, FrameKind, Profile


@dataclass(frozen=True, slots=True)
class UserStack:
    """The user frames of equal samples, leaf first, without inlined ones and the mark of a truncated one."""

    names: tuple[str, ...]
    is_truncated: bool
    samples: int


def user_stacks(profile: Profile) -> list[UserStack]:
    """The distinct user stacks of a profile with their samples; those without user frames are left out."""
    column = profile.samples.values[:, profile.sample_types.index(SAMPLES)].tolist()
    counts: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for stack, samples in zip(profile.samples.stack.tolist(), column, strict=True):
        names = _user_names(profile, stack)
        if names:
            counts[names[:-1] if names[-1] == TRUNCATED_STACK else names, names[-1] == TRUNCATED_STACK] += samples
    return [UserStack(names, is_truncated, samples) for (names, is_truncated), samples in counts.items() if names]


def samples_of(stacks: list[UserStack]) -> int:
    """How many samples these stacks stand for."""
    return sum(stack.samples for stack in stacks)


def whole_share(stacks: list[UserStack]) -> float:
    """The share of samples whose user stack is not truncated."""
    return samples_of([stack for stack in stacks if not stack.is_truncated]) / max(1, samples_of(stacks))


def describe(stacks: list[UserStack], most: int = 5) -> str:
    """The heaviest stacks, one a line, for a message."""
    heaviest = sorted(stacks, key=lambda stack: -stack.samples)[:most]
    return "".join(f"\n{one.samples} × {' < '.join(one.names)}{' (cut)' * one.is_truncated}" for one in heaviest)


def _user_names(profile: Profile, stack: int) -> tuple[str, ...]:
    locations = [profile.locations[index] for index in profile.stacks[stack].tolist()]
    return tuple(
        profile.functions[location.lines[-1].function].name
        for location in locations
        if location.kind != FrameKind.KERNEL
    )
