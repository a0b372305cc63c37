"""`lockflame flame`: draw a flame graph of a profile."""

from __future__ import annotations

import click

from lockflame.cli.output import PICTURES, Look, Output, OutputType, check_writable, write_profile
from lockflame.cli.reading import read_told

VIEWS = ("cpu", "wait", "holder", "chain")


@click.command("flame")
@click.argument("profile", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=OutputType(PICTURES),
    required=True,
    help=f"File to write; the suffix tells the format: {', '.join(PICTURES)}.",
)
@click.option(
    "--view",
    type=click.Choice(VIEWS),
    help="What to show: CPU time; who waits for locks; who holds those locks; or both, holders on top of waiters. "
    "[default: cpu, wait if there is no CPU time or with --lock or --idle]",
)
@click.option(
    "--lock",
    "locks",
    multiple=True,
    metavar="NAME|0xADDRESS",
    help="Only waits for this lock, or for all with this in their name. Repeatable.",
)
@click.option("--idle", is_flag=True, help="Idle waits too: threads that wait for work or for time to pass.")
@click.option("--title", help="The picture's title. [default: what was recorded]")
@click.option("--inverted", is_flag=True, help="Begin with the stacks merged from the leaf: what uses the time itself.")
@click.option(
    "--thread", "threads", multiple=True, metavar="NAME|TID", help="Only this thread, or all of that name. Repeatable."
)
@click.option("--focus", metavar="REGEX", help="Only stacks with a function that matches this regular expression.")
@click.option(
    "--lock-rules", metavar="FILE", type=click.Path(), help="What else is a lock: rules that win over ours (TOML)."
)
@click.option(
    "--full-names", is_flag=True, help="Whole function names in the frames. [default: shortened, whole on hover]"
)
def flame_command(
    profile: str,
    output: Output,
    view: str | None,
    locks: tuple[str, ...],
    idle: bool,
    title: str | None,
    inverted: bool,
    threads: tuple[str, ...],
    focus: str | None,
    lock_rules: str | None,
    full_names: bool,
) -> None:
    """Draw a flame graph of a PROFILE file, or write it for other tools.

    PROFILE is one of record (.pb.gz), or of others: pprof, folded stacks, the text of perf script, perf.data. Its
    content tells which.

    Of CPU time: frames that time in contended locks goes through stand out; the worst lock paths are listed above the
    graph. Of lock waits, which record --locks takes: wait ends each waiter's path with the lock; holder does the same
    with the paths that released it; chain puts the holder's path, upside down, on top of the lock.
    --inverted is for pictures; .speedscope.json and .firefox.json.gz hold CPU time, waits and holders, unless --view
    is given. --thread is about waiters, in the holder view about holders.

    \b
    Examples:
      lockflame flame before.pb.gz -o before.svg --title "before the fix"
      lockflame flame before.pb.gz -o commits.svg --focus 'ha_commit_trans'
      lockflame flame before.pb.gz -o chain.svg --view chain --lock LOCK_open
    """
    if view == "cpu" and (locks or idle):
        raise click.UsageError("--lock and --idle are about waits: give --view wait, holder or chain, not cpu.")
    check_writable(output.path)
    from flame.locks.rule_file import load_rules

    look = Look(
        title=title,
        full_names=full_names,
        inverted=inverted,
        rules=load_rules(lock_rules),
        view=view or ("wait" if locks or idle else None),
        locks=locks,
        with_idle=idle,
        threads=threads,
        focus=focus,
    )
    (recorded,) = read_told((profile,))
    write_profile(recorded, output, look)
