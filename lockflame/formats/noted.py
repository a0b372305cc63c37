"""What was read, and what its reader has to tell about it: losses that nobody was told of yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

_Content = TypeVar("_Content")


@dataclass(frozen=True, slots=True, eq=False)
class Noted(Generic[_Content]):
    """`notes` are whole sentences. Those that a file held itself, told when it was recorded, aren't among them."""

    content: _Content
    notes: tuple[str, ...] = ()
