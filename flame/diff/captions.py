"""What stands above and below a difference picture in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from flame.captions import Fact, completeness, left_out, measure_name, measured, program_of
from flame.diff.changes import SHADE_LABELS, SHADES, STEPS
from flame.furniture import Swatch
from flame.layout import Layout
from flame.lock_captions import lock_completeness, lock_measured
from flame.lock_marks import ViewName, lock_mark
from flame.text import amount, counted
from lockflame.profile import Lock, Profile, RecordingInfo, SampleType

HINT = (
    "Each path is as wide as on the side that has more of it. A frame's colour is the change of all its paths together."
)

_HEADINGS = {
    ViewName.WAIT: "Time waited for locks, before and after",
    ViewName.HOLDER: "Time that others waited, by who released the lock, before and after",
}
_COUNTS = tuple(
    item.name for item in fields(RecordingInfo) if item.type == "int" and item.name not in ("pid", "started_unix_ns")
)
_NOT_SUMMED = ("frequency_asked_hz", "stack_bytes")


def diff_heading(before: Sequence[Profile], after: Sequence[Profile], sample_type: SampleType, view: ViewName) -> str:
    """The title of a picture that wasn't given one, e.g. `CPU time before and after: mariadbd`."""
    programs = dict.fromkeys(program_of(replace(profile.recording, pid=0)) for profile in (*before, *after))
    named = ", ".join(program for program in programs if program)
    name = measure_name(sample_type)
    measure = _HEADINGS.get(view) or f"{name[:1].upper()}{name[1:]} before and after"
    return f"{measure}: {named}" if named else measure


def side_facts(profiles: Sequence[Profile], view: ViewName, idle_ns: int) -> list[Fact]:
    """Where, when and how one side was recorded; of several recordings what they have in common. `idle_ns` is the time
    in idle waits that was left out of all of them."""
    found = [_measured(profile, view, idle_ns) for profile in profiles]
    common = [fact for fact in found[0] if all(fact in others for others in found[1:])] if found else []
    if len(profiles) == 1:
        return common or [Fact("one recording")]
    length = sum(profile.recording.duration_ns for profile in profiles)
    together = [Fact(f"{amount(length, 'nanoseconds')} together")] if length else []
    return [Fact(f"{counted(len(profiles), 'recording')}"), *together, *common]


def side_completeness(whole: Profile, layout: Layout, view: ViewName) -> list[Fact]:
    """On how much one side stands, and what is missing from it. `whole` are all its recordings together."""
    facts = completeness(whole, layout) if view is ViewName.CPU else lock_completeness(whole, layout, view)
    return [fact for fact in facts if fact != left_out(layout)]


def side_notes(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The notes of both sides' recordings, each once; those of one side say of which."""
    both = set(before) & set(after)
    notes = [note if note in both else f"before: {note}" for note in before]
    notes += [f"after: {note}" for note in after if note not in both]
    return list(dict.fromkeys(notes))


def lock_notes(before: Sequence[Profile], after: Sequence[Profile], view: ViewName) -> dict[str, str]:
    """For the name of each lock's frame, what is known of its waits in the whole recordings of both sides."""
    sides = [_locks_by_mark(profiles, view) for profiles in (before, after)]
    return {
        mark: f"whole recordings: {' → '.join(_waits_of(side.get(mark, ())) for side in sides)}"
        for mark in sorted(sides[0].keys() | sides[1].keys())
    }


def of_side(side: str, facts: Sequence[Fact]) -> list[Fact]:
    """The same facts, the first of which says which side's they are."""
    return [Fact(f"{side}: {fact.text}" if not index else fact.text, fact.warns) for index, fact in enumerate(facts)]


def together(recordings: Sequence[RecordingInfo]) -> RecordingInfo:
    """Several recordings' counts added up; of all else, that of the first."""
    if not recordings:
        return RecordingInfo()
    sums = {
        name: sum(getattr(recording, name) for recording in recordings) for name in _COUNTS if name not in _NOT_SUMMED
    }
    return replace(
        recordings[0],
        **sums,
        kernel_frames=all(recording.kernel_frames for recording in recordings),
        notes=tuple(dict.fromkeys(note for recording in recordings for note in recording.notes)),
    )


def swatches(*, has_inlined: bool, has_contended: bool, has_locks: bool) -> list[Swatch]:
    """What the legend of a difference picture explains."""
    plain = SHADES[STEPS]
    found = [Swatch(colour, label) for colour, label in zip(SHADES, SHADE_LABELS, strict=True)]
    if has_inlined:
        found.append(Swatch(plain, "inlined", "inlined"))
    if has_contended:
        found.append(Swatch(plain, "half or more of it in contended locks", "contended"))
    if has_locks:
        found.append(Swatch(plain, "lock", "contended"))
    return found


def _measured(profile: Profile, view: ViewName, idle_ns: int) -> list[Fact]:
    return measured(profile.recording, profile.container) if view is ViewName.CPU else lock_measured(profile, idle_ns)


def _locks_by_mark(profiles: Sequence[Profile], view: ViewName) -> dict[str, list[Lock]]:
    found: dict[str, list[Lock]] = {}
    for profile in profiles:
        for lock in profile.locks:
            found.setdefault(lock_mark(lock, view), []).append(lock)
    return found


def _waits_of(locks: Sequence[Lock]) -> str:
    """`2.02 s in 492 waits, 4.1 ms on average, longest 38.1 ms`."""
    waits, total_ns = sum(lock.ends.total for lock in locks), sum(lock.total_ns for lock in locks)
    if not waits:
        return "no waits"
    mean, longest = (amount(ns, "nanoseconds") for ns in (total_ns // waits, max(lock.max_ns for lock in locks)))
    return f"{amount(total_ns, 'nanoseconds')} in {counted(waits, 'wait')}, {mean} on average, longest {longest}"
