"""The tables of `lockflame diff` in text: a row for each lock and function, before and after."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockflame.cli.terminal import printable

if TYPE_CHECKING:
    from flame.diff.functions import Amounts, FunctionTable
    from flame.diff.locks import LockTable
    from flame.diff.normalize import Mode

FUNCTION_HEADINGS = ("total", "change", "95 %", "self", "self change", "function")
NARROW_FUNCTION_HEADINGS = ("total", "change", "self", "function")
LOCK_HEADINGS = ("waited", "change", "waits", "mean", "p99", "longest", "contended CPU", "kind", "lock")
NARROW_LOCK_HEADINGS = ("waited", "change", "mean", "p99", "lock")
CPU_LOCK_HEADINGS = ("contended CPU", "CPU change", "95 %", "kind", "lock")
TEXTS = ("kind", "lock", "function")
WIDE = 160
"""Columns of a terminal from which on all headings are shown."""
SURE = " *"
"""Behind what changed by more than noise."""


@dataclass(frozen=True, slots=True)
class Words:
    """How values are written: their unit, and whether they are shares of a total."""

    unit: str
    is_share: bool

    def value(self, value: float) -> str:
        """A value, which is not negative: `357 ms`, `12.5`, `4.1 %`."""
        from flame.text import amount, percent

        if value <= 0:
            return "-"
        if self.is_share:
            return percent(round(value * 1e9), 10**9)
        if self.unit == "count" or value < 1:
            return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        return amount(round(value), self.unit)


def words_for(mode: Mode, unit: str) -> Words:
    """The words for values of a unit that were made comparable in this way."""
    from flame.diff.normalize import Mode

    return Words(unit, mode is Mode.TOTAL)


def print_functions(table: FunctionTable, rows: Sequence[int], words: Words) -> None:
    """Prints these rows, each on a line."""
    cells = [
        {
            "total": _pair(table.total, row, words),
            "change": _percent(table.total, row),
            "95 %": _interval(table.total, row, words),
            "self": _pair(table.own, row, words),
            "self change": _percent(table.own, row),
            "function": _function(table, row),
        }
        for row in rows
    ]
    sure = [bool(table.total.change.stands_out[row] or table.own.change.stands_out[row]) for row in rows]
    _print(cells, sure, FUNCTION_HEADINGS, NARROW_FUNCTION_HEADINGS)


def print_locks(table: LockTable, rows: Sequence[int], mode: Mode, *, has_waits: bool) -> None:
    """Prints these rows, each on a line. Without `has_waits`, contended CPU time alone."""
    from flame.diff.table import lock_stands_out

    times, counts = words_for(mode, "nanoseconds"), words_for(mode, "count")
    cells = [_lock_cells(table, row, times, counts) for row in rows]
    sure = [lock_stands_out(table, row) for row in rows]
    if has_waits:
        _print(cells, sure, LOCK_HEADINGS, NARROW_LOCK_HEADINGS)
    else:
        _print(cells, sure, CPU_LOCK_HEADINGS, CPU_LOCK_HEADINGS)


def _lock_cells(table: LockTable, row: int, times: Words, counts: Words) -> dict[str, str]:
    before, after = table.times_before[row], table.times_after[row]
    one_wait = Words("nanoseconds", False)
    p99 = _arrow(one_wait.value(before.p99_ns), one_wait.value(after.p99_ns))
    return {
        "waited": _pair(table.total, row, times),
        "change": _percent(table.total, row),
        "waits": _pair(table.waits, row, counts),
        "mean": _pair(table.mean, row, one_wait),
        "p99": p99 + (SURE if table.p99_stands_out[row] else ""),
        "longest": _arrow(one_wait.value(before.max_ns), one_wait.value(after.max_ns)),
        "contended CPU": _pair(table.contended_cpu, row, times),
        "CPU change": _percent(table.contended_cpu, row),
        "95 %": _interval(table.contended_cpu, row, times),
        "kind": printable(table.keys[row].kind),
        "lock": printable(table.keys[row].name),
    }


def _print(
    cells: Sequence[dict[str, str]], sure: Sequence[bool], headings: Sequence[str], narrow: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else _pipe_width(cells, headings)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    shown = headings if console.width >= WIDE else narrow
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in shown:
        is_text = heading in TEXTS
        table.add_column(
            heading, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text or heading == "kind"
        )
    for row, is_sure in zip(cells, sure, strict=True):
        table.add_row(*(Text(row[heading]) for heading in shown), style="" if is_sure else "dim")
    console.print(table)


def _pipe_width(cells: Sequence[dict[str, str]], headings: Sequence[str]) -> int:
    """Wide enough that nothing wraps: who reads a pipe wants a row on a line."""
    from rich.cells import cell_len

    widths = (max((cell_len(row[heading]) for row in cells), default=0) for heading in headings)
    return max(WIDE, sum(max(width, len(heading)) + 2 for width, heading in zip(widths, headings, strict=True)))


def _pair(amounts: Amounts, row: int, words: Words) -> str:
    before, after = float(amounts.before.value[row]), float(amounts.after.value[row])
    return _arrow(words.value(before), words.value(after)) + (SURE if amounts.change.stands_out[row] else "")


def _arrow(before: str, after: str) -> str:
    return "-" if before == after == "-" else f"{before} → {after}"


def _percent(amounts: Amounts, row: int) -> str:
    """`+12 %`, `new`, `gone`; `-` where it was never there."""
    from flame.diff.changes import change_text

    before, after = float(amounts.before.value[row]), float(amounts.after.value[row])
    return change_text(before, after) if before or after else "-"


def _interval(amounts: Amounts, row: int, words: Words) -> str:
    """The 95 % interval of the change; `-` where nothing was there to change."""
    ends = (float(amounts.change.low[row]), float(amounts.change.high[row]))
    return " … ".join(_signed(end, words) for end in ends) if any(ends) else "-"


def _signed(change: float, words: Words) -> str:
    return f"{'−' if change < 0 else '+'}{words.value(abs(change))}" if change else "0"


def _function(table: FunctionTable, row: int) -> str:
    from flame.names import short_name
    from lockflame.profile import FrameKind

    key = table.keys[row]
    mark = " [kernel]" if key.kind is FrameKind.KERNEL else ""
    return printable(short_name(key.name)) + mark
