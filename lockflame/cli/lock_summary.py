"""What `record --locks` says of waits at its end: the locks that cost most, by whom and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockflame.cli.terminal import printable, say

if TYPE_CHECKING:
    from flame.locks.wait_table import WaitRow
    from lockflame.profile import Profile

TOP = 5


def print_wait_summary(profile: Profile, full_names: bool) -> None:
    """Prints the locks most waited for, and what was waited idly; nothing without recorded waits."""
    if not profile.recording.probes and not profile.locks:
        return
    from flame.locks.rule_file import load_rules
    from flame.locks.wait_table import wait_table
    from lockflame.cli.lock_waits import idle_text

    rows = wait_table(profile, load_rules()).rows
    busy = [row for row in rows if row.waits and not row.is_idle]
    if busy:
        say(f"{'waited':>9} {'share':>7} {'waits':>10} {'p99':>9} {'longest':>9}  lock")
        for row in busy[:TOP]:
            _say_lock(row, full_names)
    else:
        say("lockflame: no thread waited for a lock that another held")
    more = f"; {len(busy) - TOP:,} more with: lockflame locks" if len(busy) > TOP else ""
    idle = idle_text(rows)
    say(f"lockflame: idle waits: {idle or 'none'}{more}")
    say("")


def _say_lock(row: WaitRow, full_names: bool) -> None:
    from flame.text import amount, percent
    from lockflame.cli.lock_waits import WOKEN, is_mostly_woken, lock_text, path_text

    total, p99, longest = (amount(value, "nanoseconds") for value in (row.total_ns, row.p99_ns, row.max_ns))
    say(
        f"{total:>9} {row.share:>7.1%} {row.waits:>10,} {p99:>9} {longest:>9}  {lock_text(row)} ({printable(row.kind)})"
    )
    for who, path in (
        ("waits", path_text(row.wait_path, full_names=full_names)),
        ("holds" if row.has_owner else "wakes", path_text(row.hold_path, full_names=full_names)),
    ):
        if path:
            say(f"{who:>21}  {path}")
    if is_mostly_woken(row):
        say(f"{'woken':>21}  {percent(row.woken_ns, row.total_ns)} of it was waited {WOKEN}")
