"""The lock table of other tools' profiles of waits, such as Go's mutex and block profiles: by the place in the code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from lockflame.cli.terminal import printable, say

if TYPE_CHECKING:
    from lockflame.profile import Profile

SORTS = {"total": "total_ns", "waits": "waits", "mean": "mean_ns"}
"""What the table can be sorted by; the first is the default."""
PIPE_WIDTH = 160


@dataclass(frozen=True, slots=True)
class DelayRow:
    """The waits whose stacks end in the same function, called by the same: Go's tell no more about the lock.

    Go's mutex profile is of the stacks that unlocked, its block profile of those that waited.
    """

    site: str
    caller: str
    waits: int
    total_ns: int
    mean_ns: int


def delay_rows(profile: Profile) -> list[DelayRow]:
    """The rows of a profile that has `delay`; 0 waits where it doesn't count them."""
    from lockflame.profile import CONTENTIONS, DELAY

    types = profile.sample_types
    delays: list[int] = profile.samples.values[:, types.index(DELAY)].tolist()
    counts: list[int] = [0] * len(delays)
    if CONTENTIONS in types:
        counts = profile.samples.values[:, types.index(CONTENTIONS)].tolist()
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    stacks: list[int] = profile.samples.stack.tolist()
    for stack, delay, count in zip(stacks, delays, counts, strict=True):
        place = _place(profile, stack)
        total, waits = sums.get(place, (0, 0))
        sums[place] = (total + delay, waits + count)
    return [
        DelayRow(site, caller, waits, total, total // waits if waits else 0)
        for (site, caller), (total, waits) in sums.items()
    ]


def show_delays(profile: Profile, sort: str, top: int, as_json: bool) -> None:
    """Prints the first rows of the table, or their JSON objects."""
    from flame.text import amount, counted

    rows = sorted(delay_rows(profile), key=lambda row: -getattr(row, SORTS[sort]))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows[:top]], indent=2))
    else:
        _print_table(rows[:top], sum(row.total_ns for row in rows))
    waited = amount(sum(row.total_ns for row in rows), "nanoseconds")
    say(f"lockflame: {waited} waited, {counted(sum(row.waits for row in rows), 'wait')}; locks are told by their place")


def _print_table(rows: Sequence[DelayRow], whole_ns: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flame.text import amount, percent

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("total", "share", "waits", "mean", "site"):
        table.add_column(heading, justify="left" if heading == "site" else "right", overflow="fold")
    for row in rows:
        site = printable(f"{row.site} < {row.caller}" if row.caller else row.site)
        cells = (
            amount(row.total_ns, "nanoseconds"),
            percent(row.total_ns, whole_ns),
            f"{row.waits:,}",
            amount(row.mean_ns, "nanoseconds") if row.waits else "-",
            site,
        )
        table.add_row(*map(Text, cells))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


def _place(profile: Profile, stack: int) -> tuple[str, str]:
    """The function at the leaf, and who called it."""
    names: list[str] = []
    locations: list[int] = profile.stacks[stack][:2].tolist()
    for location in locations:
        names.extend(profile.functions[line.function].name for line in profile.locations[location].lines)
    return (names or ["[no stack]"])[0], names[1] if len(names) > 1 else ""
