"""What was found of generated code; apart from the readers of jitdumps and perf maps, which few recordings need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from symbolize.jitdump import JitSymbol

NOTES_MOST = 5


@dataclass(slots=True)
class GeneratedNames:
    """`keys` uint64[n]: the code keys with their generations; `symbols` and `reasons` by such a key and by process."""

    keys: NDArray[np.uint64]
    symbols: dict[int, JitSymbol] = field(default_factory=lambda: {})
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    """Why there is no name, by pid."""
    notes: list[str] = field(default_factory=list[str])
    lines_skipped: int = 0

    def all_notes(self) -> Iterator[str]:
        """What was lost, in whole sentences."""
        yield from self.notes[:NOTES_MOST]
        if len(self.notes) > NOTES_MOST:
            yield f"{len(self.notes) - NOTES_MOST} more notes like these are left out: on other perf maps and jitdumps."
        if self.lines_skipped:
            yield f"{self.lines_skipped} lines of perf maps (/tmp/perf-PID.map) were skipped: not readable."
