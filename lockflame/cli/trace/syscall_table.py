"""The table of system calls: how many, how many failed and why, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from flame.text import amount, isolated
from lockflame.cli.trace.syscall_keys import KeyNames, error_name
from lockflame.cli.trace.syscall_question import Asked
from lockflame.cli.trace.syscall_results import Group, Key
from sampler.trace.syscalls import Cell

HEADINGS = ("calls", "per s", "failed", "mean", "max", "total")


@dataclass(frozen=True, slots=True)
class TableRow:
    """Calls of one kind; `errors` are rows of those that failed, by their error's name."""

    call: str
    words: Key
    calls: int
    failed: int
    total_ns: int
    max_ns: int
    errors: tuple[tuple[str, TableRow], ...]
    facts: dict[str, object]

    @property
    def mean_ns(self) -> float:
        """The mean time of a call; 0 without any."""
        return self.total_ns / self.calls if self.calls else 0.0


def table_rows(asked: Asked, groups: Iterable[Group], names: KeyNames) -> list[TableRow]:
    """A row for each group, and for each call that wasn't seen."""
    groups = list(groups)
    rows: list[TableRow] = []
    for number, call in enumerate(asked.question.calls):
        mine = [group for group in groups if group.call == number]
        rows += [_row(call.name, group.words, group.cells, names.facts(group.key)) for group in mine]
        if not mine:
            rows.append(_row(call.name, (), (), {}))
    return rows


def row_object(row: TableRow, seconds: float) -> dict[str, object]:
    """A row for JSON."""
    return {
        "call": row.call,
        **row.facts,
        "calls": row.calls,
        "calls_per_second": round(row.calls / seconds, 3) if seconds else None,
        "failed_calls": row.failed,
        "mean_ns": round(row.mean_ns),
        "max_ns": row.max_ns,
        "total_ns": row.total_ns,
        "errors": {
            name: {"calls": part.calls, "max_ns": part.max_ns, "total_ns": part.total_ns} for name, part in row.errors
        },
    }


def _row(call: str, words: Key, cells: Sequence[Cell], facts: dict[str, object]) -> TableRow:
    numbers = sorted({cell.error for cell in cells if cell.error})
    errors = [
        (error_name(number), _row(call, words, [replace(cell, error=0) for cell in cells if cell.error == number], {}))
        for number in numbers
    ]
    return TableRow(
        call=call,
        words=words,
        calls=sum(cell.count for cell in cells),
        failed=sum(cell.count for cell in cells if cell.error),
        total_ns=sum(cell.total for cell in cells),
        max_ns=max((cell.maximum for cell in cells), default=0),
        errors=tuple(errors),
        facts=facts,
    )


def table_lines(rows: Sequence[TableRow], seconds: float) -> Iterator[str]:
    """The table as text. Keys stand beside their call, those of several lines below it; errors below their row."""
    cells = [HEADINGS, *(line for row in rows for line in _cells(row, seconds))]
    labels = ["call", *(label for row in rows for label in _labels(row))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    label_width = max(map(len, labels))
    below = iter([(), *(lines for row in rows for lines in _below(row))])
    for label, values in zip(labels, cells, strict=True):
        yield f"{label:<{label_width}}  " + "  ".join(
            f"{value:>{width}}" for value, width in zip(values, widths, strict=True)
        )
        yield from (f"    {isolated(line)}" for line in next(below))


def _cells(row: TableRow, seconds: float) -> Iterator[tuple[str, ...]]:
    for part in (row, *(error for _, error in row.errors)):
        rate = f"{part.calls / seconds:,.1f}" if seconds else ""
        failed = f"{part.failed:,}" if part is row else ""
        times = [amount(value, "nanoseconds") if part.calls else "" for value in (part.mean_ns, part.max_ns)]
        yield f"{part.calls:,}", rate, failed, *times, amount(part.total_ns, "nanoseconds") if part.calls else ""


def _labels(row: TableRow) -> Iterator[str]:
    yield f"{row.call} {isolated(row.words[0])}" if len(row.words) == 1 else row.call
    yield from (f"  {name}" for name, _ in row.errors)


def _below(row: TableRow) -> Iterator[Sequence[str]]:
    """What stands below each line of a row: a key of several lines below its last."""
    words = row.words if len(row.words) > 1 else ()
    yield from [()] * len(row.errors)
    yield words
