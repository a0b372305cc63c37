"""What `record` says at its end, on stderr: what was taken, what is missing, what is hottest."""

from __future__ import annotations

import sys

from flame.top import top_functions
from lockflame.profile import Profile

TOP = 10


def print_summary(profile: Profile, name: str, paths: list[str]) -> None:
    """Prints the summary of a fresh recording."""
    info = profile.recording
    print(
        f"lockflame: recorded {info.samples:,} samples of {name} (PID {info.pid}) in {info.duration_ns / 1e9:.1f} s "
        f"at {info.frequency_asked_hz} Hz ({info.event}), {info.cpu_time_ns / 1e9:.2f} s of CPU time",
        file=sys.stderr,
    )
    print(f"lockflame: {completeness(profile)}", file=sys.stderr)
    for note in info.notes:
        print(f"lockflame: note: {note}", file=sys.stderr)
    rows = top_functions(profile, TOP)
    if rows:
        print(f"\n{'self':>7} {'total':>7}  function", file=sys.stderr)
        total_ns = max(1, sum_ns(profile))
        for row in rows:
            print(
                f"{row.self_ns / total_ns:7.1%} {row.total_ns / total_ns:7.1%}  {printable(row.name)}", file=sys.stderr
            )
        print(file=sys.stderr)
    elif not info.samples:
        print("lockflame: the process used too little CPU time to be sampled", file=sys.stderr)
    for path in paths:
        print(f"lockflame: wrote {path}", file=sys.stderr)


def sum_ns(profile: Profile) -> int:
    """The CPU time of all samples."""
    from lockflame.profile import CPU

    return profile.total(CPU)


def completeness(profile: Profile) -> str:
    """The counts that say how far the profile can be trusted."""
    info = profile.recording
    counts = [f"{info.lost:,} lost", f"{info.truncated:,} truncated", f"{info.unresolved:,} unresolved"]
    if info.skipped:
        counts.append(f"{info.skipped:,} records skipped")
    if info.throttled:
        counts.append(f"throttled {info.throttled:,} times")
    return ", ".join(counts)


def printable(text: str) -> str:
    """A name as a terminal may get it: names come from outside and could hold escape sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
