"""A group of commands that are imported when they are called: `--help` needs none of their parts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Loads `PACKAGE.NAME` for the command NAME, whose function is `NAME_command` there."""

    def __init__(self, *args: Any, package: str, commands_help: Mapping[str, str], **kwargs: Any) -> None:
        """`commands_help` has a line for each command, in the order in which a person meets them."""
        super().__init__(*args, **kwargs)
        self._package = package
        self._commands_help = commands_help

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their help."""
        return list(self._commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._commands_help:
            return None
        return getattr(importlib.import_module(f"{self._package}.{cmd_name}"), f"{cmd_name}_command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._commands_help.items()))
