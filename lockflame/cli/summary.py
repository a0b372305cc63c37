"""What `record` says at its end, on stderr: what was taken, what is missing, what is hottest, which locks cost most."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

from flame.names import short_name
from flame.text import counted, percent
from flame.top import top_functions
from lockflame.cli.terminal import printable, say
from lockflame.profile import CPU, Profile

TOP = 10
CALLERS = 2
"""How many callers of a lock's site are shown with it."""
CONTAINERS = 5
SLEEPERS = "threads that sleep while they wait use no CPU: --locks shows them"


def print_summary(profile: Profile, name: str, paths: list[str], *, full_names: bool = False) -> None:
    """Prints the summary of a fresh recording, with the functions' names shortened unless `full_names`."""
    info = profile.recording
    say(
        f"lockflame: recorded {info.samples:,} samples of {printable(name)} (PID {info.pid}){_inside(profile)} "
        f"in {info.duration_ns / 1e9:.1f} s at {info.frequency_asked_hz} Hz ({info.event}), "
        f"standing for {profile.total(CPU) / 1e9:.2f} s of {info.cpu_time_ns / 1e9:.2f} s of CPU time"
    )
    _say_other_containers(profile)
    say(f"lockflame: {completeness(profile)}")
    for note in info.notes:
        say(f"lockflame: note: {printable(note)}")
    _print_top(profile, full_names)
    if info.probes:
        from lockflame.cli.lock_summary import print_wait_summary

        print_wait_summary(profile, full_names)
    for path in paths:
        say(f"lockflame: wrote {printable(path)}")


def _inside(profile: Profile) -> str:
    return f" in container {printable(profile.container)}" if profile.container else ""


def _say_other_containers(profile: Profile) -> None:
    """Children may be in containers of their own: an engine's are."""
    threads = Counter(thread.container for thread in profile.threads if thread.container not in ("", profile.container))
    if threads:
        shown = [f"{printable(name)} ({counted(count, 'thread')})" for name, count in threads.most_common(CONTAINERS)]
        if len(threads) > CONTAINERS:
            shown.append(f"{len(threads) - CONTAINERS:,} more")
        own = "other containers" if profile.container else "containers"
        say(f"lockflame: some of its threads are in {own}: {', '.join(shown)}")


def _print_top(profile: Profile, full_names: bool) -> None:
    rows = top_functions(profile, TOP)
    if not rows:
        say("lockflame: the process used too little CPU time to be sampled")
        return
    total_ns = profile.total(CPU)
    say(f"\n{'self':>7} {'total':>7}  function")
    for row in rows:
        say(f"{row.self_ns / total_ns:7.1%} {row.total_ns / total_ns:7.1%}  {_shown(row.name, full_names)}")
    say("")
    _print_locks(profile, full_names)


def _print_locks(profile: Profile, full_names: bool) -> None:
    """The same worst lock paths as a picture has, with the reach of their 95 % interval."""
    from flame.contention import find_contention
    from flame.locks.rule_file import load_rules
    from flame.locks.sites import worst_paths

    found = find_contention(profile, load_rules())
    if found is None:
        return
    if found.paths:
        say(f"{'lost':>7} {'95 %':>7}  lock path: where CPU time goes into locks that others hold")
        for path, reach in zip(found.paths, found.reach, strict=True):
            stack = _lock_path(profile, path.stack, path.depth, full_names)
            say(f"{path.share:7.1%} {f'±{reach:.1%}':>7}  {stack} ({printable(path.kind)})")
        say("")
        return
    worst = worst_paths(profile, found.attribution, 1)
    most = f", most in {_shown(worst[0].site, full_names)}" if worst else ""
    whole = profile.total(CPU)
    lost = (
        f"{percent(round(found.share * whole), whole)} of CPU time in contended locks{most}" if worst else "none seen"
    )
    say(f"lockflame: no lock contention to speak of: {lost}; {SLEEPERS}\n")


def _lock_path(profile: Profile, stack: int, depth: int, full_names: bool) -> str:
    """The site of a lock and its next callers: `THD::set_query < Prepared_statement::execute < dispatch_command`."""
    locations: list[int] = profile.stacks[stack].tolist()
    lines = chain.from_iterable(profile.locations[location].lines for location in locations)
    names = (profile.functions[line.function].name for line in islice(lines, depth, depth + 1 + CALLERS))
    return " < ".join(_shown(name, full_names) for name in names)


def _shown(name: str, full_names: bool) -> str:
    return printable(name if full_names else short_name(name))


def completeness(profile: Profile) -> str:
    """The counts that say how far the profile can be trusted."""
    info = profile.recording
    counts = [f"{info.lost:,} lost", f"{info.truncated:,} truncated", f"{info.unresolved:,} unresolved"]
    if info.skipped:
        counts.append(f"{info.skipped:,} records skipped")
    if info.throttled:
        counts.append(f"throttled {info.throttled:,} times")
    return ", ".join(counts)
