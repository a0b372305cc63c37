"""The table of the places where a program calls its locks, for a profile of CPU time alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from lockflame.cli.terminal import printable, say
from lockflame.errors import LockflameError

if TYPE_CHECKING:
    from flame.locks.rules import LockRules
    from flame.locks.sites import LockSite
    from lockflame.profile import Profile

SORTS = {
    "contended": "contended_cpu_ns",
    "locking": "locking_cpu_ns",
    "samples": "samples",
    "share": "share",
    "threads": "threads",
    "site": "site",
    "kind": "kind",
}
"""What the table can be sorted by; the first is the default."""
ALL_HEADINGS = ("contended", "locking", "samples", "share", "95 %", "threads", "kind", "site", "at")
NARROW_HEADINGS = ("contended", "locking", "share", "kind", "site", "at")
WIDE = 130
"""Columns of a terminal from which on all headings are shown."""
OTHER_COLUMNS_WIDTH = 100
"""More than the columns before the site can take up."""
SECONDS = (10**9, "s")
MILLISECONDS = (10**6, "ms")


def show_sites(profile: Profile, name: str, rules: LockRules, sort: str, top: int, as_json: bool) -> None:
    """Prints the first rows of the table, or their JSON objects. Raises `LockflameError` without CPU time."""
    from flame.locks.attribution import attribute
    from flame.locks.sites import lock_sites
    from flame.locks.table import json_row, sorted_sites
    from lockflame.profile import CPU

    if CPU not in profile.sample_types:
        raise LockflameError(
            f"cannot show locks of {name}",
            "it has no CPU time",
            "give a CPU profile, or --frequency if it has numbers of samples",
        )
    sites = lock_sites(profile, attribute(profile, rules))
    shown = sorted_sites(sites, SORTS[sort])[:top]
    if as_json:
        click.echo(json.dumps([json_row(site) for site in shown], indent=2))
    else:
        _print_table(shown)
    say(f"lockflame: {_conclusion(profile, sites, len(shown))}")


def _conclusion(profile: Profile, sites: list[LockSite], shown: int) -> str:
    """What the table says, in a sentence."""
    from flame.locks.sites import NEGLIGIBLE_SHARE
    from flame.text import counted, percent
    from lockflame.profile import CPU

    whole = profile.total(CPU)
    if whole <= 0:
        return "the profile has no CPU time"
    if not sites:
        return "no contention to speak of: no sample ends in a lock"
    contended = sum(site.contended_cpu_ns for site in sites)
    calm = "no contention to speak of: " if contended < NEGLIGIBLE_SHARE * whole else ""
    rows = f"; {shown} of {counted(len(sites), 'lock site')} shown" if shown < len(sites) else ""
    return (
        f"{calm}{percent(contended, whole)} of CPU time in contended locks, "
        f"{percent(_locking(sites), whole)} in other lock work{rows}"
    )


def _locking(sites: list[LockSite]) -> int:
    return sum(site.locking_cpu_ns for site in sites)


def _print_table(sites: list[LockSite]) -> None:
    if not sites:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else _pipe_width(sites)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    headings = ALL_HEADINGS if console.width >= WIDE else NARROW_HEADINGS
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        if heading in ("site", "at"):
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=True)
    units = _units(sites)
    for site in sites:
        cells = _cells(site, *units)
        table.add_row(
            *(Text(cells[heading]) for heading in headings), style="bold red" if site.contended_cpu_ns else ""
        )
    console.print(table)


def _units(sites: list[LockSite]) -> tuple[tuple[int, str], tuple[int, str]]:
    """The unit of each column of times, in nanoseconds and by its name: rows are there to be compared."""
    largest = (max(site.contended_cpu_ns for site in sites), max(site.locking_cpu_ns for site in sites))
    contended, locking = (SECONDS if time_ns >= SECONDS[0] else MILLISECONDS for time_ns in largest)
    return contended, locking


def _time(time_ns: int, unit: tuple[int, str]) -> str:
    return f"{time_ns / unit[0]:,.2f} {unit[1]}" if time_ns else "-"


def _cells(site: LockSite, contended_unit: tuple[int, str], locking_unit: tuple[int, str]) -> dict[str, str]:
    """The texts of a row by their headings."""
    return {
        "contended": _time(site.contended_cpu_ns, contended_unit),
        "locking": _time(site.locking_cpu_ns, locking_unit),
        "samples": f"{site.samples:,}",
        "share": f"{site.share:.1%}",
        "95 %": f"{site.share_low:.1%}-{site.share_high:.1%}",
        "threads": f"{site.threads:,}",
        "kind": site.kind,
        "site": printable(_with_caller(site)),
        "at": printable(_place(site)),
    }


def _pipe_width(sites: list[LockSite]) -> int:
    """Wide enough that nothing wraps: who reads a pipe wants a row on a line."""
    longest = max(len(_with_caller(site)) + len(_place(site)) for site in sites)
    return max(WIDE, OTHER_COLUMNS_WIDTH + longest)


def _with_caller(site: LockSite) -> str:
    """The site, and for one in the kernel what the program called."""
    return f"{site.site} < {site.user_caller}" if site.user_caller else site.site


def _place(site: LockSite) -> str:
    """Where a site is. Text of other tools often tells a function's name and its file alone, without an address."""
    from flame.locks.table import place_of

    return place_of(site) if site.address or site.line else site.module or "-"
