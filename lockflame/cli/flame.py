"""`lockflame flame`: draw a flame graph of a profile."""

from __future__ import annotations

import click

from lockflame.cli.output import Look, Output, OutputType, check_writable, write_profile


@click.command("flame")
@click.argument("profile", type=click.Path())
@click.option(
    "-o", "--output", type=OutputType((".svg", ".folded")), required=True, help="File to write: .svg or .folded."
)
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
    title: str | None,
    inverted: bool,
    threads: tuple[str, ...],
    focus: str | None,
    lock_rules: str | None,
    full_names: bool,
) -> None:
    """Draw a flame graph of a PROFILE file (.pb.gz).

    Frames that time in contended locks goes through stand out; the worst lock paths are listed above the graph.
    --inverted, --title and --lock-rules are for pictures.

    \b
    Examples:
      lockflame flame before.pb.gz -o before.svg --title "before the fix"
      lockflame flame before.pb.gz -o commits.svg --focus 'ha_commit_trans'
    """
    check_writable(output.path)
    from flame.filters import focused, only_threads
    from flame.locks.rule_file import load_rules
    from lockflame.pprof import read

    look = Look(title=title, full_names=full_names, inverted=inverted, rules=load_rules(lock_rules))
    recorded = read(profile)
    if threads:
        recorded = only_threads(recorded, threads)
    if focus is not None:
        recorded = focused(recorded, focus)
    write_profile(recorded, output, look)
