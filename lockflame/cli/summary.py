"""What `record` says at its end, on stderr: what was taken, what is missing, what is hottest."""

from __future__ import annotations

from flame.names import short_name
from flame.top import top_functions
from lockflame.cli.terminal import printable, say
from lockflame.profile import CPU, Profile

TOP = 10


def print_summary(profile: Profile, name: str, paths: list[str], *, full_names: bool = False) -> None:
    """Prints the summary of a fresh recording, with the functions' names shortened unless `full_names`."""
    info = profile.recording
    say(
        f"lockflame: recorded {info.samples:,} samples of {printable(name)} (PID {info.pid}) "
        f"in {info.duration_ns / 1e9:.1f} s at {info.frequency_asked_hz} Hz ({info.event}), "
        f"standing for {profile.total(CPU) / 1e9:.2f} s of {info.cpu_time_ns / 1e9:.2f} s of CPU time"
    )
    say(f"lockflame: {completeness(profile)}")
    for note in info.notes:
        say(f"lockflame: note: {printable(note)}")
    _print_top(profile, full_names)
    for path in paths:
        say(f"lockflame: wrote {printable(path)}")


def _print_top(profile: Profile, full_names: bool) -> None:
    rows = top_functions(profile, TOP)
    if not rows:
        say("lockflame: the process used too little CPU time to be sampled")
        return
    total_ns = profile.total(CPU)
    say(f"\n{'self':>7} {'total':>7}  function")
    for row in rows:
        name = row.name if full_names else short_name(row.name)
        say(f"{row.self_ns / total_ns:7.1%} {row.total_ns / total_ns:7.1%}  {printable(name)}")
    say("")


def completeness(profile: Profile) -> str:
    """The counts that say how far the profile can be trusted."""
    info = profile.recording
    counts = [f"{info.lost:,} lost", f"{info.truncated:,} truncated", f"{info.unresolved:,} unresolved"]
    if info.skipped:
        counts.append(f"{info.skipped:,} records skipped")
    if info.throttled:
        counts.append(f"throttled {info.throttled:,} times")
    return ", ".join(counts)
