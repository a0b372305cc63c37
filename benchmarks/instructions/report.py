"""The counts as a benchmark among the others, and as a table of their own."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.instructions.budgets import ROOM, Budgets, Verdict, differences, interpreter, judge, load, versions
from benchmarks.instructions.counting import Counted, count_parts
from benchmarks.instructions.parts import NAMES
from benchmarks.registry import Figure, Report, Settings, benchmark

TITLE = "Instructions under callgrind, in millions"
TO_SET = "python -m benchmarks.instructions --set-budgets"


@benchmark("instructions")
def instructions(_: Settings) -> Report:
    """Counted once: they don't depend on what else the machine does."""
    counted = count_parts(NAMES)
    ours = load().get(interpreter())
    figures = [figure(verdict) for verdict in judge(counted, ours)]
    return Report(f"{TITLE}; the limit is the budget and {ROOM - 1:.0%}", "", figures, remarks(counted, ours))


def figure(verdict: Verdict) -> Figure:
    """A part's line among the figures of all benchmarks."""
    counted = verdict.counted
    limit = None if verdict.budget is None else round(verdict.budget * ROOM, 1)
    return Figure(f"{counted.name}: {counted.words}", "million", [counted.millions], (), limit)


def remarks(counted: Sequence[Counted], ours: Budgets | None) -> list[str]:
    """What there is to say on the budgets."""
    if ours is None:
        return [f"there are no budgets for {interpreter()}: {TO_SET}"]
    said: list[str] = []
    other = differences(ours.versions, versions())
    if other:
        said.append(f"the budgets were measured with other versions: {other}")
    for verdict in judge(counted, ours):
        name = verdict.counted.name
        if verdict.budget is None:
            said.append(f"{name}: there is no budget for this input: {TO_SET} {name}")
        elif verdict.is_too_high:
            said.append(f"{name}: its budget is too high, only {verdict.share:.0%} are used: {TO_SET} {name}")
        elif verdict.is_over:
            said.append(f"{name}: {verdict.share:.0%} of its budget are used, {ROOM:.0%} is the most")
    return said
