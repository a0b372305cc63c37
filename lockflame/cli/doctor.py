"""`lockflame doctor`: what this kernel and user allow, each lack with the command that mends it."""

from __future__ import annotations

import json
import os

import click

from lockflame.checks import Check, State

STYLES = {State.OK: "green", State.LIMITED: "yellow", State.MISSING: "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects: name, state, detail, mend.")
def doctor_command(as_json: bool) -> None:
    """Tell what this kernel and user allow, and how to mend what is missing.

    \b
    Example:
      lockflame doctor
    """
    from sampler.checks import sampler_checks
    from symbolize.checks import symbol_checks

    checks = [*sampler_checks(), *symbol_checks()]
    if as_json:
        rows = [
            {"name": check.name, "state": check.state.value, "detail": check.detail, "mend": check.mend}
            for check in checks
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    _print_table(checks)


def _print_table(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    use_colour = "NO_COLOR" not in os.environ
    for check in checks:
        word = f"{check.state.value:<8}"
        # click drops the colour where stdout isn't a terminal.
        word = click.style(word, fg=STYLES[check.state]) if use_colour else word
        click.echo(f"{check.name:<{width}}  {word} {check.detail}")
        if check.mend:
            click.echo(f"{'':<{width}}           → {check.mend}")
