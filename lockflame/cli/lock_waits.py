"""The table of the locks that threads waited for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lockflame.cli.terminal import printable, say
from lockflame.errors import LockflameError

if TYPE_CHECKING:
    from flame.locks.rules import LockRules
    from flame.locks.wait_table import WaitRow, WaitTable
    from lockflame.profile import Profile, RecordingInfo

SORTS = {
    "total": "total_ns",
    "waits": "waits",
    "mean": "mean_ns",
    "p50": "p50_ns",
    "p99": "p99_ns",
    "longest": "max_ns",
    "share": "share",
    "threads": "threads",
    "contended": "contended_cpu_ns",
    "addresses": "addresses",
    "kind": "kind",
    "lock": "lock",
}
"""What the table can be sorted by; the first is the default."""
NARROW_HEADINGS = ("total", "share", "waits", "p99", "longest", "kind", "lock")
ALL_HEADINGS = (
    *("total", "share", "waits", "mean", "p50", "p99", "longest", "threads", "CPU", "kind", "lock"),
    *("worst waiting path", "worst holding path"),
)
TEXTS = ("kind", "lock", "worst waiting path", "worst holding path")
WIDE = 160
"""Columns of a terminal from which on all headings are shown."""
OTHER_COLUMNS_WIDTH = 130
"""More than the columns of numbers and kinds can take up."""
NAMES_SHOWN = 5
ADDRESS_LENGTH_MOST = 18
WOKEN = "after it was given back, before the thread that was woken for it ran"
WOKEN_SHARE_LEAST = 0.5
"""From then on it isn't the holder that makes the others wait."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for: the file, one of `SORTS`, how many rows, which, and how."""

    path: str
    sort: str
    top: int
    idle: bool
    lock: str | None
    as_json: bool


def show_waits(profile: Profile, rules: LockRules, options: Options) -> None:
    """Prints the table, one lock in full, or JSON objects. Raises `LockflameError` if the lock isn't there."""
    from flame.locks.wait_table import sorted_rows, wait_table

    address = _address(options.lock)
    table = wait_table(profile, rules, _at(profile, address))
    if options.lock is None:
        chosen = [row for row in table.rows if options.idle or not row.is_idle]
    else:
        chosen = _named(table, options, address)
    shown = sorted_rows(chosen, SORTS[options.sort])[: options.top]
    if options.as_json:
        from flame.locks.wait_json import wait_json

        click.echo(json.dumps([wait_json(table, row) for row in shown], indent=2))
    elif options.lock is not None:
        from lockflame.cli.lock_details import print_lock

        for row in shown:
            print_lock(table, row)
    else:
        _print_table(shown)
    _say_conclusion(table, chosen, len(shown))
    if options.lock is None:
        for note in woken_notes(shown):
            say(f"lockflame: note: {note}")
    if options.lock is None and not options.idle:
        _say_idle(table)
    for note in loss_notes(profile.recording):
        say(f"lockflame: note: {note}")


def path_text(path: Sequence[str], *, full_names: bool = False) -> str:
    """`THD::set_query < Prepared_statement::execute < dispatch_command`, fit for a terminal."""
    from flame.names import short_name

    return " < ".join(printable(name if full_names else short_name(name)) for name in path)


def lock_text(row: WaitRow) -> str:
    """A lock's name, with the number of its addresses where there are several."""
    return printable(row.lock) + (f" ({row.addresses:,} addresses)" if row.addresses > 1 else "")


def idle_text(rows: Sequence[WaitRow]) -> str:
    """How long was waited for idle locks, and for how many; empty without any."""
    from flame.text import amount, counted

    idle = [row for row in rows if row.is_idle]
    total_ns = sum(row.total_ns for row in idle)
    return f"{amount(total_ns, 'nanoseconds')} in {counted(len(idle), 'lock')}" if idle else ""


def is_mostly_woken(row: WaitRow) -> bool:
    """Whether most of what was waited for a lock wasn't for who held it, but for the woken thread to run."""
    return bool(row.woken_ns) and row.woken_ns >= WOKEN_SHARE_LEAST * row.total_ns


def woken_notes(rows: Sequence[WaitRow]) -> list[str]:
    """Which of these locks were waited for because CPUs were short, or slow to wake."""
    from flame.text import percent

    return [
        f"{lock_text(row)}: {percent(row.woken_ns, row.total_ns)} of the time was waited {WOKEN}"
        for row in rows
        if is_mostly_woken(row)
    ]


def loss_notes(info: RecordingInfo) -> list[str]:
    """What is missing from the waits of a recording, in sentences."""
    from flame.text import counted

    notes: list[str] = []
    if info.waits_left_out:
        what = counted(info.waits_left_out, "wait")
        notes.append(f"{what} for locks beyond the kernel's table: in the totals, but not told apart")
    if info.waits_unseen:
        what = counted(info.waits_unseen, "wait")
        notes.append(f"{what} couldn't be followed, and {'is' if info.waits_unseen == 1 else 'are'} in no total")
    return notes


def _address(name: str | None) -> int | None:
    """The address that a name such as 0x7f00 is; None for other names."""
    if name is None or not name.startswith("0x") or len(name) > ADDRESS_LENGTH_MOST:
        return None
    try:
        return int(name, 16)
    except ValueError:
        return None


def _at(profile: Profile, address: int | None) -> frozenset[int]:
    """The locks at an address, in any process."""
    return frozenset(index for index, lock in enumerate(profile.locks) if lock.address == address)


def _named(table: WaitTable, options: Options, address: int | None) -> list[WaitRow]:
    """The rows of this name, or else those whose name it is a part of. Raises `LockflameError` without any."""
    name = options.lock or ""
    locks = table.profile.locks
    matches = [
        [row for row in table.rows if address is not None and any(locks[at].address == address for at in row.members)],
        [row for row in table.rows if row.lock == name],
        [row for row in table.rows if name.lower() in row.lock.lower()],
    ]
    found = next((rows for rows in matches if rows), None)
    if found is None:
        heaviest = ", ".join(printable(row.lock) for row in table.rows[:NAMES_SHOWN]) or "none"
        raise LockflameError(
            f"no lock of {printable(options.path)} is called {printable(name)}",
            f"those most waited for are {heaviest}",
            f"see them all with: lockflame locks {printable(options.path)} --idle --top {max(len(table.rows), 1)}",
        )
    return found


def _print_table(rows: Sequence[WaitRow]) -> None:
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [_cells(row) for row in rows]
    width = None if sys.stdout.isatty() else _pipe_width(cells)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    headings = ALL_HEADINGS if console.width >= WIDE else NARROW_HEADINGS
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        is_text = heading in TEXTS
        table.add_column(
            heading,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not is_text or heading == "kind",
        )
    for row in cells:
        table.add_row(*(Text(row[heading]) for heading in headings))
    console.print(table)


def _cells(row: WaitRow) -> dict[str, str]:
    """The texts of a row by their headings."""
    return {
        "total": f"{row.total_ns / 1e9:,.3f} s" if row.total_ns else "-",
        "share": f"{row.share:.1%}" if row.waits else "-",
        "waits": f"{row.waits:,}",
        "mean": _time(row.mean_ns),
        "p50": _time(row.p50_ns),
        "p99": _time(row.p99_ns),
        "longest": _time(row.max_ns),
        "threads": f"{row.threads:,}" if row.threads else "-",
        "CPU": _time(row.contended_cpu_ns),
        "kind": printable(row.kind),
        "lock": lock_text(row),
        "worst waiting path": path_text(row.wait_path),
        "worst holding path": hold_text(row),
    }


def hold_text(row: WaitRow, *, full_names: bool = False) -> str:
    """The worst holding path, or who woke the waiters of a lock that has no owner; empty where no sample shows it."""
    path = path_text(row.hold_path, full_names=full_names)
    return path if row.has_owner or not path else f"waker: {path}"


def _time(time_ns: int) -> str:
    from flame.text import amount

    return amount(time_ns, "nanoseconds") if time_ns else "-"


def _pipe_width(cells: Sequence[dict[str, str]]) -> int:
    """Wide enough that nothing wraps: who reads a pipe wants a row on a line."""
    from rich.cells import cell_len

    texts = sum(max(cell_len(row[heading]) for row in cells) for heading in TEXTS)
    return max(WIDE, OTHER_COLUMNS_WIDTH + texts)


def _say_conclusion(table: WaitTable, chosen: Sequence[WaitRow], shown: int) -> None:
    from flame.text import amount, counted

    waits = sum(row.waits for row in chosen)
    if not waits:
        say("lockflame: no thread waited for a lock that others hold")
        return
    total_ns = sum(row.total_ns for row in chosen)
    duration = amount(table.profile.recording.duration_ns, "nanoseconds")
    rows = f"; {shown:,} of {counted(len(chosen), 'lock')} shown" if shown < len(chosen) else ""
    say(
        f"lockflame: {amount(total_ns, 'nanoseconds')} waited for locks by all threads together in {duration}, "
        f"{counted(waits, 'wait')}{rows}"
    )


def _say_idle(table: WaitTable) -> None:
    idle = idle_text(table.rows)
    if idle:
        say(f"lockflame: idle waits: {idle}, shown with --idle")
