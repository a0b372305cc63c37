"""Profiles read for a command, whose user is told what was lost in reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lockflame.cli.terminal import printable, say

if TYPE_CHECKING:
    from lockflame.profile import Profile

NOTES_MOST = 4
"""Lines. Of many files nobody reads more."""


def read_told(paths: Sequence[str], *, with_negatives: bool = True) -> list[Profile]:
    """The profiles in these files. Tells on stderr what their readers noted; of values below zero `with_negatives`.

    Raises `LockflameError`.
    """
    from lockflame.formats import read_noted
    from lockflame.formats.bounds import NEGATIVE_VALUES

    found = [read_noted(path) for path in paths]
    say_notes(
        f"{path}: {note}"
        for path, noted in zip(paths, found, strict=True)
        for note in noted.notes
        if with_negatives or not note.endswith(NEGATIVE_VALUES)
    )
    return [noted.content for noted in found]


def say_notes(notes: Iterable[str]) -> None:
    """Tells the first few notes on stderr, each once, and how many more there are."""
    distinct = list(dict.fromkeys(notes))
    for note in distinct[:NOTES_MOST]:
        say(f"lockflame: note: {printable(note)}")
    if len(distinct) > NOTES_MOST:
        more = len(distinct) - NOTES_MOST
        say(f"lockflame: {more:,} more note{'s' if more > 1 else ''} on what was read")
