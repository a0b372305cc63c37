"""Parts of a profile: some threads, or the stacks that some functions are on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flame.text import isolated, percent
from lockflame.errors import LockflameError
from lockflame.profile import CAUSED_DELAY, DELAY, HELD, SAMPLES, TRUNCATED_STACK, Profile

_THREADS_NAMED = 8


def only_threads(profile: Profile, wanted: Sequence[str]) -> Profile:
    """The samples of the threads whose name (comm) or TID is wanted. Raises `LockflameError` if there are none."""
    chosen = [thread.comm in wanted or str(thread.tid) in wanted for thread in profile.threads]
    if not any(chosen):
        raise LockflameError(
            f"no thread of the profile has the name or TID {', '.join(wanted)}",
            f"its threads are {_names(profile)}",
            "give one of these to --thread",
        )
    kept = np.array(chosen, np.bool_)[profile.samples.thread]
    return _only(profile, kept, f"threads {', '.join(wanted)}")


def focused(profile: Profile, expression: str) -> Profile:
    """The samples that a function whose name matches the regular expression is on the stack of.

    Raises `LockflameError` if the expression isn't one, or if there are none.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise LockflameError(
            f"cannot focus on {expression}", f"it is no regular expression: {error}", "mend it"
        ) from error
    matches = [bool(pattern.search(function.name)) for function in profile.functions]
    hits = np.array(
        [any(matches[line.function] for line in location.lines) for location in profile.locations], np.bool_
    )
    stacks = profile.stacks
    counts = np.concatenate((np.zeros(1, np.int64), np.cumsum(hits[stacks.locations], dtype=np.int64)))
    on_stack = counts[stacks.offsets[1:]] > counts[stacks.offsets[:-1]]
    kept = on_stack[profile.samples.stack]
    if not kept.any():
        raise LockflameError(
            f"cannot focus on {expression}",
            "no function on any stack matches it",
            "look for names with: lockflame flame",
        )
    return _only(profile, kept, f"stacks with {expression}")


def with_note(profile: Profile, what: str, part: int, whole: int, of: str) -> Profile:
    """The profile with a note that only `what` is left: `part` of `whole`, which is `of` something."""
    note = f"Only {isolated(what)}: {percent(part, whole)} of {of}."
    return replace(profile, recording=replace(profile.recording, notes=(note, *profile.recording.notes)))


def _only(profile: Profile, kept: NDArray[np.bool_], what: str) -> Profile:
    """The profile of these rows of its samples, with a note. What is counted by recording, not by row, stays."""
    samples = profile.samples
    part = replace(profile, samples=samples.select(kept))
    before, now = profile.samples.values[:, 0].sum(), part.samples.values[:, 0].sum()
    recording = replace(
        profile.recording,
        samples=part.total(SAMPLES),
        truncated=_samples_of(part, _is_truncated(profile)),
        unresolved=_samples_of(part, _is_unresolved(profile)),
        cpu_time_ns=0,  # the kernel's counts are of the whole process
        run_delay_ns=0,
    )
    of = "all time waited" if profile.sample_types[:1] in ((DELAY,), (CAUSED_DELAY,), (HELD,)) else "all samples"
    return with_note(replace(part, recording=recording), what, int(now), int(before), of)


def _samples_of(profile: Profile, is_counted: NDArray[np.bool_]) -> int:
    """The samples whose stack is one of these: bool[stacks]."""
    if SAMPLES not in profile.sample_types:
        return 0
    counts = profile.samples.values[:, profile.sample_types.index(SAMPLES)]
    return int(counts[is_counted[profile.samples.stack]].sum())


def _is_truncated(profile: Profile) -> NDArray[np.bool_]:
    names = [profile.functions[location.lines[-1].function].name for location in profile.locations]
    return _at_end(profile, [name == TRUNCATED_STACK for name in names], -1)


def _is_unresolved(profile: Profile) -> NDArray[np.bool_]:
    return _at_end(profile, [bool(location.unresolved_reason) for location in profile.locations], 0)


def _at_end(profile: Profile, of_location: list[bool], end: int) -> NDArray[np.bool_]:
    """Whether it holds of each stack's leaf (`end` 0) or root (-1)."""
    offsets = profile.stacks.offsets
    result = np.zeros(len(profile.stacks), np.bool_)
    filled = np.diff(offsets) > 0
    at = offsets[:-1] if end == 0 else offsets[1:] - 1
    result[filled] = np.array(of_location, np.bool_)[profile.stacks.locations[at[filled]]]
    return result


def _names(profile: Profile) -> str:
    names = list(dict.fromkeys(thread.comm for thread in profile.threads))
    more = f" and {len(names) - _THREADS_NAMED} more" if len(names) > _THREADS_NAMED else ""
    return ", ".join(names[:_THREADS_NAMED]) + more
