"""One finding of `lockflame doctor`: what the machine allows, and what mends a lack."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """How a check ended."""

    OK = "ok"
    LIMITED = "limited"
    """Works, with less to see."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """What was tried, how it ended, and the command that mends it (empty when nothing is to be mended)."""

    name: str
    state: State
    detail: str
    mend: str = ""
