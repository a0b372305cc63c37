"""Recordings made of samples written by hand, without registers and stack copies: the kernel's chains are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lockflame.events import Event, ProcessSnapshot
from lockflame.profile import Profile
from lockflame.registers import X86_64_REGISTERS
from lockflame.samples import Callchains, Recording, SampleTable, StackCopies


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample; both chains are leaf first."""

    time_ns: int
    pid: int = 1
    tid: int = 1
    period: int = 10
    kernel: Sequence[int] = ()
    user: Sequence[int] = ()


def recording_of(
    samples: Sequence[Sample], events: Sequence[Event] = (), snapshots: Sequence[ProcessSnapshot] = ()
) -> Recording:
    """`samples` and `events` are in the order of time."""
    nothing = np.zeros(len(samples), np.int64)
    table = SampleTable(
        time_ns=np.array([sample.time_ns for sample in samples], np.int64),
        pid=np.array([sample.pid for sample in samples], np.int32),
        tid=np.array([sample.tid for sample in samples], np.int32),
        cpu=np.zeros(len(samples), np.int32),
        period=np.array([sample.period for sample in samples], np.int64),
        kernel=_chains([sample.kernel for sample in samples]),
        user=_chains([sample.user for sample in samples]),
        registers=np.zeros((len(samples), len(X86_64_REGISTERS)), np.uint64),
        has_registers=np.zeros(len(samples), np.bool_),
        stacks=StackCopies(np.empty(0, np.uint64), nothing, nothing),
    )
    return Recording(table, tuple(events), tuple(snapshots))


def stacks_of(profile: Profile) -> list[tuple[str, list[str], list[int]]]:
    """Each row of the profile: the thread's name, the functions' names leaf first, the values."""
    samples = profile.samples
    return [
        (profile.threads[int(thread)].comm, frames_of(profile, int(stack)), values)
        for stack, thread, values in zip(samples.stack, samples.thread, samples.values.tolist(), strict=True)
    ]


def frames_of(profile: Profile, stack: int) -> list[str]:
    """The functions' names of one stack, leaf first."""
    locations = [profile.locations[index] for index in profile.stacks[stack]]
    return [profile.functions[location.lines[-1].function].name for location in locations]


def _chains(lists: list[Sequence[int]]) -> Callchains:
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return Callchains(offsets, np.array([address for each in lists for address in each], np.uint64))
