"""Lockflame as one of the tools: with frame pointers, with whole stacks, and with locks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.side_by_side.beginnings import Beginning
from benchmarks.side_by_side.files import PICTURE, PROFILE
from benchmarks.side_by_side.folding import NO_FUNCTION, Stack, bare_name, shares_of
from benchmarks.side_by_side.model import Answer, Tool
from flame.locks.rule_file import load_rules
from flame.locks.wait_table import wait_table
from lockflame.pprof import read
from lockflame.profile import CPU, TRUNCATED_STACK, Profile
from tests.support.cli import lockflame_command
from tests.support.recording import stacks_of
from tests.support.user_stacks import user_stacks, whole_share

PACKAGE = "lockflame"


def answer(folder: Path) -> Answer:
    """What a profile of ours tells. Whole are the stacks that it doesn't mark as truncated."""
    return answer_of(read(str(folder / PROFILE)))


def answer_of(profile: Profile) -> Answer:
    """The same, of a profile that has been read."""
    users = user_stacks(profile)
    return Answer(
        samples=profile.recording.samples,
        lost=profile.recording.lost,
        whole_percent=100 * whole_share(users) if users else None,
        shares=shares_of(_cpu_stacks(profile)),
        lock_paths=lock_paths(profile),
    )


def lock_paths(profile: Profile) -> list[str]:
    """The functions that wait for locks, as `lockflame locks` has them: idle waits are left out."""
    if not profile.locks:
        return []
    table = wait_table(profile, load_rules())
    waits: Counter[str] = Counter()
    for row in table.rows:
        if not row.is_idle:
            for stack in table.waiters(row):
                # Its depth is where the lock's caller is.
                for caller in stack.names[stack.depth : stack.depth + 1]:
                    waits[bare_name(caller)] += stack.weight_ns
    return [name for name, _ in waits.most_common() if not name.startswith(NO_FUNCTION)]


def enabled_s(folder: Path) -> float | None:
    """When the recording's events were enabled, by the monotonic clock: the profile has it by the time of day."""
    started_unix_ns = read(str(folder / PROFILE)).recording.started_unix_ns
    return (time.monotonic_ns() - time.time_ns() + started_unix_ns) / 1e9


def _cpu_stacks(profile: Profile) -> list[Stack]:
    column = profile.samples.values[:, profile.sample_types.index(CPU)].tolist()
    names = [[name for name in stack if name != TRUNCATED_STACK] for stack in stacks_of(profile)]
    stacks = profile.samples.stack.tolist()
    return [Stack(tuple(names[stack]), cpu_ns) for stack, cpu_ns in zip(stacks, column, strict=True) if cpu_ns]


def _command(*options: str) -> Callable[[int, Path], Sequence[str]]:
    def command(pid: int, folder: Path) -> Sequence[str]:
        outputs = ("-o", folder / PROFILE, "-o", folder / PICTURE)
        return lockflame_command("record", "-p", str(pid), *options, *outputs)

    return command


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("lockflame fp", PACKAGE, _command("--call-graph", "fp"), answer),
        Tool("lockflame", PACKAGE, _command(), answer),
        Tool("lockflame --locks", PACKAGE, _command("--locks"), answer),
    )
}
# Its perf events are open, disabled, while it still compiles; it holds its target's pidfd once it waits for records.
BEGINNINGS = dict.fromkeys(TOOLS, Beginning(held="pidfd", since=enabled_s))
