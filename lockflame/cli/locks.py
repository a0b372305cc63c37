"""`lockflame locks`: the table of a program's locks, by the waits for them or by the CPU time that they take."""

from __future__ import annotations

import click

from lockflame.cli import lock_delays, lock_sites, lock_waits
from lockflame.cli.reading import read_told
from lockflame.errors import LockflameError

SORTS = list(dict.fromkeys((*lock_waits.SORTS, *lock_sites.SORTS, *lock_delays.SORTS)))


@click.command("locks")
@click.argument("profile", type=click.Path())
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Rows to show.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    help="Order of the rows. [default: total; contended for a profile without waits]",
)
@click.option("--idle", is_flag=True, help="Show idle waits too: condition variables, joins, sleeps.")
@click.option("--lock", metavar="NAME", help="Only this lock, in full: its name, a part of it, or its address (0x...).")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, one for each row.")
@click.option(
    "--frequency",
    type=click.IntRange(min=1, max=10**6),
    metavar="HZ",
    help="Samples a second of CPU time, for files that hold only numbers of samples.",
)
@click.option("--lock-rules", type=click.Path(), metavar="FILE", help="TOML file of rules that add to ours and win.")
def locks_command(
    profile: str,
    top: int,
    sort: str | None,
    idle: bool,
    lock: str | None,
    as_json: bool,
    frequency: int | None,
    lock_rules: str | None,
) -> None:
    """Show the locks of a PROFILE file, ours or another tool's: who waits for them, and who holds them meanwhile.

    Recorded with --locks, the table tells how long threads waited for each lock. Locks without a name that are taken in
    the same function are one row. Waits for something to do are left out unless --idle is given, from --json too.

    Profiles of waits of other tools, such as Go's, are shown by the place in the code.

    Otherwise it tells where the program calls its locks, and the CPU time that goes there. Contended is time on a
    lock's slow path: somebody else held the lock. Locking is the rest of what locks take. A thread that sleeps while
    it waits uses no CPU: its wait isn't in here.

    \b
    Examples:
      lockflame locks before.pb.gz --top 5
      lockflame locks before.pb.gz --lock LOCK_open
    """
    from flame.locks.rule_file import load_rules
    from lockflame.formats.units import with_cpu_time
    from lockflame.profile import CPU, DELAY

    rules = load_rules(lock_rules)
    (recorded,) = read_told((profile,))
    if frequency is not None:
        recorded = with_cpu_time(recorded, frequency)
    has_waits = bool(recorded.recording.probes or recorded.locks)
    has_delays = not has_waits and CPU not in recorded.sample_types and DELAY in recorded.sample_types
    sorts = lock_waits.SORTS if has_waits else lock_delays.SORTS if has_delays else lock_sites.SORTS
    order = sort or next(iter(sorts))
    if order not in sorts:
        waits = "has lock waits" if has_waits or has_delays else "has no lock waits"
        raise LockflameError(f"cannot sort by {order}", f"the profile {waits}", f"sort by one of {', '.join(sorts)}")
    if has_waits:
        options = lock_waits.Options(profile, order, top, idle, lock, as_json)
        lock_waits.show_waits(recorded, rules, options)
    elif has_delays and lock is None:
        lock_delays.show_delays(recorded, order, top, as_json)
    elif lock is not None:
        raise LockflameError(f"cannot show {lock}", "the profile has no lock waits", "record with --locks")
    else:
        lock_sites.show_sites(recorded, profile, rules, order, top, as_json)
