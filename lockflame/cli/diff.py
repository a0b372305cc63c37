"""`lockflame diff`: what changed from one set of recordings to another, by function and by lock."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from lockflame.cli.diff_picture import VIEWS, VIEWS_HINT, draw, picture_of
from lockflame.cli.output import Output, OutputType, check_writable
from lockflame.cli.reading import read_told
from lockflame.cli.terminal import printable, say
from lockflame.errors import LockflameError

if TYPE_CHECKING:
    from flame.diff.functions import FunctionTable
    from flame.diff.locks import LockTable
    from flame.diff.normalize import Mode, Scale
    from flame.diff.sides import Sides
    from flame.diff.verdict import Verdict
    from flame.locks.rules import LockRules
    from lockflame.profile import Profile, SampleType

ABOVE_LIMIT = 3
"""The exit status when `--fail-above` is exceeded."""
SORTS = ("change", "total", "self", "after", "before", "name")
SIDES = ("--before", "--after")
CPU_CHANGE_TOLD = 20
"""Percent. By so much CPU time has to differ for a hint at the other ways to compare."""


class SidesCommand(click.Command):
    """Takes several values after one `--before` or `--after`: all up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses `--before a b` as `--before a --before b`."""
        return super().parse_args(ctx, list(_spread(args)))


class WorkType(click.ParamType[tuple[str, float]]):
    """`BEFORE=120000` or `AFTER=180000`."""

    name = "work"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The side, in lower case, and how much work was done."""
        side, _, text = str(value).partition("=")
        try:
            amount = float(text.replace(",", "").replace("_", ""))
        except ValueError:
            amount = math.nan
        if side.lower() not in ("before", "after") or not 0 < amount < math.inf:
            self.fail(f"{value!r} isn't like BEFORE=120000 or AFTER=180000", param, ctx)
        return side.lower(), amount


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    top: int
    sort: str
    idle: bool
    as_json: bool


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The sides, what makes them comparable, and their tables."""

    sides: Sides
    mode: Mode
    scales: tuple[Scale, Scale]
    functions: FunctionTable
    locks: LockTable


@click.command("diff", cls=SidesCommand)
@click.argument("profiles", nargs=-1, type=click.Path(), metavar="[BEFORE AFTER]")
@click.option(
    "--before", multiple=True, type=click.Path(), metavar="FILE...", help="Recordings of before, one or more."
)
@click.option("--after", multiple=True, type=click.Path(), metavar="FILE...", help="Recordings of after, one or more.")
@click.option(
    "-o", "--output", type=OutputType((".svg",)), help="Draw the difference flame graph as well: an .svg file."
)
@click.option(
    "--view",
    type=click.Choice(VIEWS),
    help="What the picture shows: CPU time; time waited, by who waits for locks; or by who holds them. "
    "[default: cpu, wait if there is no CPU time]",
)
@click.option(
    "--normalize",
    type=click.Choice(("second", "total", "none")),
    help="Compare values per second of recording, as shares of the total, or as they are. "
    "[default: second; total where a file doesn't tell its length]",
)
@click.option(
    "--work",
    "works",
    multiple=True,
    type=WorkType(),
    metavar="SIDE=AMOUNT",
    help="Compare per unit of work: BEFORE=120000 and AFTER=180000 queries, in all recordings of the side together.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Rows of each table."
)
@click.option("--sort", type=click.Choice(SORTS), default="change", show_default=True, help="Order of the rows.")
@click.option("--idle", is_flag=True, help="Show idle waits too: condition variables, joins, sleeps.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, one for each lock and function.")
@click.option(
    "--fail-above",
    type=click.FloatRange(min=0),
    metavar="PERCENT",
    help=f"End with status {ABOVE_LIMIT} if more than so much was added, and that is more than noise.",
)
@click.option(
    "--of", default="cpu", show_default=True, metavar="cpu|wait|lock:NAME", help="What --fail-above is about."
)
@click.option("--title", help="The picture's title. [default: what was recorded]")
@click.option("--lock-rules", type=click.Path(), metavar="FILE", help="TOML file of rules that add to ours and win.")
def diff_command(
    profiles: tuple[str, ...],
    before: tuple[str, ...],
    after: tuple[str, ...],
    output: Output | None,
    view: str | None,
    normalize: str | None,
    works: tuple[tuple[str, float], ...],
    top: int,
    sort: str,
    idle: bool,
    as_json: bool,
    fail_above: float | None,
    of: str,
    title: str | None,
    lock_rules: str | None,
) -> int:
    """Show what changed from BEFORE to AFTER, by lock and by function.

    A star marks what changed by more than noise: of sampling, and between two runs of the same program. Several
    recordings of each side show what that is; a single one has to go by what is usual. Functions and locks are matched
    by name, so the program may have been built anew. "total" is a function with all that it calls.

    \b
    Examples:
      lockflame diff before.pb.gz after.pb.gz -o diff.svg
      lockflame diff before.pb.gz after.pb.gz -o waits.svg --view wait
      lockflame diff --before a1.pb.gz a2.pb.gz a3.pb.gz --after b1.pb.gz b2.pb.gz b3.pb.gz
      lockflame diff before.pb.gz after.pb.gz --work BEFORE=120000 --work AFTER=180000
      lockflame diff before.pb.gz after.pb.gz --fail-above 10 --of lock:LOCK_open
    """
    files = _files(profiles, before, after)
    work = _work(works, normalize)
    options = Options(top, sort, idle, as_json)
    _check_question(of, fail_above, normalize)
    if view is not None and output is None:
        raise click.UsageError("--view is about the picture: give -o diff.svg too.")
    if output is not None:
        check_writable(output.path)
    from flame.locks.rule_file import load_rules

    rules = load_rules(lock_rules)
    # Of values below zero the comparison tells itself, where they matter to it.
    recorded = read_told([*files[0], *files[1]], with_negatives=False)
    sides = recorded[: len(files[0])], recorded[len(files[0]) :]
    compared = _compare(sides, normalize, work, rules)
    asked = None if fail_above is None else _asked(compared, of)
    shown = None if output is None else picture_of(compared.sides, view, rules, with_idle=idle)
    _show(compared, options)
    _say_notes(compared)
    if output is not None and shown is not None:
        draw(shown, compared.sides, compared.mode, compared.scales, output, rules=rules, title=title)
        if view is None and compared.sides.has_waits:
            say(f"lockflame: {VIEWS_HINT}")
    return 0 if fail_above is None or asked is None else _judge(asked, fail_above, compared)


def _spread(args: Sequence[str]) -> Iterator[str]:
    side = ""
    given = 0
    for index, argument in enumerate(args):
        if argument == "--":
            yield from args[index:]
            return
        if argument in SIDES:
            side, given = argument, 0
            yield argument
        elif argument.startswith("-") and argument != "-":
            side = ""
            yield argument
        elif side and given:
            yield from (side, argument)
        else:
            given += 1
            yield argument


def _files(
    profiles: tuple[str, ...], before: tuple[str, ...], after: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if profiles and not before and not after:
        if len(profiles) != 2:
            raise click.UsageError("give two profiles, BEFORE and AFTER; or several by --before and --after.")
        return profiles[:1], profiles[1:]
    if profiles or not before or not after:
        raise click.UsageError("give BEFORE and AFTER, or both --before FILE... and --after FILE...")
    return before, after


def _work(works: tuple[tuple[str, float], ...], normalize: str | None) -> tuple[float, float] | None:
    if not works:
        return None
    if normalize is not None:
        raise click.UsageError("--work says what to compare by: leave --normalize out.")
    sides = dict(works)
    if len(works) != 2 or len(sides) != 2:
        raise click.UsageError("give --work twice: BEFORE=AMOUNT and AFTER=AMOUNT.")
    return sides["before"], sides["after"]


def _check_question(of: str, fail_above: float | None, normalize: str | None) -> None:
    prefix, _, name = of.partition(":")
    if of not in ("cpu", "wait") and not (prefix == "lock" and name):
        raise click.UsageError(f"--of is cpu, wait or lock:NAME, not {of!r}.")
    if fail_above is not None and normalize == "total" and of in ("cpu", "wait"):
        raise click.UsageError(f"with --normalize total, all of {of} is always 100 %: leave it out.")


def _compare(
    recorded: tuple[list[Profile], list[Profile]],
    normalize: str | None,
    work: tuple[float, float] | None,
    rules: LockRules,
) -> Compared:
    from flame.diff.functions import function_table
    from flame.diff.locks import lock_table
    from flame.diff.normalize import Mode, fitting_mode, scales
    from flame.diff.sides import pair_up
    from lockflame.profile import CONTENTIONS, CPU, DELAY

    sides = pair_up(*recorded)
    before, after = sides.before, sides.after
    asked = "work" if work else normalize
    mode = Mode(asked) if asked else fitting_mode(before, after)
    pair = scales(before, after, mode, work, sides.sample_type)
    of_cpu, of_waits, of_counts = pair, pair, pair
    if mode is Mode.TOTAL:
        of_cpu, of_waits, of_counts = (_shares(sides, kind) for kind in (CPU, DELAY, CONTENTIONS))
    return Compared(
        sides,
        mode,
        pair,
        function_table(before, after, pair, rules, sides.sample_type, kernel=sides.kernel_frames),
        lock_table(before, after, of_waits, of_cpu, rules, of_counts),
    )


def _shares(sides: Sides, sample_type: SampleType) -> tuple[Scale, Scale]:
    from flame.diff.normalize import Mode, scales

    return scales(sides.before, sides.after, Mode.TOTAL, sample_type=sample_type)


def _show(compared: Compared, options: Options) -> None:
    from flame.diff.table import Basis, function_json, function_order, lock_json, lock_order

    table, locks = compared.functions, compared.locks
    has_waits = compared.sides.has_waits
    functions_shown = function_order(table, options.sort)[: options.top]
    chosen = [row for row in lock_order(locks, options.sort) if options.idle or not locks.is_idle[row]]
    locks_shown = chosen[: options.top]
    if options.as_json:
        basis = Basis(compared.mode, compared.sides.sample_type.unit)
        rows = [lock_json(locks, row, basis, has_waits=has_waits) for row in locks_shown]
        rows += [function_json(table, row, basis) for row in functions_shown]
        click.echo(json.dumps(rows, indent=2))
        return
    from lockflame.cli.diff_tables import print_functions, print_locks, words_for

    words = compared.scales[0].words
    if locks_shown:
        click.echo(f"Locks{f', {words}' if words else ''}")
        print_locks(locks, locks_shown, compared.mode, has_waits=has_waits)
        click.echo()
    if functions_shown:
        what = "CPU time" if compared.sides.sample_type.name == "cpu" else printable(compared.sides.sample_type.name)
        click.echo(f"Functions: {what}{f' {words}' if words else ''}")
        print_functions(table, functions_shown, words_for(compared.mode, compared.sides.sample_type.unit))


def _say_notes(compared: Compared) -> None:
    """What was compared, what came out of it on the whole, and what the reader has to know."""
    from flame.diff import verdict
    from flame.diff.normalize import Mode

    sides = compared.sides
    for note in sides.notes:
        say(f"lockflame: note: {printable(note)}")
    whole = verdict.whole(compared.functions, sides.sample_type)
    said: list[str] = []
    if compared.mode is not Mode.TOTAL:
        said.append(_verdict_text(whole, compared, sides.sample_type.unit))
        if sides.has_waits:
            said.append(_verdict_text(verdict.waits(compared.locks), compared, "nanoseconds"))
    say(f"lockflame: {'; '.join([*said, _count_text(compared)])}")
    few = len(sides.before) == 1 or len(sides.after) == 1
    differs = whole.percent is None or abs(whole.percent) > CPU_CHANGE_TOLD
    if compared.mode is Mode.SECOND and few and differs and whole.is_sure:
        say(
            "lockflame: note: the totals differ: if it isn't the program that changed but its load, or others took the "
            "CPUs, compare by --work or --normalize total, or several recordings of each side"
        )


def _count_text(compared: Compared) -> str:
    import numpy as np

    from flame.diff.table import lock_stands_out
    from flame.text import counted

    table, locks = compared.functions, compared.locks
    functions = int(np.count_nonzero(table.total.change.stands_out | table.own.change.stands_out))
    changed = [row for row in range(len(locks)) if not locks.is_idle[row] and lock_stands_out(locks, row)]
    of_locks = locks.is_idle.count(False)
    all_functions, all_locks = counted(len(table), "function"), counted(of_locks, "lock")
    if not functions and not changed:
        return f"nothing changed by more than noise in {all_functions} and {all_locks}"
    return f"{functions:,} of {all_functions} and {len(changed):,} of {all_locks} changed by more than noise (*)"


def _verdict_text(verdict: Verdict, compared: Compared, unit: str) -> str:
    from flame.diff.changes import change_text
    from lockflame.cli.diff_tables import words_for

    words = words_for(compared.mode, unit)
    values = f"{words.value(verdict.before)} → {words.value(verdict.after)}"
    noise = "more than noise" if verdict.is_sure else "within the noise"
    scale = f" {compared.scales[0].words}" if compared.scales[0].words else ""
    return f"{verdict.what} {values}{scale}, {change_text(verdict.before, verdict.after)}, {noise}"


def _judge(asked: Verdict, percent: float, compared: Compared) -> int:
    """The exit status that --fail-above asks for, and why."""
    text = printable(_verdict_text(asked, compared, "nanoseconds"))
    if asked.grew_above(percent):
        say(f"lockflame: above the limit of {percent:g} %: {text}")
        return ABOVE_LIMIT
    say(f"lockflame: not above the limit of {percent:g} %: {text}")
    return 0


def _asked(compared: Compared, of: str) -> Verdict:
    """What `--of` is about. Raises `LockflameError` where the profiles don't have it."""
    from flame.diff import verdict
    from lockflame.profile import CPU

    sides = compared.sides
    if of == "cpu":
        if sides.sample_type != CPU:
            raise LockflameError("cannot tell how CPU time changed", "not all files have it", "leave --fail-above out")
        return verdict.whole(compared.functions, CPU)
    if of == "wait":
        if not sides.has_waits:
            raise LockflameError("cannot tell how waits changed", "not all files have them", "record with --locks")
        return verdict.waits(compared.locks)
    return verdict.lock(compared.locks, of.removeprefix(verdict.LOCK_PREFIX), has_waits=sides.has_waits)
