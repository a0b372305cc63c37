"""What a part of the program is, to the counting: fixed work on an input that code makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Input:
    """An input, made and ready. `work` does the part's whole work once and raises `WrongResult` if it went wrong.

    `count` is how many there are of what instructions are told for each.
    """

    count: int
    work: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the program. `each` is what `Input.count` counts, `words` describe the input of `size`.

    `make(folder, size, seed)` makes an input, with the files that it needs in the folder: the same each time, on any
    machine. Inputs of other seeds have other names and numbers.
    """

    name: str
    each: str
    words: str
    size: int
    make: Callable[[Path, int, int], Input]


class WrongResult(Exception):
    """The work didn't give what the input was made to give: instructions of something else would be counted."""


def check(is_right: bool, what: str) -> None:
    """Raises `WrongResult` unless it is."""
    if not is_right:
        raise WrongResult(what)
