"""What goes to the user's terminal: streams that are there, text that can't do harm."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def open_missing_streams() -> None:
    """Puts /dev/null in place of standard streams that our parent closed (`2>&-`).

    Else the next file to be opened would become one of them. They are closed again for commands we start.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if number == 0 else "w"))


def printable(text: str) -> str:
    """A text as a terminal may get it: names come from outside and could hold escape sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def say(line: str) -> None:
    """Writes a line to stderr. Nobody being there to read it is no reason to fail."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
