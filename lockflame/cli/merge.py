"""`lockflame merge`: many profiles made one file."""

from __future__ import annotations

import click

from lockflame.cli.output import Output, OutputType, check_writable, write_file
from lockflame.cli.reading import say_notes
from lockflame.cli.terminal import say


@click.command("merge")
@click.argument("profiles", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=OutputType((".pb.gz",)), required=True, help="File to write: .pb.gz.")
def merge_command(profiles: tuple[str, ...], output: Output) -> None:
    """Make one profile of many PROFILES, ours or other tools'.

    Numbers are added up for each stack, thread, label and lock; locks keep exact totals and histograms. Durations are
    added up too, so that what is said per second is a mean. With a single file of another tool: makes it ours.

    \b
    Examples:
      lockflame merge monday.pb.gz tuesday.pb.gz -o both.pb.gz
      lockflame merge perf.data -o perf.pb.gz
    """
    check_writable(output.path)
    from lockflame.formats.merging_files import merged_files
    from lockflame.pprof import encode_tables

    found = merged_files(profiles)
    tables = found.content
    write_file(output.path, encode_tables(tables))
    say_notes(found.notes)
    from flame.text import counted

    found = f"{counted(len(tables.rows.stacks), 'stack')}, {counted(len(tables.locks), 'lock')}"
    say(f"lockflame: merged {counted(len(profiles), 'profile')}: {found}; wrote {output.path}")
