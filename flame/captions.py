"""What stands above and below a picture in words: what was measured, and what is missing from it."""

from __future__ import annotations

import os.path
from datetime import UTC, datetime
from typing import NamedTuple

from flame.layout import Layout
from flame.text import amount, counted, isolated, percent
from flame.tree import Tree
from lockflame.profile import CAUSED_DELAY, CONTENTIONS, CPU, DELAY, HELD, SAMPLES, Profile, RecordingInfo, SampleType

_FEW_SAMPLES = 100
_MEASURES = {
    CPU: "CPU time",
    DELAY: "time waited",
    CAUSED_DELAY: "time that others waited",
    CONTENTIONS: "waits",
    HELD: "time held",
}


class Fact(NamedTuple):
    """Something to know about the picture, showable but not escaped. `warns`: it changes how to read it."""

    text: str
    warns: bool = False


def heading(profile: Profile, tree: Tree) -> str:
    """The title of a picture that wasn't given one, e.g. `CPU time of mariadbd (PID 4711)`."""
    measure = measure_name(tree.sample_type)
    program = program_of(profile.recording)
    return f"{measure} of {program}" if program else measure


def program_of(recording: RecordingInfo) -> str:
    """What was recorded, e.g. `mariadbd (PID 4711)`; empty if nothing is known of it."""
    words = recording.command.split()
    program = isolated(os.path.basename(words[0])) if words else ""
    pid = f"PID {recording.pid}" if recording.pid else ""
    return f"{program} ({pid})" if program and pid else program or pid


def measure_name(sample_type: SampleType) -> str:
    """What a sample type measures, in a reader's words."""
    return _MEASURES.get(sample_type) or isolated(sample_type.name)


def measured(recording: RecordingInfo, container: str = "") -> list[Fact]:
    """Where, when and how the profile was taken; what isn't known is left out. The time is UTC."""
    rate = f" at {recording.frequency_asked_hz:,} Hz" if recording.frequency_asked_hz else ""
    texts = (
        f"PID {recording.pid}" if recording.pid else "",
        f"container {isolated(container)}" if container else "",
        f"host {isolated(recording.host)}" if recording.host else "",
        f"kernel {isolated(recording.kernel)}" if recording.kernel else "",
        _moment(recording.started_unix_ns),
        f"recorded for {amount(recording.duration_ns, 'nanoseconds')}" if recording.duration_ns else "",
        f"{isolated(recording.event) or 'sampled'}{rate}" if recording.event or rate else "",
        f"{amount(recording.cpu_time_ns, 'nanoseconds')} of CPU time used" if recording.cpu_time_ns else "",
    )
    return [Fact(text) for text in texts if text]


def completeness(profile: Profile, layout: Layout) -> list[Fact]:
    """On how much the picture stands, and what is missing from it: the counts are there even when they are 0."""
    recording = profile.recording
    samples = recording.samples or profile.total(SAMPLES)
    few = 0 < samples < _FEW_SAMPLES
    facts = [Fact(f"only {counted(samples, 'sample')}, shares are rough" if few else counted(samples, "sample"), few)]
    facts += _coverage(profile)
    facts += [
        _part(recording.truncated, samples, "truncated", warn_above=0.03),
        _part(recording.unresolved, samples, "unresolved", warn_above=0.10),
        _missing(recording.lost, samples, "lost"),
        _missing(recording.skipped, samples, "skipped"),
        Fact(f"throttled {counted(recording.throttled, 'time')}", warns=recording.throttled > 0),
        left_out(layout),
    ]
    if not recording.kernel_frames:
        facts.append(Fact("kernel frames not allowed", warns=True))
    if recording.stack_bytes:
        facts.append(Fact(f"up to {amount(recording.stack_bytes, 'bytes')} of each user stack copied"))
    return facts


def left_out(layout: Layout) -> Fact:
    """How many frames are too narrow to be in the picture."""
    return Fact(f"{counted(layout.left_out, 'frame')} narrower than {layout.min_width:g} px left out")


def _coverage(profile: Profile) -> list[Fact]:
    """How the sampled CPU time compares with the kernel's own count, where both are known."""
    sampled, used = profile.total(CPU), profile.recording.cpu_time_ns
    if not (sampled and used):
        return []
    text = f"samples stand for {amount(sampled, 'nanoseconds')} of {amount(used, 'nanoseconds')} CPU time"
    return [Fact(f"{text} ({percent(sampled, used)})", warns=not 0.85 <= sampled / used <= 1.15)]


def _part(count: int, samples: int, what: str, *, warn_above: float) -> Fact:
    if count == 0:
        return Fact(f"0 {what}")
    text = f"{count:,} of {counted(samples, 'sample')} {what} ({percent(count, samples)})"
    return Fact(text, warns=count > warn_above * samples)


def _missing(count: int, samples: int, what: str) -> Fact:
    if count == 0:
        return Fact(f"0 {what}")
    text = f"{counted(count, 'record')} {what} ({percent(count, count + samples)} of all)"
    return Fact(text, warns=count > 0.01 * (count + samples))


def _moment(unix_ns: int) -> str:
    if not unix_ns:
        return ""
    try:
        return f"{datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):  # a file may hold any 64-bit number
        return ""
