"""`python -m benchmarks.instructions`: counts, prints a table, fails where a part takes more than its budget."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from benchmarks.instructions.budgets import Verdict, interpreter, judge, load, save
from benchmarks.instructions.counting import CountingFailed, count_parts
from benchmarks.instructions.parts import NAMES
from benchmarks.instructions.report import TITLE, remarks
from tests.support.needs import CannotTest


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(NAMES))
@click.option("--set-budgets", is_flag=True, help="Make what is counted the budgets of this interpreter.")
def main(parts: tuple[str, ...], set_budgets: bool) -> None:
    """Count the instructions of these parts, or of all.

    Example: python -m benchmarks.instructions decode unwind
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        counted = count_parts(parts or NAMES)
    except (CannotTest, CountingFailed) as problem:
        raise click.ClickException(str(problem)) from problem
    if set_budgets:
        save(counted)
    ours = load().get(interpreter())
    verdicts = judge(counted, ours)
    console.print(table_of(verdicts))
    for remark in remarks(counted, ours):
        console.print(f"  {remark}", highlight=False)
    sys.exit(1 if any(verdict.is_over for verdict in verdicts) else 0)


def table_of(verdicts: list[Verdict]) -> Table:
    """One line for each part."""
    table = Table(title=f"{TITLE}; {interpreter()}", title_justify="left")
    table.add_column("part")
    table.add_column("input")
    for heading in ("in all", "for each", "", "budget", "used"):
        table.add_column(heading, justify="left" if not heading else "right")
    for verdict in verdicts:
        counted = verdict.counted
        table.add_row(
            counted.name,
            counted.words,
            f"{counted.millions:,.1f}",
            f"{counted.instructions_each:,.0f}",
            counted.each,
            "" if verdict.budget is None else f"{verdict.budget:,.1f}",
            "" if verdict.share is None else f"[{'red' if verdict.is_over else 'green'}]{verdict.share:.1%}[/]",
        )
    return table


if __name__ == "__main__":
    main()
