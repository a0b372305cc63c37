"""What was counted of system calls, by call and key, and its histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flame.histograms.histogram import Bucket, ExtraRow, Histogram, linear_buckets, log2_buckets
from lockflame.cli.trace.syscall_keys import KeyNames, error_name
from lockflame.cli.trace.syscall_question import Asked
from sampler.trace.syscalls import Cell

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The cells of one call and one key; keys of the same words are one. `key` is one of them."""

    call: int
    words: Key
    key: bytes
    cells: tuple[Cell, ...]

    @property
    def calls(self) -> int:
        """How many calls that are, counted by the first measure."""
        return sum(cell.count for cell in self.cells if cell.measure == 0)


def grouped(cells: Iterable[Cell], names: KeyNames) -> list[Group]:
    """By call in the order in which they were asked for, then the keys with most calls first."""
    words = {key: names.lines(key) for key in {cell.by for cell in cells}}
    groups: dict[tuple[int, Key], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.call, words[cell.by]), []).append(cell)
    found = [Group(call, key, min(cell.by for cell in mine), tuple(mine)) for (call, key), mine in groups.items()]
    return sorted(found, key=lambda group: (group.call, -group.calls, group.words, group.key))


def limited(groups: Sequence[Group], top: int) -> tuple[list[Group], int, int]:
    """The first `top` groups of each call; how many more there are, and how many calls these have."""
    kept: list[Group] = []
    had: dict[int, int] = {}
    left_out = left_calls = 0
    for group in groups:
        had[group.call] = had.get(group.call, 0) + 1
        if had[group.call] <= top:
            kept.append(group)
        else:
            left_out, left_calls = left_out + 1, left_calls + group.calls
    return kept, left_out, left_calls


def histograms(asked: Asked, groups: Iterable[Group], names: KeyNames) -> list[Histogram]:
    """One for each group and measure. A call without any has one without rows."""
    found: list[Histogram] = []
    groups = list(groups)
    for call in range(len(asked.question.calls)):
        mine = [group for group in groups if group.call == call]
        for group in mine or [Group(call, (), b"", ())]:
            for measure in range(len(asked.names)):
                found.append(_histogram(asked, group, measure, names))
    return found


def _histogram(asked: Asked, group: Group, measure: int, names: KeyNames) -> Histogram:
    question = asked.question
    cells = [cell for cell in group.cells if cell.measure == measure]
    valued = [cell for cell in cells if not cell.error]
    call, name = question.calls[group.call].name, asked.names[measure]
    words = group.words
    first = f"{call} {name}" + (f", {words[0]}" if len(words) == 1 else "")
    linear = question.linear
    counts = _sums(valued, lambda cell: cell.bucket)
    buckets: tuple[Bucket, ...]
    buckets = linear_buckets(counts, linear.least, linear.step, linear.count) if linear else log2_buckets(counts)
    errors = _sums((cell for cell in cells if cell.error), lambda cell: cell.error)
    unit = asked.units[group.call][measure]
    return Histogram(
        title=(first, *(words if len(words) > 1 else ())),
        unit=unit,
        buckets=buckets,
        extras=tuple(ExtraRow(error_name(error), count) for error, count in sorted(errors.items())),
        counted="calls",
        total=sum(cell.total for cell in valued),
        maximum=max((cell.maximum for cell in valued), default=None),
        facts={"call": call, "measure": name, "unit": unit.value, **(names.facts(group.key) if group.cells else {})},
    )


def _sums(cells: Iterable[Cell], key: Callable[[Cell], int]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for cell in cells:
        sums[key(cell)] = sums.get(key(cell), 0) + cell.count
    return sums
