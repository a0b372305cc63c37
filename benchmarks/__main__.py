"""`python -m benchmarks`: the whole comparison with the peers, or single benchmarks by name.

The whole writes benchmarks/RESULTS.md and its plot; single ones print their tables. All rounds are kept as JSON in
build/bench.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time

import click
from rich.console import Console
from rich.table import Table

from benchmarks import (  # noqa: F401  (fill the list)
    agreement,
    completeness,
    diffing,
    formats,
    lines,
    lock_bounds,
    lock_cost,
    naming,
    picture,
    recording,
    stack_sizes,
    unwinding,
)
from benchmarks.instructions import report as instructions  # noqa: F401
from benchmarks.loads import stop_servers
from benchmarks.registry import BENCHMARKS, Report, Settings
from benchmarks.side_by_side.results import RESULTS_PATH, ROUNDS_PATH, write_report
from benchmarks.side_by_side.rounds_file import save
from benchmarks.side_by_side.session import FULL, QUICK, measure
from tests.support.needs import CannotTest
from tests.support.paths import BUILD

RESULTS = BUILD / "bench"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="A short look: fewer and shorter rounds.")
@click.option("--rounds", type=click.IntRange(1), help="How many rounds.")
@click.option("--list", "only_list", is_flag=True, help="Only print the names.")
def main(names: tuple[str, ...], quick: bool, rounds: int | None, only_list: bool) -> None:
    """Compare with the peers and write the report, or run the named benchmarks.

    Example: python -m benchmarks --quick recording
    """
    if only_list:
        click.echo("\n".join(BENCHMARKS))
        return
    unknown = sorted(set(names) - BENCHMARKS.keys())
    if unknown:
        raise click.BadParameter(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if not names:
        _side_by_side(quick)
        return
    settings = Settings.quick() if quick else Settings.full()
    if rounds is not None:
        settings = Settings(rounds, settings.seconds)
    missed = 0
    try:
        for name in names:
            missed += run(name, settings)
    finally:
        stop_servers()
    sys.exit(1 if missed else 0)


def _side_by_side(quick: bool) -> None:
    """The report of a quick look stays in build/bench."""
    session = measure(QUICK if quick else FULL, click.echo)
    report = RESULTS / "quick.md" if quick else RESULTS_PATH
    rounds = RESULTS / "quick.json" if quick else ROUNDS_PATH
    save(session, rounds)
    write_report(session, report)
    click.echo(f"{report}: {session.duration_s / 60:.1f} minutes; all rounds in {rounds}")


def run(name: str, settings: Settings) -> int:
    """Run one benchmark, show and keep its result; returns how many limits it missed."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    start = time.monotonic()
    try:
        report = BENCHMARKS[name](settings)
    except CannotTest as missing:
        console.print(f"[bold]{name}[/]: left out: {missing}", highlight=False)
        return 0
    console.print(table_of(report))
    for remark in report.remarks:
        console.print(f"  {remark}", highlight=False)
    path = write_json(name, report, settings)
    console.print(f"  {time.monotonic() - start:.0f} s, all rounds in {path}", highlight=False)
    return sum(figure.is_met is False for figure in report.figures)


def table_of(report: Report) -> Table:
    """The medians, the paired ratios, and whether the limits are kept."""
    table = Table(title=report.title, title_justify="left")
    table.add_column("figure")
    for heading in ("lockflame", report.peer_name, "ratio", "limit", ""):
        table.add_column(heading, justify="right")
    for figure in report.figures:
        limit = ""
        if figure.limit is not None:
            sign = "≥" if figure.limit_is_least else "≤"
            limit = f"{sign} {figure.limit:g}{'×' if figure.limit_is_ratio else ''}"
        table.add_row(
            f"{figure.what} [dim]{figure.unit}[/]",
            _number(figure.ours_median),
            _number(figure.peer_median),
            "" if figure.ratio is None else f"{figure.ratio:.2f}×",
            limit,
            {True: "[green]ok[/]", False: "[red]MISSED[/]", None: ""}[figure.is_met],
        )
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def write_json(name: str, report: Report, settings: Settings) -> str:
    """Keep every round, with what it was measured on."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {
        "benchmark": name,
        "title": report.title,
        "peer": report.peer_name,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "figures": [figure.as_record() for figure in report.figures],
        "remarks": list(report.remarks),
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return str(path)


if __name__ == "__main__":
    main()
