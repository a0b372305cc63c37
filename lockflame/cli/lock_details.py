"""All that is known of one lock: its counts, its addresses, its histogram, its waiters and holders as trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from lockflame.cli.lock_waits import lock_text
from lockflame.cli.terminal import printable

if TYPE_CHECKING:
    from flame.locks.wait_stacks import TreeNode, WeightedStack
    from flame.locks.wait_table import WaitRow, WaitTable
    from lockflame.profile import Lock, WaitEnds

ADDRESSES = 10
"""How many of a class's addresses are shown."""
NODE_NAMES = 12
"""How many functions of a run without branches are shown."""
INDENT_MOST = 40
"""Columns: trees that branch again and again don't leave the screen."""
LEAST_SHARE = 100
"""Branches with less than one part in so many of the weight aren't shown."""


def print_lock(table: WaitTable, row: WaitRow) -> None:
    """Prints all of a row on stdout."""
    for line in _lines(table, row):
        click.echo(line)


def _lines(table: WaitTable, row: WaitRow) -> Iterator[str]:
    from flame.histograms.text import PIPE_WIDTH
    from flame.locks.histogram import histogram_lines

    yield f"{lock_text(row)}: {printable(row.kind)}{', idle' if row.is_idle else ''}"
    yield from _counts(row)
    yield from _addresses([table.profile.locks[index] for index in row.members])
    if any(row.histogram):
        yield "\nwaits by their time:"
        yield from (f"  {line}" for line in histogram_lines(row.histogram, PIPE_WIDTH - 2))
    yield from _tree("waiters, from where the lock is taken to their callers:", table.waiters(row), row.total_ns)
    what = "holders, from where the lock is given back" if row.has_owner else "wakers, from where waiters are woken"
    yield from _tree(f"{what} to their callers:", table.holders(row), row.caused_ns)
    yield ""


def _counts(row: WaitRow) -> Iterator[str]:
    from flame.text import amount, counted, percent
    from lockflame.cli.lock_waits import WOKEN

    def time(time_ns: int) -> str:
        return amount(time_ns, "nanoseconds")

    if row.waits:
        threads = f"{'at least ' if len(row.members) > 1 else ''}{counted(row.threads, 'thread')}"
        by_threads = f" by {threads}" if row.threads else ""
        yield f"  {time(row.total_ns)} waited ({row.share:.1%} of the recording){by_threads}"
        yield (
            f"  {counted(row.waits, 'wait')}: mean {time(row.mean_ns)}, p50 {time(row.p50_ns)}, "
            f"p99 {time(row.p99_ns)}, longest {time(row.max_ns)}"
        )
        yield f"  {_ends(row.ends)}"
    if row.contended_cpu_ns:
        yield f"  {time(row.contended_cpu_ns)} of CPU time where it is contended"
    if row.unreleased_ns:
        yield f"  {time(row.unreleased_ns)} of it for which nobody gave the lock back before the recording ended"
    if row.woken_ns:
        yield f"  {time(row.woken_ns)} of it ({percent(row.woken_ns, row.total_ns)}) {WOKEN}"


def _ends(ends: WaitEnds) -> str:
    counts = (
        (ends.woken, "woken"),
        (ends.timed_out, "timed out"),
        (ends.value_changed, "found the lock changed"),
        (ends.interrupted, "interrupted"),
        (ends.failed, "failed"),
        (ends.still_open, "still waiting at the end"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)


def _addresses(locks: Sequence[Lock]) -> Iterator[str]:
    from flame.text import amount, counted

    if not locks:
        return
    yield "\n  address             PID      waits       total     longest  threads"
    for lock in locks[:ADDRESSES]:
        total, longest = amount(lock.total_ns, "nanoseconds"), amount(lock.max_ns, "nanoseconds")
        symbol = f"  {printable(lock.symbol)}" if lock.symbol else ""
        yield (
            f"  0x{lock.address:<16x} {lock.pid:>7} {lock.ends.total:>10,} {total:>11} {longest:>11} "
            f"{lock.threads:>8,}{symbol}"
        )
    if len(locks) > ADDRESSES:
        yield f"  and {counted(len(locks) - ADDRESSES, 'address').replace('addresss', 'addresses')} more"


def _tree(heading: str, stacks: Sequence[WeightedStack], total_ns: int) -> Iterator[str]:
    """The callers of what the lock's users were in; shares are of `total_ns`."""
    from flame.locks.wait_stacks import callers_tree
    from flame.names import short_name

    if not stacks:
        return
    whole = max(total_ns, sum(stack.weight_ns for stack in stacks))
    yield f"\n{heading}"
    shown = 0
    for node in callers_tree(stacks, -(-whole // LEAST_SHARE), short_name):
        shown += node.weight_ns if node.level == 0 else 0
        yield from _node_lines(node, whole)
    if shown < whole:
        yield _weight(whole - shown, whole) + "in branches of less than 1 %, or not sampled"


def _node_lines(node: TreeNode, whole: int) -> Iterator[str]:
    indent = "  " * min(node.level, INDENT_MOST // 2)
    weight = _weight(node.weight_ns, whole)
    first, *others = node.names[:NODE_NAMES]
    yield f"{weight}{indent}{printable(first)}"
    yield from (f"{' ' * len(weight)}{indent}{printable(name)}" for name in others)
    if len(node.names) > NODE_NAMES:
        yield f"{' ' * len(weight)}{indent}… {len(node.names) - NODE_NAMES:,} more"


def _weight(weight_ns: int, whole: int) -> str:
    from flame.text import amount, percent

    return f"{percent(weight_ns, whole):>9} {amount(weight_ns, 'nanoseconds'):>9}  "
