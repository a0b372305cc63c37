"""`lockflame flame`: draw a flame graph of a profile."""

from __future__ import annotations

import click

from lockflame.cli.output import Output, OutputType, check_writable, write_profile


@click.command("flame")
@click.argument("profile", type=click.Path())
@click.option(
    "-o", "--output", type=OutputType((".svg", ".folded")), required=True, help="File to write: .svg or .folded."
)
@click.option("--title", help="The picture's title. [default: what was recorded]")
@click.option(
    "--full-names", is_flag=True, help="Whole function names in the frames. [default: shortened, whole on hover]"
)
def flame_command(profile: str, output: Output, title: str | None, full_names: bool) -> None:
    """Draw a flame graph of a PROFILE file (.pb.gz).

    \b
    Example:
      lockflame flame before.pb.gz -o before.svg --title "before the fix"
    """
    check_writable(output.path)
    from lockflame.pprof import read

    write_profile(read(profile), output, title, full_names=full_names)
